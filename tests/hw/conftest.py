"""Component tests on several engines: the same test, Amaranth's simulator, the Verilog and netlists of FPGAs."""

import gc
import warnings
from traceback import clear_frames

import pytest
from amaranth.hdl import UnusedElaboratable
from support.engines import need
from support.netlists import NETLISTS, need_simulator, verilog_of

from zeropoint_sim import bench
from zeropoint_sim.verilog_bench import NotInVerilog

#: Tests of which the first variant runs on Verilog in the fast suite, one of each part that decides values or
#: addresses; in the long suite the first variants of all tests do.
FAST = {
    "test_mac",
    "test_bits_are_those_of_the_golden_model",
    "test_every_accumulation",
    "test_activations_at_any_address",
    "test_addresses_and_counts",
    "test_runs_to_the_end_and_again",
}

#: Tests of which the first variant runs on the netlists of each kind of FPGA in the long suite: of each component one
#: that goes through its values.
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

#: Variants of a test that run on Verilog in the long suite. Each builds a simulator of its own.
VARIANTS = 1


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
    kept, left, seen = [], [], {}
    for item in items:
        callspec = getattr(item, "callspec", None)
        name = callspec.params.get("engine", "amaranth") if callspec and "engine" in item.fixturenames else "amaranth"
        if name == "amaranth" or config.getoption("--engine"):
            kept.append(item)
            continue
        key = (item.path, item.originalname, name)
        seen[key] = seen.get(key, 0) + 1
        if seen[key] > VARIANTS or (name in NETLISTS and item.originalname not in NETLIST):
            left.append(item)
            continue
        if name in NETLISTS or item.originalname not in FAST:
            item.add_marker(pytest.mark.slow)
        kept.append(item)
    config.hook.pytest_deselected(items=left)
    items[:] = kept
