"""A network's operations, followed by ``torch.fx``, as the steps of quantization-aware training.

Batch normalizations and activations become part of the step before them; an activation behind a maximum pooling that
follows a layer moves before the pooling, which changes nothing. What only moves values stays as it is.
"""

import operator
from collections.abc import Callable, Mapping
from functools import partial
from math import inf
from typing import Any

import torch
from torch import fx, nn
from torch.nn import functional as F

from zeropoint.errors import ZeropointError
from zeropoint.model import Clamp
from zeropoint.train.fake_quantize import Quantizer
from zeropoint.train.qat_layer import Layer
from zeropoint.train.qat_steps import AveragePool, GlobalMean, Input, Moved, Step, Sum

#: ``new_quantizer(name, positive)`` returns the quantizer of an activation.
NewQuantizer = Callable[[str, bool], Quantizer]

_LAYERS = (nn.Conv1d, nn.Conv2d, nn.Linear)
_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d)
_RELU, _RELU6 = Clamp(0.0, inf), Clamp(0.0, 6.0)
_CLAMPS = {F.relu: _RELU, torch.relu: _RELU, torch.relu_: _RELU, "relu": _RELU, "relu_": _RELU, F.relu6: _RELU6}
_HARDTANHS = (F.hardtanh, F.hardtanh_)
_SUMS = (operator.add, operator.iadd, torch.add, "add", "add_")
_MEANS = (torch.mean, "mean")
_MAX_POOLS = (F.max_pool1d, F.max_pool2d, torch.max_pool1d, torch.max_pool2d)
#: What passes values on in training, or in evaluation, or in both; and what only gives them another shape.
_PASSING = (nn.Identity, nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.AlphaDropout, nn.Flatten, nn.Unflatten)
_RESHAPING = (torch.flatten, torch.reshape, torch.squeeze, torch.unsqueeze)
_RESHAPING_METHODS = ("flatten", "view", "reshape", "squeeze", "unsqueeze", "contiguous")
_SUPPORTED = (
    "Conv1d, Conv2d and Linear layers, BatchNorm behind them, ReLU, ReLU6, Hardtanh, sums of two activations, "
    "MaxPool, AvgPool2d, means over all of a feature map, Dropout, Flatten and reshapes"
)


def prepare(model: nn.Module, new_quantizer: NewQuantizer) -> fx.GraphModule:
    """Return what ``model`` computes as a graph of :class:`~zeropoint.train.qat_steps.Step`.

    Parameters and buffers are those of ``model`` itself, which stays as it is.

    Raises
    ------
    ZeropointError
        If torch.fx cannot follow the network, or an operation cannot be quantized.
    """
    tracer = fx.Tracer()
    try:
        graph = tracer.trace(model)
    except Exception as error:
        # Anything can come out of somebody's forward.
        reason = str(error).strip().partition("\n")[0]
        raise ZeropointError(
            f"torch.fx cannot follow the network: {reason}; its forward must do the same whatever the values are"
        ) from error
    modules = dict(model.named_modules())
    builder = _Builder(modules, new_quantizer)
    for node in graph.nodes:
        builder.add(node)
    result = fx.GraphModule(builder.modules, builder.graph)
    result.train(model.training)
    return result


class _Builder:
    """Makes the new graph, node after node of the old one.

    Attributes
    ----------
    graph
        The new graph, so far.
    modules
        What its nodes call, by target.
    """

    def __init__(self, modules: Mapping[str, nn.Module], new_quantizer: NewQuantizer) -> None:
        self._old, self._new_quantizer = modules, new_quantizer
        self._nodes: dict[fx.Node, fx.Node] = {}
        # Of those old nodes that are activations.
        self._quantizers: dict[fx.Node, Quantizer] = {}
        # Activations that moved before the pooling that they take.
        self._poolings: dict[fx.Node, fx.Node] = {}
        self.graph = fx.Graph()
        self.modules: dict[str, Any] = {}

    def add(self, node: fx.Node) -> None:
        """Add what a node of the old graph becomes, unless it is part of a step already."""
        if node in self._nodes:
            return
        if node.op == "placeholder":
            self._input(node)
        elif node.op == "output":
            self._end(node)
        elif pooling := self._poolings.get(node):
            self._nodes[node], self._quantizers[node] = self._nodes[pooling], self._quantizers[pooling]
        elif node.op == "get_attr":
            raise ZeropointError(f"the network computes with '{node.target}' itself; put it into a layer of torch.nn")
        elif not any(argument in self._quantizers for argument in node.all_input_nodes):
            # Arithmetic with sizes; there are no other inputs.
            self._copy(node)
        else:
            self._operation(node)

    def _input(self, node: fx.Node) -> None:
        if self._nodes:
            raise ZeropointError(f"the network takes '{node.target}' besides its input; only one input is supported")
        self._nodes[node] = self.graph.node_copy(node)
        quantizer = self._new_quantizer(node.name, False)
        self._quantizers[node] = quantizer
        self._step(node, self._name(node), partial(Input, sources=(), output=quantizer, clamp=Clamp()), (node,))

    def _end(self, node: fx.Node) -> None:
        (result,) = node.args
        if not isinstance(result, fx.Node) or result not in self._quantizers:
            raise ZeropointError("the network returns something else than one activation; only that is supported")
        self.graph.output(self._nodes[result])

    def _operation(self, node: fx.Node) -> None:
        called: Any = self._old[str(node.target)] if node.op == "call_module" else node.target
        kind = type(called) if node.op == "call_module" else called
        if isinstance(called, _LAYERS):
            self._layer(node, called)
        elif (clamp := self._clamp(node)) is not None:
            self._moved(node, _same, clamp)
        elif kind in _SUMS:
            self._sum(node)
        elif (
            kind in _MEANS
            or isinstance(called, nn.AdaptiveAvgPool1d | nn.AdaptiveAvgPool2d)
            or (kind in (F.adaptive_avg_pool1d, F.adaptive_avg_pool2d))
        ):
            self._mean(node, called)
        elif isinstance(called, nn.AvgPool2d) or kind is F.avg_pool2d:
            self._average(node, called)
        elif self._is_max_pool(node):
            module = self._module(node)
            if module is not None and module.return_indices:
                raise _refused(node, called, "returns indices")
            self._moved(node, module or partial(_with_first, called, node.args[1:], dict(node.kwargs)))
        elif kind is F.dropout:
            # Tracing has made a constant of whether it is training.
            self._dropout(node)
        elif isinstance(called, _PASSING) or kind in _RESHAPING or kind in _RESHAPING_METHODS:
            self._copy(node)
            self._quantizers[node] = self._source(node, called)
        elif kind in ("size", "dim") or (kind is getattr and node.args[1] == "shape"):
            self._copy(node)
        elif isinstance(called, _NORMS):
            raise _refused(node, called, "is not the only one to take the output of a layer, and cannot be folded")
        else:
            raise _refused(node, called, f"is not supported; supported are {_SUPPORTED}")

    def _layer(self, node: fx.Node, layer: Any) -> None:
        source, last, norm = self._source(node, layer), node, None
        follower = _sole_user(last)
        if follower is not None and isinstance(module := self._module(follower), _NORMS):
            last, norm = follower, module
        last, clamp = self._fused(last)
        follower = _sole_user(last)
        if follower is not None and clamp == Clamp() and self._is_max_pool(follower):
            activation, clamp = self._fused(follower)
            if activation is not follower:
                self._poolings[activation] = follower
        name = self._name(node)
        output = self._new_quantizer(name, clamp.low >= 0)
        make = partial(Layer, source=source, output=output, layer=layer, norm=norm, clamp=clamp)
        self._step(node, name, make, (node.args[0],), last)

    def _sum(self, node: fx.Node) -> None:
        if len(node.args) != 2 or node.kwargs or any(argument not in self._quantizers for argument in node.args):
            raise _refused(node, node.target, "adds something else than two activations")
        last, clamp = self._fused(node)
        name = self._name(node)
        sources = [self._quantizers[argument] for argument in node.args]
        output = self._new_quantizer(name, clamp.low >= 0)
        self._step(node, name, partial(Sum, sources=sources, output=output, clamp=clamp), node.args, last)

    def _mean(self, node: fx.Node, called: Any) -> None:
        if called in _MEANS:
            dims = node.args[1] if len(node.args) > 1 else node.kwargs.get("dim")
            keep = node.args[2] if len(node.args) > 2 else node.kwargs.get("keepdim", False)
            found = (dims,) if isinstance(dims, int) else tuple(dims or ())
            axes = 1 if found in ((2,), (-1,)) else 2 if found in ((2, 3), (-2, -1)) else 0
        else:
            size = called.output_size if isinstance(called, nn.Module) else node.args[1]
            name = type(called).__name__ if isinstance(called, nn.Module) else called.__name__
            axes, keep = (1 if name.endswith("1d") else 2), True
            axes = axes if size in (1, (1,), (1, 1), [1, 1]) else 0
        if not axes:
            raise _refused(node, called, "averages over something else than all of a feature map")
        name, source = self._name(node), self._source(node, called)
        output = self._new_quantizer(name, source.positive)
        make = partial(GlobalMean, sources=(source,), output=output, axes=axes, keep=bool(keep))
        self._step(node, name, make, (node.args[0],))

    def _average(self, node: fx.Node, called: Any) -> None:
        names = ("kernel_size", "stride", "padding", "ceil_mode", "count_include_pad", "divisor_override")
        given = {name: getattr(called, name, None) for name in names} if isinstance(called, nn.Module) else {}
        given = given or dict(zip(names, node.args[1:], strict=False)) | dict(node.kwargs)
        if given.get("padding") not in (None, 0, (0, 0)) or given.get("ceil_mode") or given.get("divisor_override"):
            raise _refused(node, called, "pads, rounds sizes up or divides by another number")
        window, stride = given["kernel_size"], given.get("stride") or given["kernel_size"]
        name = self._name(node)
        make = partial(AveragePool, source=self._source(node, called), window=window, stride=stride)
        self._step(node, name, make, (node.args[0],))

    def _moved(self, node: fx.Node, function: Callable[[Any], Any], clamp: Clamp | None = None) -> None:
        name = self._name(node)
        source = self._source(node, node.target)
        make = partial(Moved, source=source, function=function, clamp=Clamp() if clamp is None else clamp)
        self._step(node, name, make, (node.args[0],))

    def _dropout(self, node: fx.Node) -> None:
        probability = node.args[1] if len(node.args) > 1 else node.kwargs.get("p", 0.5)
        name = self._name(node)
        self.modules[name] = nn.Dropout(float(probability))
        self._nodes[node] = self.graph.call_module(name, (self._nodes[node.args[0]],))
        self._quantizers[node] = self._source(node, node.target)

    def _copy(self, node: fx.Node) -> None:
        self._nodes[node] = self.graph.node_copy(node, lambda argument: self._nodes[argument])
        if node.op == "call_module":
            self.modules[str(node.target)] = self._old[str(node.target)]

    def _step(
        self, node: fx.Node, name: str, make: Callable[..., Step], inputs: Any, last: fx.Node | None = None
    ) -> None:
        """Add a step for ``node``, and for all up to ``last`` that became part of it."""
        step = self.modules[name] = make(name=name)
        made = self.graph.call_module(name, tuple(self._nodes[argument] for argument in inputs))
        last = node if last is None else last
        while node is not last:
            self._nodes[node] = made
            (node,) = node.users
        self._nodes[last] = made
        self._quantizers[last] = step.output

    def _fused(self, node: fx.Node) -> tuple[fx.Node, Clamp]:
        """Return the activation behind a node, if it alone takes its output, and how it clamps; or the node itself."""
        follower = _sole_user(node)
        clamp = None if follower is None else self._clamp(follower)
        return (node, Clamp()) if follower is None or clamp is None else (follower, clamp)

    def _clamp(self, node: fx.Node) -> Clamp | None:
        """Return how a node clamps, if it is an activation."""
        module = self._module(node)
        if isinstance(module, nn.ReLU):
            return _RELU
        low: Any
        high: Any
        if isinstance(module, nn.Hardtanh):  # ReLU6 is one of these.
            low, high = module.min_val, module.max_val
        elif node.target in _HARDTANHS:
            given = {"min_val": -1.0, "max_val": 1.0}
            given |= dict(zip(given, node.args[1:], strict=False)) | dict(node.kwargs)
            low, high = given["min_val"], given["max_val"]
        else:
            return _CLAMPS.get(node.target) if node.op != "call_module" else None
        called = node.target if module is None else module
        if not isinstance(low, int | float) or not isinstance(high, int | float):
            raise _refused(node, called, "clamps to limits that are not numbers")
        if not low <= 0 < high:
            raise _refused(node, called, "clamps to an interval without 0")
        return Clamp(float(low), float(high))

    def _module(self, node: fx.Node) -> nn.Module | None:
        return self._old[str(node.target)] if node.op == "call_module" else None

    def _source(self, node: fx.Node, called: object) -> Quantizer:
        """Return the quantizer of a node's first input, which must be an activation, and the only one."""
        activations = [argument for argument in node.all_input_nodes if argument in self._quantizers]
        if not node.args or activations != [node.args[0]]:
            raise _refused(node, called, "has not one activation, its first argument")
        return self._quantizers[activations[0]]

    def _is_max_pool(self, node: fx.Node) -> bool:
        return isinstance(self._module(node), nn.MaxPool1d | nn.MaxPool2d) or node.target in _MAX_POOLS

    def _name(self, node: fx.Node) -> str:
        """Return a name for a step: the module's where there is one, and it is called for the first time."""
        base = name = str(node.target) if node.op == "call_module" else node.name
        count = 0
        while name in self.modules or (name in self._old and (node.op != "call_module" or count)):
            count += 1
            name = f"{base}_{count}"
        return name


def _sole_user(node: fx.Node) -> fx.Node | None:
    """Return what takes a node's output, if that is one operation on nothing else."""
    users = list(node.users)
    return users[0] if len(users) == 1 and users[0].all_input_nodes == [node] else None


def _same(x: Any) -> Any:
    return x


def _with_first(function: Callable[..., Any], rest: tuple[Any, ...], named: dict[str, Any], x: Any) -> Any:
    return function(x, *rest, **named)


def _refused(node: fx.Node, called: object, why: str) -> ZeropointError:
    kind = type(called).__name__ if isinstance(called, nn.Module) else getattr(called, "__name__", str(called))
    name = node.target if node.op == "call_module" else node.name
    return ZeropointError(f"operation '{name}' ({kind}) {why}")
