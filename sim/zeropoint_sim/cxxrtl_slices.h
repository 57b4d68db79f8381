// Slices and concatenations of wide values, for CXXRTL's runtime.
//
// The runtime takes a slice by shifting the whole value in a loop, and concatenates by shifting and extending in further
// loops, which it trusts the compiler to reduce to what is needed. For the words of an accelerator (900 bits of
// instruction, 2,048 of weights) compilers give up on that. These partial specializations of its expression templates
// touch only the chunks that matter. They make an 8x8 array run five times as fast, and a 16x16 array compile in a
// fifth of the time.

#ifndef ZEROPOINT_CXXRTL_SLICES_H
#define ZEROPOINT_CXXRTL_SLICES_H

#include <cxxrtl/cxxrtl.h>

namespace cxxrtl {

constexpr size_t chunk_bits = chunk_traits<chunk_t>::bits;

// Returns bits Start to Stop of a value.
template<size_t Stop, size_t Start, size_t Bits>
CXXRTL_ALWAYS_INLINE
value<Stop - Start + 1> extract(const value<Bits> &whole) {
    constexpr size_t first = Start / chunk_bits, last = Stop / chunk_bits, shift = Start % chunk_bits;
    value<Stop - Start + 1> part;
    for (size_t n = 0; n < part.chunks; n++) {
        part.data[n] = whole.data[first + n] >> shift;
        if (shift != 0 && first + n < last)
            part.data[n] |= whole.data[first + n + 1] << (chunk_bits - shift) % chunk_bits;
    }
    part.data[part.chunks - 1] &= part.msb_mask;
    return part;
}

// Replaces bits Start to Stop of a value.
template<size_t Stop, size_t Start, size_t Bits>
CXXRTL_ALWAYS_INLINE
void replace(value<Bits> &whole, const value<Stop - Start + 1> &part) {
    constexpr size_t first = Start / chunk_bits, last = Stop / chunk_bits, shift = Start % chunk_bits;
    constexpr chunk_t all = chunk_traits<chunk_t>::mask;
    for (size_t n = first; n <= last; n++) {
        chunk_t mask = (n == first ? all << shift : all) & (n == last ? all >> (chunk_bits - 1 - Stop % chunk_bits) : all);
        chunk_t chunk = n - first < part.chunks ? part.data[n - first] << shift : 0;
        if (shift != 0 && n != first)
            chunk |= part.data[n - first - 1] >> (chunk_bits - shift) % chunk_bits;
        whole.data[n] = (whole.data[n] & ~mask) | (chunk & mask);
    }
}

// Puts an expression into bits from Start on, which are 0.
template<size_t Start, size_t Bits, size_t PartBits>
CXXRTL_ALWAYS_INLINE
void deposit(value<Bits> &whole, const value<PartBits> &part) {
    constexpr size_t first = Start / chunk_bits, last = (Start + PartBits - 1) / chunk_bits, shift = Start % chunk_bits;
    for (size_t n = 0; n < part.chunks; n++) {
        whole.data[first + n] |= part.data[n] << shift;
        if (shift != 0 && first + n + 1 <= last)
            whole.data[first + n + 1] |= part.data[n] >> (chunk_bits - shift) % chunk_bits;
    }
}

template<size_t Start, size_t Bits, class T, size_t SliceStop, size_t SliceStart>
CXXRTL_ALWAYS_INLINE
void deposit(value<Bits> &whole, const slice_expr<T, SliceStop, SliceStart> &part) {
    deposit<Start>(whole, part.val());
}

template<size_t Start, size_t Bits, class T, class U>
CXXRTL_ALWAYS_INLINE
void deposit(value<Bits> &whole, const concat_expr<T, U> &part) {
    deposit<Start>(whole, part.ls_expr);
    deposit<Start + U::bits>(whole, part.ms_expr);
}

// A slice of a value.
template<size_t Bits, size_t Stop, size_t Start>
struct slice_expr<const value<Bits>, Stop, Start> : public expr_base<slice_expr<const value<Bits>, Stop, Start>> {
    static constexpr size_t bits = Stop - Start + 1;

    const value<Bits> &expr;

    slice_expr(const value<Bits> &expr) : expr(expr) {}
    slice_expr(const slice_expr &) = delete;

    CXXRTL_ALWAYS_INLINE
    value<bits> val() const { return extract<Stop, Start>(expr); }

    CXXRTL_ALWAYS_INLINE
    operator value<bits>() const { return val(); }
};

template<size_t Bits, size_t Stop, size_t Start>
struct slice_expr<value<Bits>, Stop, Start> : public expr_base<slice_expr<value<Bits>, Stop, Start>> {
    static constexpr size_t bits = Stop - Start + 1;

    value<Bits> &expr;

    slice_expr(value<Bits> &expr) : expr(expr) {}
    slice_expr(const slice_expr &) = delete;

    CXXRTL_ALWAYS_INLINE
    value<bits> val() const { return extract<Stop, Start>(expr); }

    CXXRTL_ALWAYS_INLINE
    operator value<bits>() const { return val(); }

    CXXRTL_ALWAYS_INLINE
    slice_expr &operator=(const value<bits> &part) {
        replace<Stop, Start>(expr, part);
        return *this;
    }
};

// A concatenation of three parts or more; the runtime's own makes a whole value for each part.
template<class Expr, class T, class U>
struct chain_expr : public expr_base<Expr> {
    static constexpr size_t bits = T::bits + U::bits;

    T &ms_expr;
    U &ls_expr;

    chain_expr(T &ms_expr, U &ls_expr) : ms_expr(ms_expr), ls_expr(ls_expr) {}
    chain_expr(const chain_expr &) = delete;

    CXXRTL_ALWAYS_INLINE
    value<bits> val() const {
        value<bits> whole;
        deposit<0>(whole, ls_expr);
        deposit<U::bits>(whole, ms_expr);
        return whole;
    }

    CXXRTL_ALWAYS_INLINE
    operator value<bits>() const { return val(); }
};

template<class T, class U, class V>
struct concat_expr<const concat_expr<T, U>, V>
    : public chain_expr<concat_expr<const concat_expr<T, U>, V>, const concat_expr<T, U>, V> {
    using chain_expr<concat_expr<const concat_expr<T, U>, V>, const concat_expr<T, U>, V>::chain_expr;
};

template<class T, class U, class V>
struct concat_expr<concat_expr<T, U>, V>
    : public chain_expr<concat_expr<concat_expr<T, U>, V>, concat_expr<T, U>, V> {
    using base = chain_expr<concat_expr<concat_expr<T, U>, V>, concat_expr<T, U>, V>;
    using base::base;

    CXXRTL_ALWAYS_INLINE
    concat_expr &operator=(const value<base::bits> &whole) {
        this->ms_expr = extract<base::bits - 1, V::bits>(whole);
        this->ls_expr = extract<V::bits - 1, 0>(whole);
        return *this;
    }
};

}  // namespace cxxrtl

#endif
