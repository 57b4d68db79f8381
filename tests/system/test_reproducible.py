"""The same input and options give the same bytes, wherever and whenever; results name no path of the machine."""

import json

import pytest
from support.command_line import process
from support.engines import need
from support.files import images, write_array, write_float_network

#: What a report says of the machine that simulated.
OF_THE_MACHINE = ("wall_seconds", "cycles_per_second")


def results(folder, hash_seed):
    """Run the whole path in a folder of its own, in processes of their own, and return every file written there."""
    folder.mkdir()
    inputs = folder / "inputs"
    inputs.mkdir()
    network = write_float_network(inputs)
    x = write_array(inputs, "x.npy", images(3, seed=5))
    calibration = write_array(inputs, "calibration.npy", images())
    output = folder / "results"
    output.mkdir()
    environment = {"PYTHONHASHSEED": str(hash_seed)}
    quantized = output / "m.zp"
    for command in (
        ["quantize", network, "--scheme", "affine-int8", "--calibration", calibration, "-o", quantized],
        ["compile", quantized, "-o", output / "program"],
        ["golden", quantized, "--input", x, "--output", output / "y.npy", "--tensors", output / "t.npz"],
        ["simulate", quantized, "--input", x, "--output", output / "s.npy", "--json", output / "r.json"],
    ):
        process(*command, environment=environment, folder=inputs).done()
    files = {str(path.relative_to(output)): path.read_bytes() for path in output.rglob("*") if path.is_file()}
    report = json.loads(files["r.json"])
    for key in OF_THE_MACHINE:
        assert report.pop(key) > 0
    files["r.json"] = json.dumps(report).encode()
    return files


@pytest.fixture(scope="module")
def two_runs(tmp_path_factory):
    need("cxxrtl")
    parent = tmp_path_factory.mktemp("reproducible")
    return [results(parent / name, seed) for seed, name in enumerate(("first", "second-elsewhere"))]


def test_the_same_bytes(two_runs):
    first, second = two_runs
    assert first.keys() == second.keys()
    assert len(first) > 15
    assert [name for name in first if first[name] != second[name]] == []
    assert first["y.npy"] == first["s.npy"]


def test_no_paths(two_runs):
    for name, data in two_runs[0].items():
        for word in (b"/home", b"/root", b"/tmp", b"reproducible", b"results/", b"inputs/"):
            assert word not in data, name
