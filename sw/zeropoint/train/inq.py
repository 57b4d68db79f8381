"""Incremental network quantization: a network's weights become powers of two, a portion at a time.

Source: Zhou et al., *Incremental Network Quantization: Towards Lossless CNNs with Low-Precision Weights*, ICLR 2017,
sections 2.2 and 2.3. Levels and rounding are those of :mod:`zeropoint.numerics.power_of_two`.
"""

import operator
import warnings
from collections.abc import Mapping
from math import floor
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from zeropoint.errors import ZeropointError, quoted_list
from zeropoint.numerics.formats import EXPONENT_LIMIT
from zeropoint.numerics.power_of_two import InqThreshold, PowerOfTwoFormat, inq_format, quantize_inq

Partition = Literal["magnitude", "random"]

#: The accumulated portions of the paper: by network at 5 bits (section 3.1), and by width for ResNet-18 (section 3.3).
SCHEDULES: Mapping[str, tuple[float, ...]] = {
    "alexnet": (0.3, 0.6, 0.8, 1.0),
    "vgg": (0.5, 0.75, 0.875, 1.0),
    "resnet": (0.5, 0.75, 0.875, 1.0),
    "googlenet": (0.2, 0.4, 0.6, 0.8, 1.0),
    "5-bit": (0.5, 0.75, 0.875, 1.0),
    "4-bit": (0.3, 0.5, 0.8, 0.9, 0.95, 1.0),
    "3-bit": (0.2, 0.4, 0.6, 0.7, 0.8, 0.9, 0.95, 1.0),
    "2-bit": (0.2, 0.4, 0.6, 0.7, 0.8, 0.85, 0.9, 0.95, 0.975, 1.0),
}

TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
#: What INQ quantizes.
LAYERS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, *TRANSPOSED, nn.Linear)


class Inq:
    """Quantizes the weights of ``model``, in place, a portion at each :meth:`advance`; you retrain in between.

    From then on those weights are constants: whatever writes to the model's parameters (momentum, weight decay, Adam,
    code of your own) changes no bit of them, and their gradients are exactly 0. A layer's levels are found when its
    first weight is quantized, from its greatest weight, and stay. After the last portion every weight of every
    convolution (``Conv1d`` to ``Conv3d``, ``ConvTranspose1d`` to ``ConvTranspose3d``) and ``Linear``, the first and the
    last of them included, is one of its layer's levels. Biases and normalizations stay floats and are trained
    throughout; so do weights of anything else, which a warning names.

    While this lasts, each ``layer.weight`` is computed (a parametrization of :mod:`torch.nn.utils.parametrize`) from
    the parameter that it was and from the constants; both are part of ``model.state_dict()``. Optimizers made before
    or after hold the same parameters, and go on working. :meth:`finish` makes the weights plain parameters again.

    Parameters
    ----------
    model
        Any module. Move it to its device and choose its type before.
    bits
        An integer: 5, 4, 3 or 2 (ternary).
    portions
        The accumulated share of each layer's weights that is quantized after each step: ascending, in (0, 1], ending
        in 1; or the name of one of :data:`SCHEDULES`. None takes ``"5-bit"``, ``"4-bit"``, ….
    partition
        Which weights come first: those of the greatest magnitude (the paper's "pruning-inspired"; among equal ones
        the first), or any, "random".
    threshold
        Which small weights become 0.
    seed
        Of the random partition. The same seed gives the same partition.

    Raises
    ------
    ZeropointError
        If an argument is none of these; if there is no such layer, or one cannot be quantized: its weight is shared
        with another module, parametrized already, not there yet (lazy), or no float. Nothing is changed then.

    Warns
    -----
    UserWarning
        If the model has other parameters of floats in two dimensions or more, such as those of an ``LSTM``, an
        ``Embedding``, or the ``in_proj_weight`` of a ``MultiheadAttention``: one warning, which names all of them.
    """

    def __init__(
        self,
        model: nn.Module,
        bits: int,
        portions: str | tuple[float, ...] | None = None,
        *,
        partition: Partition = "magnitude",
        threshold: InqThreshold = InqThreshold.NEAREST,
        seed: int = 0,
    ) -> None:
        bits = checked_bits(bits)
        if partition not in ("magnitude", "random"):
            raise ZeropointError(f"INQ's partition is 'magnitude' or 'random', not {partition!r}")
        if not isinstance(threshold, InqThreshold):
            raise ZeropointError(f"INQ's threshold is an InqThreshold, not {threshold!r}")
        if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
            raise ZeropointError(f"a seed is a whole number from 0 on, not {seed!r}")
        self.bits = bits
        self.portions = _portions(f"{bits}-bit" if portions is None else portions)
        self.partition = partition
        self.threshold = threshold
        self.seed = seed
        self._step = 0
        self._formats: dict[str, PowerOfTwoFormat] = {}
        self._layers = _quantizable(model)
        # Before anything is changed, as warnings may be errors.
        _warn_of_others(model, self._layers)
        for layer in self._layers.values():
            parametrize.register_parametrization(layer, "weight", _Frozen(layer.weight))

    @property
    def portion(self) -> float:
        """The accumulated portion that is quantized now: 0 at first, 1 at the end."""
        return self.portions[self._step - 1] if self._step else 0.0

    @property
    def done(self) -> bool:
        """Whether the last portion is quantized."""
        return self._step == len(self.portions)

    @property
    def formats(self) -> dict[str, PowerOfTwoFormat]:
        """The format of each layer, by the layer's name; empty before the first :meth:`advance`."""
        return dict(self._formats)

    def advance(self) -> float:
        """Quantize the next portion of each layer, freeze it, and return what :attr:`portion` is then.

        A layer of ``n`` weights has ``round(portion · n)`` frozen ones after it (halves up). Those that were frozen
        before are among them, unchanged.

        Raises
        ------
        ZeropointError
            If all weights are quantized already; or if some of a layer are not finite, or have levels that INQ or
            their type cannot hold. Nothing is changed then.
        """
        if self.done:
            raise ZeropointError("all weights are quantized: no portion is left")
        portion = self.portions[self._step]
        formats, chosen = dict(self._formats), {}
        for index, (name, layer) in enumerate(self._layers.items()):
            weights = _values(layer.weight)
            if not np.isfinite(weights).all():
                raise ZeropointError(f"layer '{name}' has weights that are not finite: its training has diverged")
            if name not in formats:
                formats[name] = _format(name, float(np.abs(weights).max()), self.bits)
            count = _count(portion, weights.size)
            fresh = self._next(weights, _frozen(layer).mask.cpu().numpy(), count, index)
            levels = formats[name].decode(quantize_inq(weights[fresh], formats[name], self.threshold))
            constants = torch.from_numpy(levels).to(layer.weight)
            if not np.array_equal(_values(constants), levels):
                raise ZeropointError(
                    f"layer '{name}' has levels from 2^{formats[name].least} to 2^{formats[name].greatest}, which "
                    f"{layer.weight.dtype} cannot hold; train in float32"
                )
            chosen[name] = torch.from_numpy(fresh), constants
        for name, (fresh_mask, constants) in chosen.items():
            _frozen(self._layers[name]).freeze(fresh_mask, constants)
        self._formats = formats
        self._step += 1
        return portion

    def finish(self) -> None:
        """Make each ``layer.weight`` a plain parameter again, of the very values it has.

        Nothing protects them from training any more. The model can then be exported, saved and loaded as if it had
        never been anything else.

        Raises
        ------
        ZeropointError
            Unless all weights are quantized.
        """
        if not self.done:
            raise ZeropointError(f"INQ is not done: {self.portion:g} of the weights are quantized, not all of them")
        for layer in self._layers.values():
            if parametrize.is_parametrized(layer, "weight"):
                parametrize.remove_parametrizations(layer, "weight", leave_parametrized=True)
                # The weight comes first again, for optimizers, which know parameters by their order.
                for name, parameter in [*layer.named_parameters(recurse=False)]:
                    if name != "weight":
                        delattr(layer, name)
                        layer.register_parameter(name, parameter)

    def frozen(self, name: str) -> npt.NDArray[np.bool_]:
        """Return which weights of the layer ``name`` are quantized, as an array of the weight's shape."""
        layer = self._layers[name]
        if not parametrize.is_parametrized(layer, "weight"):
            return np.ones(layer.weight.shape, bool)
        return _frozen(layer).mask.cpu().numpy().copy()

    def histogram(self) -> dict[str, dict[float, int]]:
        """Return how many of each layer's quantized weights have each level: {layer: {level: count}}, ascending.

        Raises
        ------
        ZeropointError
            If one of them is no level of its layer, which only a change after :meth:`finish` can cause.
        """
        counts = {}
        for name, form in self._formats.items():
            weights = _values(self._layers[name].weight)[self.frozen(name)]
            try:
                found = form.decode(form.encode(weights))
            except ValueError as error:
                raise ZeropointError(f"layer '{name}' is no longer quantized: {error}") from error
            counts[name] = {float(level): int((found == level).sum()) for level in form.levels()}
        return counts

    def state_dict(self) -> dict[str, Any]:
        """Return the progress, as plain numbers, strings and lists: what ``torch.load(weights_only=True)`` reads.

        Save it together with ``model.state_dict()``, which has the weights and which of them are frozen.
        """
        return {
            **self._settings(),
            "step": self._step,
            "least_exponents": {name: form.least for name, form in self._formats.items()},
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from ``state``, after ``model.load_state_dict`` of the state dict that was saved with it.

        Raises
        ------
        ZeropointError
            If it is of other settings or layers, or does not fit the weights that are frozen in the model. Nothing is
            changed then.
        """
        if not isinstance(state, Mapping):
            raise ZeropointError(f"the state of INQ is a dict of Inq.state_dict, not {type(state).__name__}")
        for key, value in self._settings().items():
            saved = state.get(key)
            if type(saved) is not type(value) or saved != value:
                if key == "layers" and isinstance(saved, list):
                    raise ZeropointError(f"the state of INQ is of another network: {_difference(saved, value)}")
                raise ZeropointError(f"the state of INQ has {key} {saved!r}, expected {value!r}")
        step, least = state.get("step"), state.get("least_exponents")
        if type(step) is not int or not 0 <= step <= len(self.portions):
            raise ZeropointError(f"the state of INQ has step {step!r}, expected 0 … {len(self.portions)}")
        names = list(self._layers) if step else []
        if (
            not isinstance(least, dict)
            or list(least) != names
            or any(type(value) is not int for value in least.values())
        ):
            raise ZeropointError("the state of INQ has not one exponent for each layer")
        portion = self.portions[step - 1] if step else 0.0
        for name in self._layers:
            frozen = self.frozen(name)
            if frozen.sum() != _count(portion, frozen.size):
                raise ZeropointError(
                    f"layer '{name}' has {frozen.sum()} frozen weights of {frozen.size}, which is not the portion "
                    f"{portion:g} of INQ's state; load the model's state dict that was saved with it first"
                )
        try:
            formats = {name: PowerOfTwoFormat(self.bits - 2, value) for name, value in least.items()}
            for name, form in formats.items():
                form.encode(_values(self._layers[name].weight)[self.frozen(name)])
        except ValueError as error:
            raise ZeropointError(f"the state of INQ does not fit the model: {error}") from error
        self._step, self._formats = step, formats

    def _settings(self) -> dict[str, Any]:
        return {
            "bits": self.bits,
            "portions": list(self.portions),
            "partition": self.partition,
            "threshold": self.threshold.value,
            "seed": self.seed,
            "layers": list(self._layers),
        }

    def _next(
        self, weights: npt.NDArray[np.float64], frozen: npt.NDArray[np.bool_], count: int, index: int
    ) -> npt.NDArray[np.bool_]:
        """Return which weights to freeze, so that ``count`` of layer ``index`` are frozen afterwards."""
        candidates = np.flatnonzero(~frozen)
        if self.partition == "magnitude":
            order = np.argsort(-np.abs(weights.reshape(-1)[candidates]), kind="stable")
        else:
            # Made anew for each layer and step, so that nothing but the step has to be saved.
            order = np.random.default_rng([self.seed, index, self._step]).permutation(candidates.size)
        chosen = np.zeros(weights.size, bool)
        chosen[candidates[order[: count - int(frozen.sum())]]] = True
        return chosen.reshape(weights.shape)


class _Frozen(nn.Module):
    """Gives the weight of a layer: constants where ``mask``, elsewhere the parameter.

    The parameter's elements under the mask are never read, so that nothing done to them matters; the gradient of
    ``where`` for them is exactly 0.
    """

    mask: Tensor
    constants: Tensor

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.register_buffer("mask", torch.zeros_like(weight, dtype=torch.bool, requires_grad=False))
        self.register_buffer("constants", torch.zeros_like(weight, requires_grad=False))

    def forward(self, weight: Tensor) -> Tensor:
        """Return the layer's weight."""
        return torch.where(self.mask, self.constants, weight)

    def freeze(self, fresh: Tensor, constants: Tensor) -> None:
        """Make the elements where ``fresh`` the ``constants``, in the order in which a mask selects them."""
        fresh = fresh.to(self.mask.device)
        self.constants[fresh] = constants
        self.mask |= fresh


def checked_bits(bits: int) -> int:
    """Return the width of INQ's codes as an int; raise ZeropointError unless it is an integer from 2 to 5."""
    try:
        number = operator.index(bits)
    except TypeError:
        number = 0
    if isinstance(bits, bool) or number not in (2, 3, 4, 5):
        raise ZeropointError(f"INQ's bits must be an integer from 2 to 5, not {bits!r}")
    return number


def _portions(portions: str | tuple[float, ...]) -> tuple[float, ...]:
    """Return the accumulated portions, checked; see :class:`Inq`."""
    if isinstance(portions, str):
        if portions not in SCHEDULES:
            raise ZeropointError(f"there is no schedule '{portions}'; there are {quoted_list(SCHEDULES, 20)}")
        return SCHEDULES[portions]
    try:
        checked = tuple(float(portion) for portion in portions)
    except (TypeError, ValueError) as error:
        raise ZeropointError(f"accumulated portions are numbers, not {portions!r}") from error
    ascending = all(low < high for low, high in zip((0.0, *checked), checked, strict=False))
    if not checked or not ascending or checked[-1] != 1:
        raise ZeropointError(f"accumulated portions ascend from above 0 and end in 1; {portions!r} do not")
    return checked


def _format(name: str, peak: float, bits: int) -> PowerOfTwoFormat:
    """Return the format of the layer ``name``, whose greatest weight is ``peak``."""
    try:
        return inq_format(peak, bits)
    except ValueError as error:
        raise ZeropointError(
            f"layer '{name}' has weights of up to {peak:.3g}, and INQ's least level must be from 2^-{EXPONENT_LIMIT} "
            f"to 2^{EXPONENT_LIMIT}; rescale the layer's weights"
        ) from error


def _difference(saved: list[Any], layers: list[str]) -> str:
    """Say in what the saved names of layers differ from those there are."""
    if absent := [name for name in layers if name not in saved]:
        return f"it has no layer '{absent[0]}'"
    if strange := [name for name in saved if name not in layers]:
        return f"it has a layer '{strange[0]}', which the model has not"
    return "its layers come in another order"


def _count(portion: float, weights: int) -> int:
    """Return how many of ``weights`` weights an accumulated portion is, halves rounded up: all if it is 1."""
    return floor(portion * weights + 0.5)


def _quantizable(model: nn.Module) -> dict[str, nn.Module]:
    """Return the layers of ``model`` that INQ quantizes, by name; raise ZeropointError if one cannot be."""
    layers = {name: module for name, module in model.named_modules() if isinstance(module, LAYERS)}
    if not layers:
        raise ZeropointError("the model has no convolution and no Linear layer of torch.nn, which INQ quantizes")
    users: dict[int, list[str]] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        users.setdefault(id(parameter), []).append(name)
    for name, layer in layers.items():
        if parametrize.is_parametrized(layer, "weight"):
            raise ZeropointError(f"layer '{name}' has a weight that is parametrized already")
        if not isinstance(layer.weight, nn.Parameter) or isinstance(layer.weight, nn.UninitializedParameter):
            raise ZeropointError(f"layer '{name}' has a weight that is no parameter, or one without a shape yet")
        if not layer.weight.is_floating_point():
            raise ZeropointError(f"layer '{name}' has weights of {layer.weight.dtype}; expected floats")
        if not layer.weight.numel():
            raise ZeropointError(f"layer '{name}' has no weights")
        sharing = users.get(id(layer.weight), [])
        # A module that is there under two names has its parameters there under two names as well.
        others = [user for user in sharing if model.get_submodule(user.rpartition(".")[0]) is not layer]
        if others:
            raise ZeropointError(f"layer '{name}' shares its weight with '{others[0]}'; INQ needs it to have its own")
    return layers


def _warn_of_others(model: nn.Module, layers: Mapping[str, nn.Module]) -> None:
    """Warn of the weights of ``model`` that are not those of ``layers``, the ones to be quantized."""
    own = {id(layer.weight) for layer in layers.values()}
    others = [
        name
        for name, parameter in model.named_parameters()
        # What has no shape yet belongs to a normalization: lazy layers are refused.
        if id(parameter) not in own
        and not isinstance(parameter, nn.UninitializedParameter)
        # Biases and normalizations have one dimension.
        and parameter.dim() > 1
        and parameter.is_floating_point()
    ]
    if others:
        warnings.warn(
            f"INQ leaves these weights floats, as it quantizes only convolutions and Linear layers of torch.nn: "
            f"{', '.join(others)}",
            UserWarning,
            stacklevel=3,
        )


def _frozen(layer: nn.Module) -> _Frozen:
    return layer.parametrizations["weight"][0]


def _values(weights: Tensor) -> npt.NDArray[np.float64]:
    """Return ``weights`` as float64, which holds every value of torch's float types."""
    return weights.detach().to("cpu", torch.float64).numpy()
