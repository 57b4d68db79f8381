"""What goes wrong is said in one line, with status 2, and leaves no part of a result behind."""

import os
import re
import signal

import numpy as np
import pytest
from support.command_line import process, zeropoint_command
from support.engines import need
from support.files import float_network, images, write_array, write_float_network, write_model
from support.random_models import random_model

from zeropoint.cli import failures

#: Executed before a command: no file may grow beyond this size, as on a disk that is full half-way.
SMALL_DISK = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, ({0}, {0}))"


@pytest.fixture
def model(tmp_path):
    """A quantized network and inputs for it, in files."""
    return write_model(tmp_path, random_model(3))


@pytest.fixture
def quantize(tmp_path):
    """Run ``zeropoint quantize`` on a float network, with the calibration data and options given."""
    network = write_float_network(tmp_path)
    calibration = write_array(tmp_path, "calibration.npy", images())

    def run(*options, network=network, calibration=calibration, output=tmp_path / "m.zp", scheme="affine-int8"):
        arguments = ["--scheme", scheme, "--calibration", calibration, "-o", output, *options]
        return zeropoint_command("quantize", network, *arguments)

    return run


def names(folder):
    return sorted(entry.name for entry in folder.iterdir())


@pytest.mark.parametrize("share", [0, 0.3, 0.9])
def test_truncated_onnx(tmp_path, quantize, share):
    whole = float_network().SerializeToString()
    path = tmp_path / "cut.onnx"
    path.write_bytes(whole[: int(share * len(whole))])
    before = names(tmp_path)
    assert "cut.onnx" in quantize(network=path).error()
    assert names(tmp_path) == before


def test_weights_that_are_not_numbers(tmp_path, quantize):
    model = float_network()
    weights = np.frombuffer(model.graph.initializer[0].raw_data, np.float32).copy()
    weights[5] = np.nan
    model.graph.initializer[0].raw_data = weights.tobytes()
    path = tmp_path / "nan.onnx"
    path.write_bytes(model.SerializeToString())
    error = quantize(network=path).error()
    assert "nan.onnx" in error
    assert "'w1'" in error
    assert "NaN" in error


def test_missing_files(tmp_path, model, quantize):
    absent = tmp_path / "absent.npy"
    for outcome in (
        quantize(calibration=absent),
        zeropoint_command("golden", model[0], "--input", absent, "--output", tmp_path / "y.npy"),
    ):
        assert outcome.error() == f"zeropoint: error: cannot read '{absent}': No such file or directory"
    assert "absent.zp" in zeropoint_command("info", tmp_path / "absent.zp").error()
    assert "absent.onnx" in quantize(network=tmp_path / "absent.onnx").error()
    assert "absent.toml" in zeropoint_command("compile", model[0], "--config", "absent.toml", "-o", "p").error()


def test_wrong_calibration_data(tmp_path, quantize):
    x = write_array(tmp_path, "c.npy", images()[:, :, :4])
    assert "expected floats of shape (N, 3, 8, 8) or (N, 8, 8, 3)" in quantize(calibration=x).error()
    x = write_array(tmp_path, "c.npy", np.zeros((4, 3, 8, 8), np.uint8))
    assert "found uint8" in quantize(calibration=x).error()
    quantize("--calibration-scale", 0.01, calibration=x).done()
    assert "must be finite and positive" in quantize("--calibration-scale", "nan", calibration=x).error()
    x = write_array(tmp_path, "c.npy", np.full((4, 3, 8, 8), np.inf))
    assert "NaN or infinite" in quantize(calibration=x).error()
    x.write_bytes(x.read_bytes()[:-1])
    assert "it is damaged" in quantize(calibration=x).error()


def test_wrong_inputs(tmp_path, model):
    path, _ = model
    for array, words in (
        (np.zeros((2, 1, 1, 1), np.float32), "found float32 of shape (2, 1, 1, 1)"),
        (np.array(["a"]), "expected"),
        (np.zeros(0, np.float32), "expected"),
    ):
        x = write_array(tmp_path, "wrong.npy", array)
        outcome = zeropoint_command("golden", path, "--input", x, "--output", tmp_path / "y.npy")
        assert words in outcome.error()
        assert "wrong.npy" in outcome.error()
    assert not (tmp_path / "y.npy").exists()


def test_damaged_models(tmp_path, model):
    path, _ = model
    data = path.read_bytes()
    for damaged in (data[:100], data[:-1], data[:-5] + bytes([data[-5] ^ 1]) + data[-4:], b"", b"\xff" * 64):
        path.write_bytes(damaged)
        assert f"cannot load '{path}'" in zeropoint_command("info", path).error()


def test_models_of_the_wrong_kind(tmp_path, model, quantize):
    error = zeropoint_command("compile", write_float_network(tmp_path), "-o", tmp_path / "p").error()
    assert "is a float network; quantize it first: zeropoint quantize" in error
    assert "is quantized already" in quantize(network=model[0]).error()
    (tmp_path / "m.txt").write_text("?")
    assert "cannot tell what" in zeropoint_command("info", tmp_path / "m.txt").error()


@pytest.mark.parametrize(
    ("option", "size", "unit"),
    [("activation-bytes", 16, 8), ("weight-bytes", 128, 64), ("parameter-channels", 16, 8), ("program-words", 29, 1)],
)
def test_networks_too_large_for_a_memory(tmp_path, model, option, size, unit):
    output = tmp_path / "program"
    arguments = ["compile", model[0], "-o", output]
    error = zeropoint_command(*arguments, f"--{option}", size).error()
    needed, excess, available, advised = re.fullmatch(
        r"zeropoint: error: '.*' does not fit: its \w+ memory must have (\d+) \w+.*, (\d+) more than the (\d+) of this "
        rf"configuration; --{option} (\d+) makes room there, --trim wherever it is short",
        error,
    ).groups()
    assert int(available) == size
    assert int(needed) == size + int(excess)
    assert int(advised) == -(-int(needed) // unit) * unit
    assert names(tmp_path) == ["model.zp", "x.npy"]
    # With as much as the message says it does fit, and with less it does not.
    zeropoint_command(*arguments, f"--{option}", int(advised) - unit).error()
    zeropoint_command(*arguments, f"--{option}", advised).done()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--lanes", 3], "lanes must be a power of two from 1 to 64, not 3"),
        (["--lanes", "many"], "Invalid value for '--lanes'"),
        (["--pe", "shft"], "'shft' is not one of"),
        (["--requantizers", 16], "requantizers must be a power of two up to min(lanes, columns) = 8, not 16"),
        (["--accumulator-width", 40], "accumulator_width must be 20 to 32, not 40"),
        (["--colour", "red"], "No such option"),
    ],
)
def test_wrong_configurations(tmp_path, model, options, words):
    assert words in zeropoint_command("compile", model[0], "-o", tmp_path / "program", *options).error()
    assert names(tmp_path) == ["model.zp", "x.npy"]


def test_wrong_configuration_files(tmp_path, model):
    file = tmp_path / "c.toml"
    for text, words in (
        ("lanes = ", "it is not TOML"),
        ("width = 8", "'width' is unknown"),
        ("lanes = 3", "lanes must be a power of two"),
        ("lanes = '8'", "lanes must be an integer"),
    ):
        file.write_text(text)
        error = zeropoint_command("compile", model[0], "-o", tmp_path / "program", "--config", file).error()
        assert words in error
        assert "c.toml" in error


def test_wrong_usage(tmp_path, quantize):
    assert "No such command 'compiel'" in zeropoint_command("compiel").error()
    assert zeropoint_command("info").error().endswith("Missing argument 'MODEL'; see zeropoint info --help")
    assert (
        "Missing option '--calibration'" in zeropoint_command("quantize", "a.onnx", "--scheme", "affine-int8").error()
    )
    assert "--percentile goes with --method percentile" in quantize("--percentile", 99).error()
    assert "percentile must be above 50" in quantize("--method", "percentile", "--percentile", 20).error()
    assert "must be a .zp file" in quantize(output=tmp_path / "m.onnx").error()
    assert "is not one of" in quantize(scheme="int4").error()


def test_output_that_cannot_be_written(tmp_path, model, quantize):
    path, x = model
    nowhere = tmp_path / "no" / "where"
    golden = ["golden", path, "--input", x, "--output"]
    for outcome in (
        zeropoint_command("compile", path, "-o", nowhere),
        zeropoint_command(*golden, nowhere),
        zeropoint_command(*golden, tmp_path / "y.npy", "--tensors", nowhere),
        quantize(output=nowhere.with_suffix(".zp")),
    ):
        assert f"there is no folder '{nowhere.parent}'; make it first" in outcome.error()
    assert "it is a folder; name a file" in zeropoint_command(*golden, tmp_path).error()
    assert "there is a file of this name" in zeropoint_command("compile", path, "-o", x).error()
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "notes").touch()
    assert "holds files that Zeropoint did not write" in zeropoint_command("compile", path, "-o", mine).error()
    assert not (tmp_path / "y.npy").exists()


def test_results_in_the_place_of_others_or_of_what_is_read(tmp_path, model, quantize):
    path, x = model
    y = tmp_path / "y.npy"
    golden = ["golden", path, "--input", x, "--output"]
    simulate = ["simulate", path, "--input", x, "--output"]
    file = tmp_path / "c.toml"
    file.touch()
    program = tmp_path / "program"
    zeropoint_command("compile", path, "-o", program).done()
    before = {name: name.read_bytes() for name in (path, x, file)}
    for outcome in (
        zeropoint_command(*golden, y, "--tensors", tmp_path / "." / "y.npy"),
        zeropoint_command(*simulate, y, "--json", y),
        zeropoint_command(*simulate, y, "--json", tmp_path / "r", "--trace", y),
    ):
        assert f"cannot write '{y}' twice, for two results" in outcome.error()
    for outcome, read in (
        (zeropoint_command(*golden, x), x),
        (zeropoint_command(*golden, path), path),
        (zeropoint_command(*golden, y, "--tensors", x), x),
        (zeropoint_command(*simulate, x), x),
        (zeropoint_command(*simulate, y, "--json", path), path),
        (zeropoint_command(*simulate, file, "--config", file), file),
        (zeropoint_command(*simulate, y, "--program", program, "--trace", program / "program.mem"), program),
        (zeropoint_command("export", tmp_path / "m.onnx", "-o", tmp_path / "m.onnx"), tmp_path / "m.onnx"),
        (zeropoint_command("compile", path, "-o", tmp_path), path),
        (quantize(output=path, network=path), path),
        (quantize(output=path, calibration=path), path),
    ):
        assert f"that would change '{read}', which is read; name another place" in outcome.error()
    assert {name: name.read_bytes() for name in before} == before
    assert not y.exists()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_output_folder_without_permission(tmp_path, model):
    folder = tmp_path / "locked"
    folder.mkdir(mode=0o500)
    assert "Permission denied" in zeropoint_command("compile", model[0], "-o", folder / "p").error()


def test_full_disk(tmp_path):
    folder = tmp_path / "out"
    folder.mkdir()
    model, x = write_model(tmp_path, random_model(3), count=400)
    golden = ("golden", model, "--input", x, "--output", folder / "y.npy")
    outcome = process(*golden, before=SMALL_DISK.format(200))
    assert outcome.error() == f"zeropoint: error: cannot write '{folder / 'y.npy'}': File too large"
    outcome = process(*golden, "--tensors", folder / "t.npz", before=SMALL_DISK.format(4000))
    assert outcome.error() == f"zeropoint: error: cannot write '{folder / 't.npz'}': File too large"
    outcome = process("compile", model, "-o", folder / "program", before=SMALL_DISK.format(500))
    assert outcome.error() == f"zeropoint: error: cannot write '{folder / 'program'}': File too large"
    assert names(folder) == []


def test_a_full_disk_leaves_none_of_several_results(tmp_path):
    model, x = write_model(tmp_path, random_model(3), count=1)
    folder = tmp_path / "out"
    folder.mkdir()
    # The disk is full from where this function is called.
    before = (
        "import resource, {0}\n"
        "real = {0}.{1}\n"
        "def full(*given, **named):\n"
        "    resource.setrlimit(resource.RLIMIT_FSIZE, (500, 500))\n"
        "    return real(*given, **named)\n"
        "{0}.{1} = full\n"
    )
    json, trace = folder / "r.json", folder / "t.vcd"
    report, start = ("zeropoint.cli.simulation", "save_report"), ("zeropoint_sim.simulate", "simulate")
    for engine, options, where, words in (
        ("amaranth", ["--json", json], report, f"'{json}': File too large"),
        ("amaranth", ["--trace", trace], start, f"the waveform file '{trace}': File too large"),
        ("cxxrtl", ["--trace", trace], start, f"the waveform file '{trace}': is the disk full?"),
    ):
        arguments = ["--engine", need(engine), "--lanes", 2, "--columns", 2, "--output", folder / "y.npy", *options]
        # Built before the disk is full.
        zeropoint_command("simulate", model, "--input", x, *arguments).done()
        for path in folder.iterdir():
            path.unlink()
        outcome = process("simulate", model, "--input", x, *arguments, before=before.format(*where))
        assert outcome.error() == f"zeropoint: error: cannot write {words}"
        assert names(folder) == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_leaves_no_temporary_files(tmp_path, number):
    model, x = write_model(tmp_path, random_model(3), count=1)
    before = names(tmp_path)
    # Between writing the results and renaming them. SIGINT may be ignored where the tests run in the background.
    script = "import os, signal, time\nsignal.signal(signal.SIGINT, signal.default_int_handler)\n"
    script += f"os.replace = lambda *names: os.kill(os.getpid(), {number:d}) or time.sleep(9)"
    files = ["--output", tmp_path / "y.npy", "--tensors", tmp_path / "t.npz"]
    outcome = process("golden", model, "--input", x, *files, before=script)
    assert (outcome.status, outcome.stdout, outcome.stderr) == (128 + number, "", "")
    assert names(tmp_path) == before


@pytest.mark.parametrize("encoding", ["ascii", "utf-8"])
def test_what_the_terminal_cannot_show_is_no_reason_to_fail(model, encoding):
    environment = {"PYTHONIOENCODING": encoding, "PYTHONUTF8": "0"}
    outcome = process("info", model[0], environment=environment).done()
    assert "input: input, " in outcome.stdout
    missing = process("info", "µ→模型.zp", environment=environment)
    assert ".zp': No such file or directory" in missing.error()


def test_full_disk_keeps_the_earlier_file(tmp_path):
    model, x = write_model(tmp_path, random_model(3), count=400)
    output = tmp_path / "y.npy"
    output.write_bytes(b"earlier")
    process("golden", model, "--input", x, "--output", output, before=SMALL_DISK.format(200)).error()
    assert output.read_bytes() == b"earlier"


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no /dev/full here")
def test_full_standard_output(model):
    before = "import os; os.dup2(os.open('/dev/full', os.O_WRONLY), 1)"
    outcome = process("info", model[0], before=before)
    assert outcome.error() == "zeropoint: error: cannot write the standard output: No space left on device"


def test_nobody_reads_the_output(model):
    before = "import os; reader, writer = os.pipe(); os.close(reader); os.dup2(writer, 1)"
    for arguments in (["info", model[0]], ["info", "--json", model[0]], ["--help"]):
        outcome = process(*arguments, before=before)
        assert (outcome.status, outcome.stderr) == (141, "")


def test_interruption(model, monkeypatch):
    def interrupt(path):
        raise KeyboardInterrupt

    monkeypatch.setattr("zeropoint.importers.load", interrupt)
    outcome = zeropoint_command("info", model[0])
    assert (outcome.status, outcome.stdout, outcome.stderr) == (130, "", "")


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (MemoryError(), "there is not enough memory"),
        (PermissionError(13, "Permission denied", "a\nb"), "cannot read or write 'a b': Permission denied"),
        (OSError("odd"), "cannot read or write a stream: odd"),
    ],
)
def test_errors_of_the_system(model, monkeypatch, error, words):
    def fail(path):
        raise error

    monkeypatch.setattr("zeropoint.importers.load", fail)
    assert words in zeropoint_command("info", model[0]).error()


def test_defects_are_called_so(model, monkeypatch):
    def fail(path):
        raise KeyError("\x1b[31mred\nline")

    monkeypatch.setattr("zeropoint.importers.load", fail)
    monkeypatch.delenv(failures.DEBUG, raising=False)
    outcome = zeropoint_command("info", model[0])
    assert (outcome.status, outcome.stdout) == (70, "")
    assert len(outcome.stderr.splitlines()) == 1
    assert outcome.stderr.startswith("zeropoint: internal error: KeyError: ")
    assert "ZEROPOINT_DEBUG=1" in outcome.stderr
    monkeypatch.setenv(failures.DEBUG, "1")
    outcome = zeropoint_command("info", model[0])
    assert outcome.status == 70
    assert "Traceback (most recent call last)" in outcome.stderr


def test_messages_cannot_control_the_terminal(tmp_path):
    path = tmp_path / "\x1b[2Jboo\n.zp"
    assert "\\x1b[2Jboo" in zeropoint_command("info", path).error()
