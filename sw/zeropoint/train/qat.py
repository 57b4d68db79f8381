"""Quantization-aware training: a network learns to compute with the integers that the hardware has.

Source: Jacob et al., *Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference*,
CVPR 2018, section 3. Its parts, in the order in which data meets them:

- ``qat_graph``: the network, followed by torch.fx, becomes steps.
- ``fake_quantize``: ranges of activations, averaged or learned, and fake quantization.
- ``qat_layer``, ``qat_steps``: each step in floating point, in integers, and for export.
- ``qat_export``: the ONNX file, and the comparison with the golden model.
"""

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, fx, nn

from zeropoint.errors import ZeropointError, quoted_list
from zeropoint.files import as_path, atomic_write, check_writable
from zeropoint.importers import onnx_quantized
from zeropoint.model import QuantizedModel
from zeropoint.quantize.calibration import Range
from zeropoint.train.fake_quantize import Quantizer, Ranges
from zeropoint.train.qat_export import check_equal, to_onnx
from zeropoint.train.qat_graph import prepare
from zeropoint.train.qat_layer import Layer
from zeropoint.train.qat_steps import Step

_DTYPES = {"affine-int8": "int8", "affine-uint8": "uint8"}


class Qat(nn.Module):
    """``model``, trained with its weights and activations fake quantized, and evaluated in integers.

    In training, ``qat(x)`` is what ``model(x)`` would be, with every weight and every activation rounded to what the
    scheme has; gradients go straight through the rounding. Normalizations are folded into the weights before these are
    rounded. In evaluation, ``qat(x)`` is computed in integers, by the arithmetic of ``docs/numerics.md``, and has no
    gradients: **its bits are those of the golden model and of the hardware** for the file that :meth:`export` writes.

    The parameters, and the statistics of normalizations, are those of ``model`` itself: it is trained, and remains an
    ordinary float network. Ranges and counters are in ``qat.state_dict()``, so that saving and loading is PyTorch's.

    Parameters
    ----------
    model
        Any module that torch.fx can follow, of one input and one output, of the operations that
        :mod:`~zeropoint.train.qat_graph` lists.
    scheme
        ``"affine-int8"``: int8 activations; int8 weights in −127 … 127 with a scale for each output channel.
        ``"affine-uint8"``: uint8 activations and weights, each tensor with one scale and any zero point.
    ranges
        Of activations: ``"averaged"`` over the batches, or ``"learned"`` by their gradients.
    momentum
        The weight of a new batch in the averages, in (0, 1].
    delay
        The training passes before activations are quantized; their ranges are averaged meanwhile.
    freeze
        The training passes after which normalizations use their running statistics, which then stay as they are. None:
        never.
    input_range
        The least and the greatest value of inputs, if they are known; otherwise the input's range is found like the
        others.

    Attributes
    ----------
    passes
        The training passes so far.

    Raises
    ------
    ZeropointError
        If an argument is none of these, or the model cannot be quantized.
    """

    passes: Tensor

    def __init__(
        self,
        model: nn.Module,
        scheme: str = "affine-int8",
        *,
        ranges: Ranges = "averaged",
        momentum: float = 0.01,
        delay: int = 0,
        freeze: int | None = None,
        input_range: Range | None = None,
    ) -> None:
        super().__init__()
        if scheme not in _DTYPES:
            raise ZeropointError(f"quantization-aware training has the schemes {quoted_list(_DTYPES)}, not {scheme!r}")
        if ranges not in ("averaged", "learned"):
            raise ZeropointError(f"ranges are 'averaged' or 'learned', not {ranges!r}")
        if not _is_number(momentum) or not 0 < momentum <= 1:
            raise ZeropointError(f"the momentum of ranges is above 0 and 1 at most, not {momentum!r}")
        for name, count in (("delay", delay), ("freeze", 0 if freeze is None else freeze)):
            if isinstance(count, bool) or not isinstance(count, int) or count < 0:
                raise ZeropointError(f"'{name}' is a number of training passes, from 0 on, not {count!r}")
        given = None if input_range is None else _checked(input_range)
        self.scheme, self.delay, self.freeze, self._ranges = scheme, delay, freeze, ranges
        self.register_buffer("passes", torch.zeros((), dtype=torch.int64))

        def new_quantizer(name: str, positive: bool) -> Quantizer:
            own = None if made else given
            made.append(name)
            return Quantizer(name, _DTYPES[scheme], ranges, momentum, positive=positive, given=own)

        made: list[str] = []
        self.network = prepare(model, new_quantizer)
        device = next((parameter.device for parameter in model.parameters()), torch.device("cpu"))
        self.to(device)

    def forward(self, x: Tensor) -> Tensor:
        """Return the output: in training, fake quantized; in evaluation, what the hardware would give.

        Raises
        ------
        ZeropointError
            In evaluation, if an activation has no range yet, or values are not finite.
        """
        if self.training:
            passes = int(self.passes)
            self._set(active=passes >= self.delay, frozen=self.freeze is not None and passes >= self.freeze)
            self.passes += 1
            result: Tensor = self.network(x)
            return result
        return self._dequantized(_Integers(self.network).run(x))

    def simulate(self, x: Tensor) -> Tensor:
        """Return the output in floating point, fake quantized as at the end of training, and change nothing.

        It differs from evaluation where floating point rounds to another side of a tie than integers do.
        """
        training = self.training
        self.eval()
        self._set(active=True, frozen=True)
        try:
            result: Tensor = self.network(x)
        finally:
            self.train(training)
        return result

    def tensors(self, x: Tensor) -> dict[str, npt.NDArray[Any]]:
        """Return the integers of every activation, by the name it has in the exported file, the input first.

        Axes are PyTorch's: feature maps have their channels second.
        """
        run = _Integers(self.network)
        run.run(x)
        return run.found

    def ranges(self) -> dict[str, Range]:
        """Return the range of each activation that has one of its own, by name, as trained."""
        return {quantizer.name: quantizer.range for quantizer in self._quantizers()}

    def range_parameters(self) -> Iterator[nn.Parameter]:
        """Yield the learned ends of ranges: parameters of no dimension, that want no weight decay."""
        for quantizer in self._quantizers():
            yield from quantizer.parameters()

    def export(self, path: str | Path, example: Tensor) -> None:
        """Write the network as an ONNX file of integers, whole or not at all.

        Float operators stand between QuantizeLinear and DequantizeLinear; weights are int8 or uint8 and biases int32,
        normalizations folded in. All commands of Zeropoint take it as MODEL. Activations have the names of
        :meth:`tensors`. Before it is written, it is read back, and must give ``example`` the same bits.

        Parameters
        ----------
        path
            Ends in ``.onnx``.
        example
            Inputs ``(N, …)``, one or more.

        Raises
        ------
        ZeropointError
            If an activation has no range yet, something is not finite, the network cannot be exported, the file cannot
            be written, or what it computes is not the same.
        """
        path = as_path(path, "the first argument of export")
        check_writable(path)
        self._export(example, path)

    def quantized(self, example: Tensor) -> QuantizedModel:
        """Return the network as a quantized model, by way of the file that :meth:`export` would write."""
        return self._export(example, None)

    def _export(self, example: Tensor, path: Path | None) -> QuantizedModel:
        if not len(example):
            raise ZeropointError("the export needs one example or more")
        expected = self.tensors(example)
        notes = {"scheme": self.scheme, "ranges": f"{self._ranges} in training"}
        content = to_onnx(self.network, tuple(example.shape[1:]), notes).SerializeToString(deterministic=True)
        with TemporaryDirectory() as folder:
            file = Path(folder) / (path.name if path else "network.onnx")
            file.write_bytes(content)
            model = onnx_quantized.read(file)
        check_equal(expected, model)
        if path is not None:
            atomic_write(path, content)
        return model

    def _quantizers(self) -> Iterator[Quantizer]:
        return (module for module in self.network.modules() if isinstance(module, Quantizer))

    def _set(self, *, active: bool, frozen: bool) -> None:
        for module in self.network.modules():
            if isinstance(module, Quantizer):
                module.active = active
            elif isinstance(module, Layer):
                module.frozen = frozen

    def _dequantized(self, q: Tensor) -> Tensor:
        """Return the real values of the last activation."""
        (end,) = (node for node in self.network.graph.nodes if node.op == "output")
        quantizer = _Integers(self.network).quantizer(end.args[0])
        return torch.from_numpy(quantizer.quantized.dequantize(q.cpu().numpy())).to(q.device)


class _Integers(fx.Interpreter):
    """Runs a graph of steps in integers, which are float64 tensors.

    Attributes
    ----------
    found
        The integers of each step, by its name.
    """

    def __init__(self, network: fx.GraphModule) -> None:
        super().__init__(network)
        # Nothing is to be added to the messages of errors.
        self.extra_traceback = False
        self.found: dict[str, npt.NDArray[Any]] = {}

    @torch.no_grad()
    def run(self, *args: Any, **options: Any) -> Any:
        """Return the integers of the output, given real values."""
        training = self.module.training
        self.module.eval()
        try:
            return super().run(*args, **options)
        finally:
            self.module.train(training)

    def call_module(self, target: Any, args: Any, kwargs: Any) -> Any:
        """Run a step in integers, and what is no step as it is."""
        step = self.fetch_attr(target)
        if not isinstance(step, Step):
            return super().call_module(target, args, kwargs)
        result = step.integers(*args)
        self.found[step.name] = result.cpu().numpy().astype(step.target.dtype)
        return result

    def quantizer(self, node: fx.Node) -> Quantizer:
        """Return the quantizer of an activation."""
        while node.op != "call_module" or not isinstance(step := self.fetch_attr(str(node.target)), Step):
            node = node.all_input_nodes[0]
        return step.output


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _checked(ends: Range) -> Range:
    """Return the range of inputs, checked."""
    try:
        low, high = (float(end) for end in ends)
    except (TypeError, ValueError):
        low = high = np.nan
    if not -np.inf < low < high < np.inf:
        raise ZeropointError(f"the range of inputs is two finite numbers, the less one first, not {ends!r}")
    return low, high
