"""Small networks whose instructions are written by hand, and whose outputs are computed with NumPy.

What is expected knows nothing of loops, addresses and lanes: windows are NumPy's, and the arithmetic is the golden
model's.
"""

from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from support.gateware import packed
from support.host import Host
from zeropoint.numerics import requantize
from zeropoint_hw.accelerator import Accelerator, Rom
from zeropoint_hw.config import AcceleratorConfig, PEKind, WeightSource
from zeropoint_hw.isa import Accumulate, Instruction

Integers = npt.NDArray[np.int64]
Parameter = tuple[int, int, int]

_HALF = 1 << 30
#: A scaling that changes nothing.
_IDENTITY = (0, _HALF, 1)


class HandMade:
    """A network's weights and parameters as the accelerator holds them, and how a host loads and checks it."""

    #: Where activation tensors lie.
    places: ClassVar[dict[str, int]]

    def __init__(self, config: AcceleratorConfig, seed: int) -> None:
        self.config = config
        self.rng = np.random.default_rng(seed)
        self.words: list[Integers] = []
        self.parameters: list[Parameter] = []
        self.instructions = self.build()

    def build(self) -> list[Instruction]:
        """Draw weights and parameters, place them, and return the instructions."""
        raise NotImplementedError

    def tensors(self) -> tuple[Integers, ...]:
        """Return random inputs."""
        raise NotImplementedError

    async def give(self, host: Host, *inputs: Integers) -> None:
        """Write the inputs."""
        raise NotImplementedError

    def expected(self, *inputs: Integers) -> Integers:
        """Return the output, computed with NumPy."""
        raise NotImplementedError

    async def check(self, host: Host, *inputs: Integers) -> None:
        """Hold what the accelerator left for its output against :meth:`expected`."""
        expected = self.expected(*inputs)
        got = np.frombuffer(await host.read_bytes(self.places["output"], expected.size), np.int8)
        np.testing.assert_array_equal(got.reshape(expected.shape), expected)

    def accelerator(self) -> tuple[Accelerator, dict[str, Any]]:
        """Return the accelerator, and what :meth:`Host.load` must load into it."""
        program = [word for instruction in self.instructions for word in instruction.encode()]
        weights = np.array(self.words).astype(np.uint8)
        if self.config.weight_source is WeightSource.RAM:
            return Accelerator(self.config), {"program": program, "parameters": self.parameters, "weights": weights}
        return Accelerator(self.config, Rom(program, self.parameters, [packed(w.ravel(), 8) for w in weights])), {}

    def channels(self, count: int, scale: float) -> list[Parameter]:
        """Return random parameters of channels whose scale lies about ``scale``."""
        right = int(np.floor(-np.log2(scale)))
        bias = self.rng.integers(-3000, 3000, count).tolist()
        return list(zip(bias, self.rng.integers(_HALF, 1 << 31, count).tolist(), [-right] * count, strict=True))

    @staticmethod
    def scaled(sums: Integers, parameters: list[Parameter], zero_point: int) -> Integers:
        """Requantize sums whose last axis is the channel."""
        bias, multiplier, shift = np.array(parameters).T
        return requantize(sums + bias, multiplier, shift, zero_point, (-128, 127))

    def placed_weights(self, weights: Integers, fill: int, at_once: int) -> int:
        """Append weights (output channel, tap, run) to the words as the array consumes them; return their address."""
        lanes, columns = self.config.lanes, self.config.columns
        address = len(self.words)
        channels, taps, run = weights.shape
        for group in range(0, channels, at_once):
            for tap in range(taps):
                for chunk in range(0, run, lanes):
                    word = np.full((columns, lanes), fill)
                    part = weights[group : group + at_once, tap, chunk : chunk + lanes]
                    word[: part.shape[0], : part.shape[1]] = part
                    self.words.append(word)
        return address

    def placed_parameters(self, parameters: list[Parameter]) -> int:
        """Append channels, filled up to whole words; return the first word's address."""
        count = self.config.requantizers
        address = len(self.parameters) // count
        self.parameters += parameters
        self.parameters += [(0, 0, 0)] * (-len(self.parameters) % count)
        return address

    def weighted(
        self, weights: Integers, parameters: list[Parameter], input_zero: int, weight_zero: int, at_once: int
    ) -> dict[str, Any]:
        """Return the fields of a layer with weights (output channel, tap, run), ``at_once`` channels in a group."""
        lanes = self.config.lanes
        beats = -(-min(at_once, len(weights)) // self.config.requantizers)
        taps, run = weights.shape[1:]
        chunks = -(-run // lanes)
        if self.config.pe is PEKind.FOLD:
            # All of Σ(x − Zx)(w − Zw) that does not depend on x.
            unused = taps * (chunks * lanes - run)
            sums = weights.sum(axis=(1, 2)) + unused * weight_zero
            constant = taps * chunks * lanes * input_zero * weight_zero - input_zero * sums
            parameters = [
                (bias + int(c), multiplier, shift)
                for (bias, multiplier, shift), c in zip(parameters, constant, strict=True)
            ]
        return {
            "groups": -(-len(weights) // at_once),
            "beats": beats,
            "idle": max(0, beats - taps * chunks),
            "run": run,
            "input_zero_point": input_zero,
            "weight_zero_point": weight_zero,
            "pad_value": input_zero & 0xFF,
            "weight_base": self.placed_weights(weights, weight_zero, at_once),
            "parameter_base": self.placed_parameters(parameters),
            "output_channels": len(weights),
            "output_group_step": at_once,
        }

    def channelwise(self, channels: int, cycles: int, parameters: Parameter) -> dict[str, Any]:
        """Return the fields of a layer that passes lanes to columns, and takes ``cycles`` array cycles an output."""
        at_once = self.config.channels
        beats = -(-min(at_once, channels) // self.config.requantizers)
        return {
            "groups": -(-channels // at_once),
            "beats": beats,
            "idle": max(0, beats - cycles),
            "run": min(at_once, channels),
            "x_group_step": at_once,
            "weights_per_tap": 1,
            "weight_base": self.placed_weights(np.eye(at_once, dtype=np.int64)[:, None, :], 0, at_once),
            "parameters_shared": 1,
            "parameter_base": self.placed_parameters([parameters] * self.config.requantizers),
            "output_channels": channels,
            "output_group_step": at_once,
        }


class Network(HandMade):
    """Convolution with padding, max pooling, ADD, fully-connected: each reads what the one before wrote."""

    places: ClassVar[dict[str, int]] = {"input": 0, "conv": 64, "pool": 192, "other": 256, "sum": 320, "output": 384}
    zeros: ClassVar[dict[str, int]] = {"input": -11, "conv": 5, "other": -3, "sum": 9, "output": -20}
    dense_zero = 101
    add: ClassVar[dict[str, int]] = {"pair_multiplier": 1717986918, "pair_shift": 2}
    sum_parameters = (0, 1518500250, -17)

    def tensors(self) -> tuple[Integers, ...]:
        return self.rng.integers(-128, 128, (5, 4, 3)), self.rng.integers(-128, 128, (3, 2, 6))

    async def give(self, host: Host, *inputs: Integers) -> None:
        for name, tensor in zip(("input", "other"), inputs, strict=True):
            await host.write_bytes(self.places[name], tensor.ravel().tolist())

    def expected(self, *inputs: Integers) -> Integers:
        source, other = inputs
        zero = self.zeros
        x = np.pad(source - zero["input"], ((1, 1), (1, 1), (0, 0)))
        windows = np.lib.stride_tricks.sliding_window_view(x, (3, 3), axis=(0, 1))
        conv = self.scaled(np.einsum("yxcij,oijc->yxo", windows, self.conv_weights), self.conv_parameters, zero["conv"])
        padded = np.pad(conv, ((0, 1), (0, 0), (0, 0)), constant_values=-128)
        pool = padded.reshape(3, 2, 2, 2, 6).max(axis=(1, 3))
        halved = pool - zero["conv"] << 19
        product = (other - zero["other"] << 20) * self.add["pair_multiplier"] + (1 << 30) >> 31
        half_step = 1 << self.add["pair_shift"] - 1
        rest = product + half_step - (product < 0) >> self.add["pair_shift"]
        total = self.scaled(halved + rest, [self.sum_parameters] * 6, zero["sum"])
        dense = (total.ravel() - zero["sum"]) @ (self.dense_weights - self.dense_zero).T
        return self.scaled(dense, self.dense_parameters, zero["output"])

    def build(self) -> list[Instruction]:
        zero, places, columns = self.zeros, self.places, self.config.columns
        self.conv_weights = self.rng.integers(-127, 128, (6, 3, 3, 3))
        self.dense_weights = self.rng.integers(0, 256, (10, 36))
        self.conv_parameters = self.channels(6, 0.004)
        self.dense_parameters = self.channels(10, 0.002)
        conv = Instruction(
            **self.weighted(self.conv_weights.reshape(6, 3, 9), self.conv_parameters, zero["input"], 0, columns),
            rows=5,
            columns=4,
            taps_y=3,
            input_base=places["input"] - 12,
            input_row_step=12,
            input_tap_step=12,
            y_first=-1,
            y_row_step=1,
            y_tap_step=1,
            input_rows=5,
            x_first=-3,
            x_column_step=3,
            row_bytes=12,
            output_base=places["conv"],
            output_column_step=6,
            output_row_step=24,
            output_zero_point=zero["conv"],
        )
        pool = Instruction(
            **self.channelwise(6, 4, _IDENTITY),
            accumulate=Accumulate.MAX,
            pad_value=0x80,
            rows=3,
            columns=2,
            taps_y=2,
            taps_x=2,
            input_base=places["conv"],
            input_row_step=48,
            input_tap_step=24,
            y_row_step=2,
            y_tap_step=1,
            input_rows=5,
            x_column_step=12,
            x_tap_step=6,
            row_bytes=24,
            output_base=places["pool"],
            output_column_step=6,
            output_row_step=12,
        )
        add = Instruction(
            **self.channelwise(36, 2, self.sum_parameters),
            **self.add,
            accumulate=Accumulate.PAIR,
            pair_zero_point=zero["conv"],
            pair_other_zero_point=zero["other"],
            taps_y=2,
            input_base=places["pool"],
            input_tap_step=places["other"] - places["pool"],
            row_bytes=36,
            output_base=places["sum"],
            output_zero_point=zero["sum"],
        )
        dense_weights = self.dense_weights[:, None, :]
        dense = Instruction(
            **self.weighted(dense_weights, self.dense_parameters, zero["sum"], self.dense_zero, columns),
            end=1,
            weights_unsigned=1,
            input_base=places["sum"],
            row_bytes=36,
            output_base=places["output"],
            output_zero_point=zero["output"],
        )
        return [conv, pool, add, dense]


class DenseNetwork(HandMade):
    """Two fully-connected layers; the first word that the second reads holds the last outputs that the first writes."""

    places: ClassVar[dict[str, int]] = {"input": 0, "hidden": 133, "output": 150}
    zeros: ClassVar[dict[str, int]] = {"input": -11, "hidden": 5, "output": -20}
    dense_zero = 7

    def tensors(self) -> tuple[Integers, ...]:
        return (self.rng.integers(-128, 128, self.first_weights.shape[1]),)

    async def give(self, host: Host, *inputs: Integers) -> None:
        await host.write_bytes(self.places["input"], inputs[0].tolist())

    def expected(self, *inputs: Integers) -> Integers:
        sums = self.first_weights @ (inputs[0] - self.zeros["input"])
        hidden = self.scaled(sums, self.first_parameters, self.zeros["hidden"])
        sums = (self.second_weights - self.dense_zero) @ (hidden - self.zeros["hidden"])
        return self.scaled(sums, self.second_parameters, self.zeros["output"])

    def build(self) -> list[Instruction]:
        lanes = self.config.lanes
        # The first takes long enough for the second one to be fetched meanwhile.
        self.first_weights = self.rng.integers(-127, 128, (lanes, 16 * lanes))
        self.second_weights = self.rng.integers(-120, 128, (lanes, lanes))
        self.first_parameters = self.channels(lanes, 0.001)
        self.second_parameters = self.channels(lanes, 0.004)
        first = self.dense(self.first_weights, self.first_parameters, 0, "input", "hidden")
        second = self.dense(self.second_weights, self.second_parameters, self.dense_zero, "hidden", "output", end=1)
        return [first, second]

    def dense(
        self, weights: Integers, parameters: list[Parameter], weight_zero: int, source: str, target: str, end: int = 0
    ) -> Instruction:
        """Return a fully-connected layer from one tensor to another."""
        fields = self.weighted(weights[:, None, :], parameters, self.zeros[source], weight_zero, self.config.columns)
        return Instruction(
            **fields,
            end=end,
            input_base=self.places[source],
            row_bytes=weights.shape[1],
            output_base=self.places[target],
            output_zero_point=self.zeros[target],
        )


class SlidingNetwork(HandMade):
    """A first layer that reads two kernel rows at once and pools its outputs, and a depthwise layer with a window."""

    #: Bytes from one row of the input to the next: such that the second kernel row is whole rows of lanes further on.
    PITCH = 11
    places: ClassVar[dict[str, int]] = {"input": 20, "pool": 96, "output": 160, "swapped": 205}
    zeros: ClassVar[dict[str, int]] = {"input": 17, "pool": -9, "output": 3}

    def tensors(self) -> tuple[Integers, ...]:
        return (self.rng.integers(-128, 128, (6, 6)),)

    async def give(self, host: Host, *inputs: Integers) -> None:
        for row, values in enumerate(inputs[0].tolist()):
            # What lies between the rows is not the network's.
            gap = self.rng.integers(256, size=self.PITCH - 6).tolist()
            await host.write_bytes(self.places["input"] + row * self.PITCH, values + gap)

    def expected(self, *inputs: Integers) -> Integers:
        zero = self.zeros
        x = np.pad(inputs[0] - zero["input"], 1)
        windows = np.lib.stride_tricks.sliding_window_view(x, (3, 3))
        conv = self.scaled(np.einsum("yxij,oij->yxo", windows, self.weights), self.parameters_in, zero["pool"])
        pool = conv.reshape(3, 2, 3, 2, 5).max(axis=(1, 3))
        padded = np.pad(pool - zero["pool"], ((1, 1), (1, 1), (0, 0)))
        windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(0, 1))
        sums = np.einsum("yxcij,ijc->yxc", windows, self.depthwise - self.depthwise_zero)
        return np.stack([self.scaled(sums, self.parameters_out, zero["output"])] * 2)

    def build(self) -> list[Instruction]:
        config, zero, places = self.config, self.zeros, self.places
        assert (self.PITCH - 3) % config.lanes == 0
        assert config.window_taps == 3
        self.weights = self.rng.integers(-127, 128, (5, 3, 3))
        self.parameters_in, self.parameters_out = self.channels(5, 0.004), self.channels(5, 0.004)
        self.depthwise = self.rng.integers(-128, 128, (3, 3, 5))
        # With fold, the term of the weights' zero point would differ from column to column.
        self.depthwise_zero = 0 if config.pe is PEKind.FOLD else -21
        pairs = np.pad(self.weights, ((0, 0), (0, 1), (0, 0))).reshape(5, 2, 6)
        first = Instruction(
            **self.weighted(pairs, self.parameters_in, zero["input"], 0, config.columns) | {"run": 3},
            paired_rows=1,
            pair_step=self.PITCH - 3,
            rows=3,
            columns=3,
            pool_rows=2,
            pool_columns=2,
            taps_y=2,
            input_base=places["input"] - self.PITCH,
            input_row_step=2 * self.PITCH,
            input_pool_step=self.PITCH,
            input_tap_step=2 * self.PITCH,
            y_first=-1,
            y_row_step=2,
            y_pool_step=1,
            y_tap_step=2,
            input_rows=6,
            x_first=-1,
            x_column_step=2,
            x_pool_step=1,
            row_bytes=6,
            output_base=places["pool"],
            output_column_step=5,
            output_row_step=15,
            output_zero_point=zero["pool"],
        )
        return [first, self.swept("output", down=False), self.swept("swapped", down=True, end=1)]

    def swept(self, target: str, down: bool, **more: Any) -> Instruction:
        """Return the depthwise layer, its window sliding along the rows or down the feature map."""
        channels = self.config.channels
        # Channel, word, lane: a word for each kernel row (or column), whose lanes hold its three columns (or rows).
        taps = self.depthwise.transpose((2, 1, 0) if down else (2, 0, 1))
        fields = self.weighted(taps, self.parameters_out, self.zeros["pool"], self.depthwise_zero, channels) | more
        fields |= {"run": min(channels, 5), "x_group_step": channels, "window": 1, "warmup": 1}
        if down:
            fields |= {"swap_axes": 1, "taps_x": 3, "x_tap_step": 5, "x_first": -5}
            fields |= {"output_column_step": 15, "output_row_step": 5}
        else:
            fields |= {"taps_y": 3, "y_tap_step": 1, "input_tap_step": 15, "y_first": -1}
            fields |= {"output_column_step": 5, "output_row_step": 15}
        return Instruction(
            **fields,
            rows=3,
            # A position before the first output brings its older taps into the history.
            columns=4,
            input_base=self.places["pool"] + 15 * fields.get("y_first", 0),
            input_row_step=15,
            y_row_step=1,
            input_rows=3,
            x_column_step=5,
            row_bytes=15,
            output_base=self.places[target],
            output_zero_point=self.zeros["output"],
        )
