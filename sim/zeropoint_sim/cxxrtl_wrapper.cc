// The host's end of the bus, around a design that Yosys wrote as C++ with write_cxxrtl.
//
// Called through ctypes; every loop over clock cycles is here. The macros that it is compiled with:
// DESIGN: the file that Yosys wrote, in quotes; SETTLE: 1 if the design has combinational feedback, else 0;
// TRACE: 1 if it can record waveforms, else 0; ANSWER_LIMIT: cycles without an answer after which a read is given up.

#include "cxxrtl_slices.h"

#include DESIGN

#include <cstdio>
#if TRACE
#include <cxxrtl/cxxrtl_vcd.h>
#endif

namespace {

using Design = cxxrtl_design::p_design;

struct Answer {
    bool valid;
    uint32_t data;
};

class Simulation {
public:
    Design design;
    uint64_t cycles = 0;

    explicit Simulation(FILE *trace) : trace_file(trace) {
#if TRACE
        cxxrtl::debug_items items;
        design.debug_info(&items, /*scopes=*/nullptr, "design ");
        vcd.timescale(1, "ns");
        vcd.add_without_memories(items);
#endif
    }

    ~Simulation() {
        flush(0);
        if (trace_file) fclose(trace_file);
    }

    void write(uint32_t address, uint32_t stride, const uint32_t *words, uint64_t count) {
        design.p_host____write.template set<bool>(true);
        for (uint64_t i = 0; i < count; i++, address += stride) {
            design.p_host____address.template set<uint32_t>(address);
            design.p_host____write__data.template set<uint32_t>(words[i]);
            cycle();
        }
        design.p_host____write.template set<bool>(false);
    }

    // Returns how many words were answered.
    uint64_t read(uint32_t address, uint32_t stride, uint32_t *words, uint64_t count) {
        uint64_t answered = 0;
        design.p_host____read.template set<bool>(true);
        for (uint64_t i = 0; i < count; i++, address += stride) {
            design.p_host____address.template set<uint32_t>(address);
            Answer answer = cycle();
            if (answer.valid) words[answered++] = answer.data;
        }
        design.p_host____read.template set<bool>(false);
        for (unsigned waited = 0; answered < count && waited < ANSWER_LIMIT; waited++) {
            Answer answer = cycle();
            if (!answer.valid) continue;
            words[answered++] = answer.data;
            waited = unsigned(-1);
        }
        return answered;
    }

    // Reads a register in every cycle until it is 0, but for `limit` cycles at most, and returns whether it was 0.
    // What is under way when the limit is reached stays so, and the next call carries on.
    bool wait(uint32_t address, uint64_t limit) {
        bool idle = false;
        design.p_host____address.template set<uint32_t>(address);
        design.p_host____read.template set<bool>(true);
        for (uint64_t i = 0; i < limit && !idle; i++) {
            under_way++;
            Answer answer = cycle();
            under_way -= answer.valid;
            idle = answer.valid && answer.data == 0;
        }
        design.p_host____read.template set<bool>(false);
        return idle;
    }

    // Takes the answers that wait() has left under way.
    void drain() {
        for (unsigned waited = 0; under_way && waited < ANSWER_LIMIT; waited++) {
            if (!cycle().valid) continue;
            under_way--;
            waited = unsigned(-1);
        }
        under_way = 0;
    }

    void trace(bool on) { tracing = on && trace_file; }

    // Writes recorded waveforms to the file once there are more than `limit` bytes; returns false if that fails.
    bool flush(size_t limit) {
#if TRACE
        if (trace_file && vcd.buffer.size() > limit) {
            failed |= fwrite(vcd.buffer.data(), 1, vcd.buffer.size(), trace_file) != vcd.buffer.size();
            failed |= limit == 0 && fflush(trace_file) != 0;
            vcd.buffer.clear();
        }
#endif
        (void)limit;
        return !failed;
    }

private:
    FILE *trace_file;
    bool tracing = false;
    bool failed = false;
    uint64_t under_way = 0;
#if TRACE
    cxxrtl::vcd_writer vcd;
#endif

    // Simulates one clock cycle, and returns what the bus held at its rising edge.
    Answer cycle() {
        Answer answer;
#if SETTLE || TRACE
        design.p_clk.template set<bool>(false);
        design.step();
        answer = outputs();
        record(2 * cycles);
        design.p_clk.template set<bool>(true);
        design.step();
        record(2 * cycles + 1);
#else
        // Without combinational feedback one evaluation computes every signal from registers and inputs, in order, and
        // from them the registers' next values: a rising edge in each evaluation leaves out the falling ones.
        design.prev_p_clk.template set<bool>(false);
        design.p_clk.template set<bool>(true);
        design.eval();
        answer = outputs();
        design.commit();
#endif
        cycles++;
        return answer;
    }

    Answer outputs() const {
        return {value_of(design.p_host____read__valid) != 0, value_of(design.p_host____read__data)};
    }

    // An output is a wire where a register drives it alone.
    template<size_t Bits>
    static uint32_t value_of(const cxxrtl::value<Bits> &port) { return port.template get<uint32_t>(); }
    template<size_t Bits>
    static uint32_t value_of(const cxxrtl::wire<Bits> &port) { return port.template get<uint32_t>(); }

    void record(uint64_t time) {
#if TRACE
        if (!tracing) return;
        vcd.sample(500 * time);
        flush(1 << 20);
#endif
        (void)time;
    }
};

}  // namespace

extern "C" {

// Returns null if the trace file cannot be opened. An empty name stands for no file.
void *zeropoint_create(const char *trace_name) {
    FILE *trace = nullptr;
    if (*trace_name && !(trace = fopen(trace_name, "wb"))) return nullptr;
    return new Simulation(trace);
}

void zeropoint_destroy(void *simulation) { delete static_cast<Simulation *>(simulation); }

uint64_t zeropoint_cycles(void *simulation) { return static_cast<Simulation *>(simulation)->cycles; }

void zeropoint_write(void *simulation, uint32_t address, uint32_t stride, const uint32_t *words, uint64_t count) {
    static_cast<Simulation *>(simulation)->write(address, stride, words, count);
}

uint64_t zeropoint_read(void *simulation, uint32_t address, uint32_t stride, uint32_t *words, uint64_t count) {
    return static_cast<Simulation *>(simulation)->read(address, stride, words, count);
}

int zeropoint_wait(void *simulation, uint32_t address, uint64_t limit) {
    return static_cast<Simulation *>(simulation)->wait(address, limit);
}

void zeropoint_drain(void *simulation) { static_cast<Simulation *>(simulation)->drain(); }

void zeropoint_trace(void *simulation, int on) { static_cast<Simulation *>(simulation)->trace(on); }

// Returns 0 if the trace file could not be written.
int zeropoint_flush(void *simulation) { return static_cast<Simulation *>(simulation)->flush(0); }
}
