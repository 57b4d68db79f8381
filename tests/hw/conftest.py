"""Component tests on several engines: the same test, Amaranth's simulator, the Verilog and netlists of FPGAs."""

import gc
import warnings
from pathlib import Path
from traceback import clear_frames

import pytest
from amaranth.hdl import UnusedElaboratable
from support.engines import need
from support.netlists import NETLISTS, need_simulator, verilog_of

from zeropoint_sim import bench
from zeropoint_sim.verilog_bench import NotInVerilog

HERE = Path(__file__).parent

#: Tests of which one variant runs on Verilog in the fast suite, one of each part that decides values or addresses; in
#: the long suite one variant of every test does. It is the one in the middle of the list of variants, since the first
#: ones are often the least: one lane, one term, no bit.
FAST = {
    "test_mac",
    "test_bits_are_those_of_the_golden_model",
    "test_every_accumulation",
    "test_activations_at_any_address",
    "test_addresses_and_counts",
    "test_runs_to_the_end_and_again",
}

#: Tests of which one variant, from the middle of the list as well, runs on the netlists of each kind of FPGA in the
#: long suite: of each component one that goes through its values.
NETLIST = {
    "test_mac",
    "test_fold",
    "test_powers_of_two",
    "test_minifloat",
    "test_products",
    "test_pairs_of_products",
    "test_every_accumulation",
    "test_bits_are_those_of_the_golden_model",
    "test_results_are_exact",
    "test_the_gateware_gives_the_definitions_bits",
    "test_sums_are_those_of_the_reference_kernel",
    "test_every_result_is_looked_up_in_the_instructions_table",
    "test_greatest_of_each_window",
    "test_activations_at_any_address",
    "test_activations_with_one_port",
    "test_a_bank_with_one_port",
    "test_words_written_in_pieces",
    "test_addresses_and_counts",
    "test_random_instructions",
    "test_runs_to_the_end_and_again",
    "test_beats_and_parameter_addresses",
    "test_words_of_earlier_positions",
    "test_parts_add_up_and_each_instruction_is_logged",
    "test_what_is_sent_is_heard_even_if_rates_differ_a_little",
    "test_frames_are_received_and_damaged_ones_dropped",
    "test_what_was_done_is_not_done_again",
    "test_bytes_from_anywhere",
    "test_a_group_that_fits_is_fetched_once",
    "test_sums",
}


@pytest.fixture(autouse=True)
def engine(request):
    """The engine on which the benches of a test run."""
    name = getattr(request, "param", "amaranth")
    chosen = (need_simulator(), verilog_of(name)) if name in NETLISTS else (need(name),)
    with bench.engine(*chosen):
        yield name


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_call(item):
    """Skip a test that looks into a component, where only its ports are there."""
    outcome = yield
    if outcome.excinfo is None or not issubclass(outcome.excinfo[0], NotInVerilog):
        return
    reason = f"on Verilog: {outcome.excinfo[1]}"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UnusedElaboratable)
        # What the test made and nobody used goes now, without Amaranth's complaint, and not during another test.
        clear_frames(outcome.excinfo[2])
        outcome.force_exception(pytest.skip.Exception(reason))
        gc.collect()


def pytest_generate_tests(metafunc):
    if "run_bench" not in vars(metafunc.module) and "products" not in vars(metafunc.module):
        return
    asked = metafunc.config.getoption("--engine")
    engines = [asked] if asked else ["amaranth", "verilator", *NETLISTS]
    metafunc.parametrize("engine", engines, indirect=True)


def pytest_collection_modifyitems(config, items):
    if config.getoption("--engine"):
        return
    variants = {}
    for item in items:
        # Tests of other folders are here too, some with an engine of their own.
        if item.path.parent == HERE and hasattr(item, "callspec"):
            name = item.callspec.params.get("engine", "amaranth")
            if name != "amaranth":
                variants.setdefault((item.parent, item.originalname, name), []).append(item)
    left = set()
    for (_, test, name), of_test in variants.items():
        middle = of_test[len(of_test) // 2]
        left |= set(of_test) if name in NETLISTS and test not in NETLIST else set(of_test) - {middle}
        if name in NETLISTS or test not in FAST:
            middle.add_marker(pytest.mark.slow)
    config.hook.pytest_deselected(items=[item for item in items if item in left])
    items[:] = [item for item in items if item not in left]
