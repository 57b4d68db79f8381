"""``zeropoint info``: what is in a network."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
import numpy as np

from zeropoint import arrays, importers
from zeropoint.cli import terminal
from zeropoint.cli.options import PATH, load_quantized
from zeropoint.compiler import partition
from zeropoint.errors import ZeropointError
from zeropoint.model import Clamp, FloatModel, Operator, QuantizedModel, Tensor
from zeropoint.model.formats import format_name

Model = FloatModel | QuantizedModel


@click.command("info")
@click.argument("model", type=PATH)
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of tables.")
@click.option(
    "--against-onnxruntime",
    is_flag=True,
    help="Measure how far ONNX Runtime's results are from the golden model's, layer by layer.",
)
@click.option("--input", type=PATH, help="For --against-onnxruntime: inputs, .npy; random ones if there are none.")
@click.option("--samples", type=click.IntRange(min=1), help="How many random inputs.  [default: 64]")
@click.option("--seed", type=click.IntRange(min=0), help="Of the random inputs.  [default: 0]")
def command(
    model: Path, as_json: bool, against_onnxruntime: bool, input: Path | None, samples: int | None, seed: int | None
) -> None:
    """Show MODEL's layers: shapes, scales, multiply-accumulates, parameters, and what of it the hardware runs.

    MODEL may also be a float network, .onnx.

    With --against-onnxruntime, also run the network as "zeropoint export" writes it in ONNX Runtime, which scales in
    floating point, and count where its integers are not the golden model's.
    """
    if not against_onnxruntime and (input, samples, seed) != (None, None, None):
        raise click.UsageError("--input, --samples and --seed go with --against-onnxruntime")
    if input is not None and (samples, seed) != (None, None):
        raise click.UsageError("--samples and --seed are for random inputs; they do not go with --input")
    network = load_quantized(model) if against_onnxruntime else importers.load(model)
    facts = describe(network)
    if against_onnxruntime:
        assert isinstance(network, QuantizedModel)
        facts["against_onnxruntime"] = _against_onnxruntime(network, input, samples or 64, seed or 0)
    if as_json:
        click.echo(json.dumps(facts, indent=2, allow_nan=False))
        return
    _print(facts)
    if against_onnxruntime:
        _print_differences(facts["against_onnxruntime"])
    if isinstance(network, FloatModel):
        terminal.note(
            f"{model} is a float network; the hardware runs quantized ones: zeropoint quantize {model} "
            f"--scheme affine-int8 --calibration X.npy -o {model.with_suffix('.zp').name}"
        )
    elif facts["refused"]:
        terminal.note(f"the hardware cannot run this network: {facts['refused']}")


def describe(model: Model) -> dict[str, Any]:
    """Return the facts about a model, as JSON holds them.

    ``runs_on`` of a layer is ``"hardware"``, ``"host"``, or None where that is not known: for float networks, and for
    those that the hardware cannot run, of which ``refused`` then says why.
    """
    places: dict[str, str] = {}
    refused = None
    if isinstance(model, QuantizedModel):
        try:
            parts = partition(model)
            for place, operators in (("hardware", parts.hardware), ("host", parts.host)):
                places |= {operator.name: place for operator in operators}
        except ZeropointError as error:
            refused = str(error)
    layers = [
        {
            "name": operator.name,
            "op": operator.kind,
            "activation": getattr(operator, "clamp", Clamp()).label,
            "output": _tensor(model.tensor(operator.output)),
            "weights": _weights(model, operator),
            "macs": model.macs(operator),
            "parameters": sum(_size(model.tensor(name)) for name in operator.constants),
            "runs_on": places.get(operator.name),
        }
        for operator in model.operators
    ]
    constants = {name: _size(model.tensor(name)) for operator in model.operators for name in operator.constants}
    return {
        "model": model.name,
        "quantized": isinstance(model, QuantizedModel),
        "rounding": model.rounding.value if isinstance(model, QuantizedModel) else None,
        "input": _tensor(model.tensor(model.input)),
        "output": _tensor(model.tensor(model.output)),
        "layers": layers,
        "macs": sum(model.macs(operator) for operator in model.operators),
        # Those that several operators share count once.
        "parameters": sum(constants.values()),
        "refused": refused,
        "metadata": dict(model.metadata),
    }


def _against_onnxruntime(model: QuantizedModel, input: Path | None, samples: int, seed: int) -> dict[str, Any]:
    """Return the differences from ONNX Runtime, as JSON holds them."""
    # Imported here, as onnx takes a second to import.
    from zeropoint.export import onnx_runtime

    tensor = model.tensor(model.input)
    if input is None:
        low, high = tensor.limits
        rng = np.random.default_rng(seed)
        x = rng.integers(low, high + 1, (samples, *tensor.shape)).astype(tensor.dtype)
    else:
        x = arrays.load_input(input, model)
    with terminal.progress(f"Running {model.name}", len(x)) as update:
        found = onnx_runtime.differences(model, x, update)
    return {"inferences": len(x), "layers": [asdict(difference) for difference in found]}


def _print_differences(facts: dict[str, Any]) -> None:
    title = (
        f"Integers that ONNX Runtime gives otherwise, for {facts['inferences']} inputs: by each layer alone, given the "
        f"golden model's tensors, and in the network"
    )
    columns = ["layer", "op", "outputs", "alone", "share", "steps at most", "in the network", "share", "steps at most"]
    rows = []
    for layer in facts["layers"]:
        row = [layer["operator"], layer["kind"], layer["elements"]]
        for which in ("alone", "network"):
            share = f"{100 * layer[which] / layer['elements']:.3f} %"
            row += [layer[which], share, layer[f"{which}_greatest"]]
        rows.append(row)
    terminal.table(title, columns, rows)


def _size(tensor: Tensor) -> int:
    assert tensor.data is not None
    return tensor.data.size


def _tensor(tensor: Tensor) -> dict[str, Any]:
    facts: dict[str, Any] = {"name": tensor.name, "shape": list(tensor.shape), "dtype": tensor.dtype}
    if tensor.quantization is not None:
        facts |= {"scale": tensor.scale, "zero_point": tensor.zero_point}
    return facts


def _weights(model: Model, operator: Operator) -> dict[str, Any] | None:
    name = getattr(operator, "weights", None)
    if name is None:
        return None
    tensor = model.tensor(name)
    facts: dict[str, Any] = {"shape": list(tensor.shape), "dtype": tensor.dtype}
    if tensor.quantization is not None:
        facts |= {"bits": tensor.bits, "format": "integer" if tensor.format is None else format_name(tensor.format)}
        facts |= {"scales": len(tensor.quantization.scale), "zero_point": tensor.quantization.zero_point[0]}
    return facts


def _print(facts: dict[str, Any]) -> None:
    quantized = facts["quantized"]
    terminal.say(f"{facts['model']}: {'quantized' if quantized else 'float'} network")
    for which in ("input", "output"):
        tensor = facts[which]
        affine = f", scale {tensor['scale']:.6g}, zero point {tensor['zero_point']}" if quantized else ""
        terminal.say(f"{which}: {tensor['name']}, {tensor['dtype']} {_shape(tensor['shape'])}{affine}")
    for key, value in sorted(facts["metadata"].items()):
        terminal.say(f"{key}: {value}")
    columns = ["layer", "op", "output", "MACs", "parameters"]
    if quantized:
        columns[3:3] = ["scale", "zero point", "weights"]
        columns.append("runs on")
    rows = [_row(layer, quantized) for layer in facts["layers"]]
    total: list[object] = ["total", *[""] * (len(columns) - 1)]
    total[columns.index("MACs")], total[columns.index("parameters")] = facts["macs"], facts["parameters"]
    terminal.table("Layers", columns, rows, total)


def _row(layer: dict[str, Any], quantized: bool) -> list[object]:
    output, weights = layer["output"], layer["weights"]
    op = f"{layer['op']} {layer['activation']}".strip()
    row: list[object] = [layer["name"], op, _shape(output["shape"]), layer["macs"], layer["parameters"]]
    if quantized:
        kind = ""
        if weights is not None:
            zero_point = f", zero point {weights['zero_point']}" if weights["zero_point"] else ""
            own = f"{weights['format']}, {weights['bits']} bits,"
            kind = weights["dtype"] if weights["format"] == "integer" else own
            kind += f" per {'channel' if weights['scales'] > 1 else 'tensor'}{zero_point}"
        row[3:3] = [f"{output['scale']:.6g}", output["zero_point"], kind]
        row.append(layer["runs_on"])
    return row


def _shape(sizes: list[int]) -> str:
    return "×".join(map(str, sizes))
