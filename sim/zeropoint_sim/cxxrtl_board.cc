// The host's end of a serial line, around a board's top level that Yosys wrote as C++ with write_cxxrtl.
//
// Called through ctypes; every loop over clock cycles and bits is here. The macros that it is compiled with are those of
// cxxrtl_wrapper.cc.

#include "cxxrtl_slices.h"

#include DESIGN

#include <deque>

namespace {

using Design = cxxrtl_design::p_design;

// Cycles without work after which a board rests: longer than anything takes from one of its parts to the next.
constexpr unsigned QUIET = 64;

class Board {
public:
    uint64_t cycles = 0;

    // Bits take `period` cycles on the line, which the board may see otherwise.
    explicit Board(double period) : period(period) {}

    void reset() {
        design.p_rst.template set<bool>(true);
        for (int i = 0; i < 4; i++) cycle();
        design.p_rst.template set<bool>(false);
    }

    void put(const uint8_t *bytes, uint64_t count) { to_board.insert(to_board.end(), bytes, bytes + count); }

    uint64_t take(uint8_t *bytes, uint64_t limit) {
        uint64_t count = 0;
        for (; count < limit && !from_board.empty(); from_board.pop_front()) bytes[count++] = from_board.front();
        return count;
    }

    // Simulates up to `limit` cycles, fewer if the board comes to rest and the line, too; returns whether they do.
    bool run(uint64_t limit) {
        for (uint64_t i = 0; i < limit; i++) {
            cycle();
            bool working = sending || listening || !to_board.empty() || value_of(design.p_active);
            quiet = working ? 0 : quiet + 1;
            if (quiet >= QUIET) return true;
        }
        return false;
    }

private:
    Design design;
    double period;
    std::deque<uint8_t> to_board, from_board;
    unsigned quiet = 0;
    // The byte under way in each direction with its start and stop bit, and the cycles since its start bit began.
    bool sending = false, listening = false;
    unsigned sent = 0, heard = 0, bit = 0;
    double sending_for = 0, listening_for = 0;

    void cycle() {
        drive();
#if SETTLE
        design.p_clk.template set<bool>(false);
        design.step();
        listen();
        design.p_clk.template set<bool>(true);
        design.step();
#else
        // As in cxxrtl_wrapper.cc: a rising edge in each evaluation leaves out the falling ones.
        design.prev_p_clk.template set<bool>(false);
        design.p_clk.template set<bool>(true);
        design.eval();
        listen();
        design.commit();
#endif
        cycles++;
    }

    void drive() {
        if (sending && sending_for >= 10 * period) {
            sending = false;
            sending_for -= 10 * period;
        }
        if (!sending && !to_board.empty()) {
            if (quiet) sending_for = 0;
            sending = true;
            sent = 0x200u | to_board.front() << 1;
            to_board.pop_front();
        }
        design.p_rx.template set<bool>(!sending || (sent >> unsigned(sending_for / period) & 1));
        if (sending) sending_for += 1; else sending_for = 0;
    }

    void listen() {
        bool level = value_of(design.p_tx);
        if (!listening) {
            if (level) return;
            listening = true;
            heard = bit = 0;
            listening_for = 0;
        }
        // Each bit is looked at in its middle.
        if (listening_for >= (bit + 0.5) * period) {
            heard |= unsigned(level) << bit;
            if (++bit == 10) {
                listening = false;
                if (level && !(heard & 1)) from_board.push_back(heard >> 1 & 0xff);
            }
        }
        listening_for += 1;
    }

    // An output is a wire where a register drives it alone.
    template<size_t Bits>
    static bool value_of(const cxxrtl::value<Bits> &port) { return port.template get<uint32_t>() != 0; }
    template<size_t Bits>
    static bool value_of(const cxxrtl::wire<Bits> &port) { return port.template get<uint32_t>() != 0; }
};

}  // namespace

extern "C" {

void *zeropoint_board_create(double period) { return new Board(period); }

void zeropoint_board_destroy(void *board) { delete static_cast<Board *>(board); }

uint64_t zeropoint_board_cycles(void *board) { return static_cast<Board *>(board)->cycles; }

void zeropoint_board_reset(void *board) { static_cast<Board *>(board)->reset(); }

void zeropoint_board_put(void *board, const uint8_t *bytes, uint64_t count) {
    static_cast<Board *>(board)->put(bytes, count);
}

uint64_t zeropoint_board_take(void *board, uint8_t *bytes, uint64_t limit) {
    return static_cast<Board *>(board)->take(bytes, limit);
}

int zeropoint_board_run(void *board, uint64_t limit) { return static_cast<Board *>(board)->run(limit); }
}
