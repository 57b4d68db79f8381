// An accelerator with many faults in it, of which the input port "fault" says which one is there; 0 for none.

#include "cxxrtl_wrapper.cc"

extern "C" void zeropoint_select(void *simulation, uint32_t number) {
    static_cast<Simulation *>(simulation)->design.p_fault.set<uint32_t>(number);
}
