"""``zeropoint demo``: the whole path on the network and images that ship with Zeropoint."""

from contextlib import ExitStack
from importlib import resources
from pathlib import Path

import click
import numpy as np
import numpy.typing as npt

from zeropoint import arrays, float_reference, golden, importers
from zeropoint.cli import simulation, terminal
from zeropoint.cli.failures import Status
from zeropoint.cli.options import PATH, Configured, config_options, engine_option, limit_option
from zeropoint.compiler import storage
from zeropoint.files import atomic_folder
from zeropoint.model import FloatModel, zp_file
from zeropoint.quantize import Scheme, quantize

#: What one step of the images' bytes is worth.
PIXEL = 1 / 255

Floats = npt.NDArray[np.float32]

#: Images that Amaranth's simulator gets unless told otherwise.
FEW = 2


@click.command("demo")
@engine_option
@limit_option
@click.option(
    "--scheme",
    type=click.Choice([scheme.value for scheme in Scheme]),
    default=Scheme.AFFINE_INT8.value,
    show_default=True,
    help="How to quantize.",
)
@click.option(
    "-o",
    "--output",
    type=PATH,
    help="A folder to keep the results in: network, program, inputs, outputs and report.",
)
@config_options
@click.pass_context
def command(
    ctx: click.Context, engine: str, limit: int | None, scheme: str, output: Path | None, configured: Configured
) -> None:
    """Quantize, compile and simulate a small network for Fashion-MNIST, and compare every output bit for bit.

    Needs no argument and no network connection. Without a C++ compiler it runs on two images in Amaranth's simulator.
    """
    with ExitStack() as stack:
        # The folder is made first: whatever is wrong with it should show before minutes have passed.
        folder = stack.enter_context(atomic_folder(output)) if output else None
        different = _demo(engine, limit, Scheme(scheme), configured, folder)
    if output is not None:
        terminal.note(f"wrote the results to {output}")
    if different:
        ctx.exit(Status.DIFFERENT)


def demo_files() -> tuple[FloatModel, Floats, Floats, npt.NDArray[np.uint8]]:
    """Return the network that ships with Zeropoint, images to calibrate it, test images, and their classes."""
    with ExitStack() as stack:
        data = resources.files("zeropoint").joinpath("demo")
        names = ("fashion_mnist.onnx", "calibration.npy", "images.npy", "labels.npy")
        paths = [stack.enter_context(resources.as_file(data.joinpath(name))) for name in names]
        network = importers.load(paths[0])
        assert isinstance(network, FloatModel)
        calibration, images = (arrays.load_real(path, network, PIXEL) for path in paths[1:3])
        return network, calibration, images, np.load(paths[3], allow_pickle=False)


def _demo(engine: str, limit: int | None, scheme: Scheme, configured: Configured, folder: Path | None) -> bool:
    """Run the demo, print about it, fill ``folder``, and return whether hardware and golden model differ."""
    network, calibration, images, labels = demo_files()
    with terminal.progress("Calibrating") as update:
        model = quantize(network, calibration, scheme=scheme, progress=update)
    x = model.tensor(model.input).quantize(images)
    with terminal.progress("Running the golden model", len(x)) as update:
        expected = golden.run(model, x, update)
    terminal.say(f"{model.name}: {len(images)} test images of Fashion-MNIST, {len(calibration)} for calibration")
    terminal.say(f"accuracy of the float network: {_accuracy(float_reference.run_output(network, images), labels)}")
    terminal.say(f"accuracy quantized, {scheme.value}: {_accuracy(expected, labels)}")

    count = _count(engine, limit, len(x))
    result = simulation.run(model, x[:count], configured(model), engine=engine)
    simulation.print_result(result)
    if folder is not None:
        zp_file.save(model, folder / "fashion_mnist.zp")
        storage.save(result.program, folder / "program")
        np.save(folder / "inputs.npy", x[:count])
        arrays.save_output(folder / "outputs.npy", model, result.outputs)
        simulation.save_report(folder / "report.json", result)
    return result.mismatches > 0


def _count(engine: str, limit: int | None, images: int) -> int:
    """Return how many images to simulate: fewer, saying so, where only the slow simulator is there."""
    from zeropoint_sim.simulate import choose_engine

    chosen, _ = choose_engine(engine)
    if chosen == "amaranth" and limit is None:
        terminal.note(f"simulating {FEW} of {images} images in this slow simulator; --limit asks for more")
        return FEW
    return limit or images


def _accuracy(outputs: npt.NDArray[np.generic], labels: npt.NDArray[np.generic]) -> str:
    right = int(np.count_nonzero(outputs.argmax(axis=-1) == labels))
    return f"{right}/{len(labels)} ({terminal.percent(right / len(labels))})"
