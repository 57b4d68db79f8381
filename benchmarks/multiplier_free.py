"""What weights that are powers of two save: int8 MACs in DSP blocks and in logic beside shift PEs of 5, 4 and 3 bits.

    python benchmarks/multiplier_free.py [--part pes] [--kind shift-5] [--no-place] [--plot plot.svg]

Without options it measures what the README shows, in an hour or two.

Three parts. "accelerators": the demo network for Fashion-MNIST, trained by INQ for the shift PEs, on accelerators that
`zeropoint compile --trim` makes for it, on an LFE5U-85F. Accuracy is the golden model's on the 10,000 test images if
they are there, otherwise on the 100 that ship with Zeropoint. Cycles are counted by simulated hardware (CXXRTL), whose
outputs are compared with the golden model's. "pes": single PEs with an accumulator of 24 bits, on an LFE5U-85F and an
iCE40UP5K; their clocks are reached between shift registers. "arrays": arrays of these PEs between shift registers, and
how many PEs would fill an LFE5U-85F, by the sites that half an array takes.

LUT on ECP5 is LUT4 + 2 × CCU2C, without those that hold distributed RAM. Fmax is nextpnr's, the median of some seeds.
"""

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import click
import measure
import numpy as np
import numpy.typing as npt
from comparison_plot import plot
from single_pe import AccumulatingPE, InferredMac

from zeropoint import golden, importers
from zeropoint.cli import terminal
from zeropoint.cli.demo import PIXEL, demo_files
from zeropoint.cli.failures import exit_status
from zeropoint.compiler.configure import configure
from zeropoint.compiler.trim import trim
from zeropoint.errors import ZeropointError
from zeropoint.figures import check_figure
from zeropoint.files import atomic_write
from zeropoint.model import FloatModel, QuantizedModel
from zeropoint.quantize import Scheme, quantize
from zeropoint_boards.devices import DEVICES, Device
from zeropoint_boards.harness import Harness
from zeropoint_boards.synthesis import synthesize
from zeropoint_hw.accelerator import Accelerator
from zeropoint_hw.array import Array
from zeropoint_hw.config import AcceleratorConfig

EXAMPLE = Path(__file__).resolve().parents[1] / "examples" / "fashion_mnist"
sys.path.append(str(EXAMPLE))
import dataset  # noqa: E402

ECP5, ICE40 = DEVICES["LFE5U-85F"], DEVICES["iCE40UP5K"]
#: The devices on which single PEs are measured, and what placing them aims at, in MHz.
PE_DEVICES = {"ecp5": (ECP5, 300.0), "ice40": (ICE40, 150.0)}
#: What placing accelerators and arrays aims at, in MHz.
FREQUENCY = 120.0
ACCUMULATOR_WIDTH = 24
#: The parts, and where no option says otherwise, how often each is placed and what arrays it has.
PARTS = {"accelerators": 3, "pes": 1, "arrays": 1}
ARRAYS = {"accelerators": "4x4", "arrays": "8x8"}

#: Headings and rows.
Table = tuple[Sequence[str], list[list[str]]]


@dataclass(frozen=True)
class Kind:
    """A kind of PE.

    Attributes
    ----------
    name
        In tables.
    fields
        Of the configuration, whose PE it is.
    inq_bits
        Bits of the weights that the network was trained for; None for int8.
    dsp
        Whether synthesis may make DSP blocks of multiplications.
    parts
        In which it is measured.
    """

    name: str
    fields: Mapping[str, Any]
    inq_bits: int | None = None
    dsp: bool = True
    parts: tuple[str, ...] = tuple(PARTS)


def _shift(bits: int, parts: tuple[str, ...] = tuple(PARTS)) -> Kind:
    return Kind(f"shift, {bits} bits", {"pe": "shift", "weight_bits": bits}, bits, parts=parts)


_MAC = {"pe": "mac", "weight_zero_points": False}
KINDS = {
    "mac-dsp": Kind("int8 MAC in DSP blocks", _MAC),
    "mac-lut": Kind("int8 MAC in rows of adders", {**_MAC, "dsp": False}),
    "mac-inferred": Kind("int8 MAC in logic, as Yosys infers it", _MAC, dsp=False, parts=("pes",)),
    "shift-5": _shift(5),
    "shift-4": _shift(4),
    "shift-3": _shift(3),
    "shift-2": _shift(2, ("pes",)),
}


@dataclass(frozen=True)
class Images:
    """Pictures of clothes and their classes, and for calibration other pictures."""

    source: str
    pixels: npt.NDArray[np.float32]
    labels: npt.NDArray[np.uint8]
    calibration: npt.NDArray[np.float32]
    network: FloatModel


def images(folder: Path | None, limit: int | None) -> Images:
    """Return the test images if they are there, else those of the demo."""
    network, calibration, pixels, labels = demo_files()
    source = "images that ship with Zeropoint"
    if folder is not None or dataset.available():
        raw, labels = dataset.load("test", folder)
        pixels, source = raw[..., np.newaxis].astype(np.float32) * np.float32(PIXEL), "test images"
    return Images(f"{len(pixels[:limit]):,} {source}", pixels[:limit], labels[:limit], calibration, network)


def quantized(kind: Kind, data: Images, folder: Path) -> QuantizedModel:
    """Return the demo network with the weights that a kind of PE takes."""
    if kind.inq_bits is None:
        return quantize(data.network, data.calibration, scheme=Scheme.AFFINE_INT8)
    path = folder / f"{kind.inq_bits}_bits.onnx"
    if not path.is_file():
        raise ZeropointError(f"there is no '{path}'; python examples/fashion_mnist/inq.py trains such networks")
    network = importers.load(path)
    if not isinstance(network, FloatModel):
        raise ZeropointError(f"'{path}' is no float network, as examples/fashion_mnist/inq.py writes one")
    return quantize(network, data.calibration, scheme=Scheme.INQ, bits=kind.inq_bits)


def accelerator(
    kind: Kind, size: tuple[int, int], data: Images, folder: Path, seeds: int, step: Callable[[str], None]
) -> dict[str, Any]:
    """Return what the network reaches with a kind of PE, and what its accelerator takes."""
    step("accuracy")
    model = quantized(kind, data, folder)
    x = model.tensor(model.input).quantize(data.pixels)
    right = int(np.count_nonzero(golden.run(model, x).argmax(axis=-1) == data.labels))
    config = trim(model, configure(model, {"lanes": size[0], "columns": size[1], **kind.fields}))
    step("cycles")
    counted = measure.cycles(model, config, x[:1])
    step("synthesis")
    netlist = synthesize(Accelerator(config), ECP5, kind.dsp)
    taken = {**measure.resources(netlist), **measure.clock(netlist, seeds, FREQUENCY, step)}
    microseconds = None if taken["fmax"] is None else counted["cycles"] / taken["fmax"]
    return {
        "accuracy": right / len(x),
        "config": config.to_dict(),
        **counted,
        **taken,
        "microseconds": microseconds,
    }


def single_pe(
    kind: Kind, operand_bits: int, device: Device, frequency: float, seeds: int, step: Callable[[str], None]
) -> dict[str, Any]:
    """Return what one PE with its accumulator takes, and the clock that it reaches between shift registers."""
    config = AcceleratorConfig(**kind.fields, accumulator_width=ACCUMULATOR_WIDTH)

    def make() -> AccumulatingPE | InferredMac:
        return (AccumulatingPE if kind.dsp else InferredMac)(config, operand_bits)

    step(f"synthesis for {device.device}")
    taken = measure.resources(synthesize(make(), device, kind.dsp))
    return taken | measure.clock(synthesize(Harness(make()), device, kind.dsp), seeds, frequency, step)


def filling(kind: Kind, size: tuple[int, int], seeds: int, step: Callable[[str], None]) -> dict[str, Any]:
    """Return what an array takes, the clock that it reaches, and how many PEs would fill the device.

    The sites that the whole takes and half of its columns do not are those of half of its PEs, with their adder trees
    and accumulators.
    """
    lanes, columns = size
    whole = AcceleratorConfig(
        lanes=lanes,
        columns=columns,
        window_taps=1,
        max_pooling=False,
        elementwise=False,
        accumulator_width=ACCUMULATOR_WIDTH,
        **kind.fields,
    )
    placed = []
    for config, tries in ((replace(whole, columns=columns // 2, requantizers=1), min(seeds, 1)), (whole, seeds)):
        step(f"synthesis of {config.lanes} × {config.columns}")
        netlist = synthesize(Harness(Array(config)), ECP5, kind.dsp)
        placed.append(measure.resources(netlist) | measure.clock(netlist, tries, FREQUENCY, step))
    half, all_of_it = placed
    result: dict[str, Any] = {key: all_of_it[key] for key in ("fmax", "fmax_of_seeds", "exceeding", "sites")}
    result |= {"sites_per_pe": {}, "held": None, "held_by": None}
    if half["sites"] and all_of_it["sites"]:
        result |= held({name: all_of_it["sites"][name] - half["sites"][name] for name in half["sites"]}, size, ECP5)
    return result


def held(more: Mapping[str, int], size: tuple[int, int], device: Device) -> dict[str, Any]:
    """Return how many PEs a device has sites for, if half an array takes so many, and of which it runs out first."""
    pes = size[0] * size[1] // 2
    counts = {
        resource: getattr(device.capacity, resource) * pes // taken for resource, taken in more.items() if taken > 0
    }
    least = min(counts, key=lambda resource: counts[resource])
    return {
        "sites_per_pe": {resource: taken / pes for resource, taken in more.items() if taken > 0},
        "held": counts[least],
        "held_by": least,
    }


def number(value: float | None, digits: int = 0) -> str:
    """Return a cell of a table."""
    return "–" if value is None else f"{value:,.{digits}f}"


def accelerator_table(measured: Mapping[str, dict[str, Any]]) -> Table:
    """Return the table of whole accelerators."""
    heads = ("PE", "accuracy", "cycles", "LUT", "FF", "DSP", "block RAM", "Fmax in MHz", "µs an inference")
    rows = [
        [
            KINDS[kind].name,
            f"{100 * each['accuracy']:.2f} %",
            number(each["cycles"]),
            *(number(each[resource]) for resource in ("lut", "ff", "dsp", "block_ram")),
            measure.fmax_text(each),
            number(each["microseconds"], 1),
        ]
        for kind, each in measured.items()
    ]
    return heads, rows


def pe_table(measured: Mapping[str, dict[str, Any]]) -> Table:
    """Return the table of single PEs."""
    columns = (("lut", "LUT"), ("ff", "FF"), ("dsp", "DSP"))
    heads = ["PE"]
    for device, _ in PE_DEVICES.values():
        heads += [*(f"{device.device}: {name}" for _, name in columns), "Fmax in MHz"]
    rows = []
    for kind, each in measured.items():
        row = [KINDS[kind].name]
        for name in PE_DEVICES:
            row += [*(number(each[name][resource]) for resource, _ in columns), measure.fmax_text(each[name])]
        rows.append(row)
    return heads, rows


def array_table(measured: Mapping[str, dict[str, Any]]) -> Table:
    """Return the table of arrays."""
    filled = f"PEs that fill an {ECP5.device}"
    heads = ("PE", "Fmax in MHz", "LUT sites a PE", "FF a PE", "DSP a PE", filled, "by")
    rows = []
    for kind, each in measured.items():
        sites = [number(each["sites_per_pe"].get(resource, 0), 1) for resource in ("lut", "ff", "dsp")]
        row = [KINDS[kind].name, measure.fmax_text(each), *sites, number(each["held"]), each["held_by"] or "–"]
        rows.append(row)
    return heads, rows


TABLES = {"accelerators": accelerator_table, "pes": pe_table, "arrays": array_table}


def title(part: str, document: Mapping[str, Any]) -> str:
    """Return what stands above a part's table."""
    return {
        "accelerators": f"Accelerators with {document['array'].get(part)} PEs on {ECP5.device}-{ECP5.speed}, "
        f"accuracy on {document['images']}",
        "pes": f"Single PEs, activations of {document['operand_bits']} bits, accumulators of {ACCUMULATOR_WIDTH} bits",
        "arrays": f"Arrays of {document['array'].get(part)} PEs on {ECP5.device}-{ECP5.speed}",
    }[part]


@click.command(help=__doc__)
@click.option(
    "--part",
    "parts",
    multiple=True,
    type=click.Choice(tuple(PARTS)),
    default=tuple(PARTS),
    help="Repeatable; default all.",
)
@click.option(
    "--kind", "kinds", multiple=True, type=click.Choice(tuple(KINDS)), default=tuple(KINDS), help="Repeatable."
)
@click.option(
    "--array", metavar="LANESxCOLUMNS", help="Of PEs.  [default: 4x4 in accelerators, 8x8 where it is by itself]"
)
@click.option(
    "--operand-bits",
    type=click.IntRange(8, 9),
    default=9,
    show_default=True,
    help="Bits of single PEs' activations: 9 with a zero point subtracted, as in an array.",
)
@click.option(
    "--seeds", type=click.IntRange(min=1), help="Placements, for the median.  [default: 3 of accelerators, 1 of others]"
)
@click.option("--no-place", is_flag=True, help="No Fmax, which takes ten minutes a seed for an accelerator with 8x8.")
@click.option("--images", "limit", type=click.IntRange(min=1), help="Use only the first of the images.")
@click.option(
    "--data",
    type=click.Path(path_type=Path),
    help="Folder of Fashion-MNIST's .gz files, unless installed.",
)
@click.option(
    "--networks",
    type=click.Path(path_type=Path),
    default=EXAMPLE / "inq",
    help="Folder of the networks trained by INQ; default examples/fashion_mnist/inq.",
)
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="Write all figures there.")
@click.option("--markdown", "markdown_file", type=click.Path(path_type=Path), help="Write the tables there.")
@click.option("--plot", "plot_file", type=click.Path(path_type=Path), help="Draw the figures there (.svg or .png).")
def main(
    parts: tuple[str, ...],
    kinds: tuple[str, ...],
    array: str | None,
    operand_bits: int,
    seeds: int | None,
    no_place: bool,
    limit: int | None,
    data: Path | None,
    networks: Path,
    json_file: Path | None,
    markdown_file: Path | None,
    plot_file: Path | None,
) -> None:
    arrays = {part: array or own for part, own in ARRAYS.items() if part in parts}
    sizes = {part: measure.array_size(text) for part, text in arrays.items()}
    if "arrays" in sizes and sizes["arrays"][1] < 2:
        raise click.BadParameter(f"arrays of {array} PEs have no half to compare with; say 2 columns or more")
    if plot_file is not None:
        check_figure(plot_file)
    placements = {part: 0 if no_place else seeds or own for part, own in PARTS.items()}
    shown = images(data, limit) if "accelerators" in parts else None
    work = [(part, kind) for part in PARTS for kind in KINDS if part in parts and kind in kinds]
    work = [(part, kind) for part, kind in work if part in KINDS[kind].parts]
    measured: dict[str, dict[str, dict[str, Any]]] = {part: {} for part in PARTS if part in parts}
    total = {
        "accelerators": 3 + placements["accelerators"],
        "pes": 2 * (1 + placements["pes"]),
        "arrays": 2 + placements["arrays"] + min(placements["arrays"], 1),
    }
    with measure.steps(sum(total[part] for part, _ in work)) as show:
        for part, name in work:
            kind, tries = KINDS[name], placements[part]

            def step(what: str, name: str = name) -> None:
                show(f"{name}: {what}")

            if part == "accelerators":
                assert shown is not None
                measured[part][name] = accelerator(kind, sizes[part], shown, networks, tries, step)
            elif part == "pes":
                devices = PE_DEVICES.items()
                measured[part][name] = {
                    each: single_pe(kind, operand_bits, *where, tries, step) for each, where in devices
                }
            else:
                measured[part][name] = filling(kind, sizes[part], tries, step)

    document = {
        "array": arrays,
        "operand_bits": operand_bits,
        "images": shown.source if shown else None,
        "device": ECP5.device,
        "speed": ECP5.speed,
        "tools": measure.versions(ECP5, ICE40),
        **measured,
    }
    text = ""
    for part, entries in measured.items():
        heads, rows = TABLES[part](entries)
        terminal.table(title(part, document), heads, rows)
        text += f"{title(part, document)}:\n\n{measure.markdown(heads, rows)}\n"
    terminal.say(", ".join(f"{package} {version}" for package, version in document["tools"].items()))
    measure.write_json(json_file, document)
    if markdown_file is not None:
        atomic_write(markdown_file, (text.rstrip() + "\n").encode())
    if plot_file is not None:
        plot(plot_file, {name: kind.name for name, kind in KINDS.items()}, measured)


if __name__ == "__main__":
    sys.exit(exit_status(lambda: main(standalone_mode=False)))
