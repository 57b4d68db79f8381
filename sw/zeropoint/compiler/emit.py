"""What lowering collects, and the instruction fields that many layers have in common."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from zeropoint.arithmetic import Scaling
from zeropoint.compiler.encode import Codes, encode
from zeropoint.compiler.pacing import drain_cycles
from zeropoint.compiler.pack import Words, gather, ones, spread
from zeropoint.compiler.powers import HALF
from zeropoint.errors import ZeropointError
from zeropoint.model import Operator, Padding, Shape, Tensor
from zeropoint.numerics import Integers, Rounding
from zeropoint_hw.config import AcceleratorConfig, PEKind, RequantizerKind
from zeropoint_hw.isa import Gate, Instruction, Round

#: How the instruction names a model's rounding.
ROUND = {Rounding.DOUBLE: Round.DOUBLE, Rounding.SINGLE: Round.SINGLE, Rounding.EVEN: Round.EVEN}

NO_PADDING = Padding()

#: The multiplier and shift that change no sum below 2^30: x · (2^31 − 1) / 2^31 lies less than 1/2 from x; and those
#: of requantizers that only shift.
IDENTITY = Scaling(np.asarray((1 << 31) - 1), np.asarray(0))
SHIFT_IDENTITY = Scaling(np.asarray(HALF), np.asarray(1))


#: The same for minifloats, whose multiplier is their bias' left shift.
UNSCALED = Scaling(np.asarray(0), np.asarray(0))


@dataclass
class Emitter:
    """Collects what the layers of a program need, in order."""

    config: AcceleratorConfig
    instructions: list[Instruction] = field(default_factory=list)
    weight_words: list[Codes] = field(default_factory=list)
    biases: list[int] = field(default_factory=list)
    multipliers: list[int] = field(default_factory=list)
    shifts: list[int] = field(default_factory=list)
    tables: list[bytes] = field(default_factory=list)
    _stored: dict[object, int] = field(default_factory=dict)
    _words: int = 0

    def add_weights(
        self,
        words: Words,
        values: Integers | None = None,
        operator: Operator | None = None,
        unsigned: bool = False,
        coded: bool = False,
    ) -> int:
        """Append weight words and return the address of the first.

        Parameters
        ----------
        words
            Integers ``(words, columns · lanes)``.
        values
            The weights among them, without what fills the words; None if all are the compiler's own.
        operator
            Whose weights they are, if they are an operator's.
        unsigned, coded
            As :func:`encode` takes them.
        """
        address, config = self._words, self.config
        try:
            if values is not None:
                encode(config, values, unsigned=unsigned, coded=coded, gated=False)
            codes = encode(config, words, unsigned=unsigned, coded=coded, gated=True)
        except ValueError as error:
            whose = "constants" if operator is None else f"operator '{operator.name}' ({operator.kind})"
            zero = "" if config.weight_zero else " --no-weight-zero"
            raise ZeropointError(
                f"{whose}: {error}, with --pe {config.pe} --weight-bits {config.weight_bits}{zero}; leave these "
                f"options out, so that the network's weights decide"
            ) from None
        self.weight_words.append(codes)
        self._words += len(words)
        return address

    def ones(self) -> int:
        """Return the address of the word that passes lanes to columns; it is stored once."""
        return self._once("ones", lambda: self.add_weights(ones(self.config)))

    def spread(self) -> int:
        """Return the address of the word that passes the first lane to all columns; it is stored once."""
        return self._once("spread", lambda: self.add_weights(spread(self.config)))

    def gather(self, count: int) -> int:
        """Return the address of words that pass the first lane to a column each; they are stored once."""
        return self._once(("gather", count), lambda: self.add_weights(gather(self.config, count)))

    def gate(self, gate: Gate) -> Gate:
        """Return what keeps lanes from columns whose weights for them are 0, where weights have no code for that."""
        return Gate.ALL if self.config.weight_zero else gate

    def identity(self) -> int:
        """Return the address of the parameters that change nothing; they are stored once."""
        scaling = UNSCALED if self.config.pe is PEKind.MINIFLOAT else IDENTITY
        if self.config.requantizer is RequantizerKind.SHIFT:
            scaling = SHIFT_IDENTITY
        return self._once("identity", lambda: self.add_shared_parameters(scaling))

    def _once(self, key: object, add: Callable[[], int]) -> int:
        if key not in self._stored:
            self._stored[key] = add()
        return self._stored[key]

    def add_parameters(self, bias: Integers, multiplier: Integers, shift: Integers) -> int:
        """Append channels' parameters, filled up to whole words, and return the address of the first word."""
        address = len(self.biases) // self.config.requantizers
        self.biases += bias.tolist()
        self.multipliers += multiplier.tolist()
        self.shifts += shift.tolist()
        # How long a serial requantizer takes is known of beats beyond the last channel, too.
        serial = self.config.requantizer is RequantizerKind.SERIAL
        whole = self.config.columns if serial and len(bias) > self.config.columns else self.config.requantizers
        missing = -len(bias) % whole
        for values in (self.biases, self.multipliers, self.shifts):
            values += [0] * missing
        return address

    def add_shared_parameters(self, scaling: Scaling, bias: int = 0) -> int:
        """Append one word in which every requantizer has the same parameters, and return its address."""
        count = self.config.requantizers
        return self.add_parameters(
            np.full(count, bias), np.full(count, int(scaling.multiplier)), np.full(count, int(scaling.shift))
        )

    def accumulate_up_to(self, worst: int, operator: Operator) -> None:
        """Refuse an operator whose sums may become too great for the accumulators.

        With 32 bits anything does, but for minifloats: modulo 2^32 is what the arithmetic of integers defines.
        """
        width, widest = self.config.accumulator_width, self.config.accumulator_widths[-1]
        wraps = self.config.pe is not PEKind.MINIFLOAT
        if worst < 1 << width - 1 or (wraps and width == widest):
            return
        needed = worst.bit_length() + 1
        advice = f"--accumulator-width {min(widest, needed)} makes room"
        if needed > widest and not wraps:
            advice = f"none has more than {widest}: quantize with fewer exponent bits"
        raise ZeropointError(
            f"operator '{operator.name}' ({operator.kind}): sums reach ±{worst}, beyond an accumulator "
            f"of {width} bits; {advice}"
        )

    def shift_left(self, worst: int, shift: int, rounding: Rounding, operator: Operator) -> None:
        """Refuse sums up to ``worst`` that a single rounding's left shift would lose.

        Double rounding's wraps by definition, and sums that are wider than int32 do not wrap.
        """
        if rounding is Rounding.DOUBLE or self.config.element_bits != 8 or worst << max(shift, 0) < 1 << 31:
            return
        raise ZeropointError(
            f"operator '{operator.name}' ({operator.kind}): rounded once, sums up to ±{worst} shifted left by {shift} "
            f"must fit 32 bits; quantize the output '{operator.output}' more coarsely"
        )

    def add_table(self, outputs: Integers, dtype: str, operator: Operator) -> int:
        """Return the number of the table with these outputs for the 256 bytes; equal ones are stored once."""
        table = outputs.astype(dtype).tobytes()
        if table not in self.tables:
            most = self.config.memories["tables"][2]
            if len(self.tables) == most:
                raise ZeropointError(
                    f"operator '{operator.name}' ({operator.kind}) needs a table more than the {most} that an "
                    f"accelerator can have; use fewer of its kind, or more of one scale"
                )
            self.tables.append(table)
        return self.tables.index(table) + 1

    def emit(self, group_channels: int | None = None, **fields: Any) -> None:
        """Append an instruction; its beats and idle cycles follow from the rest.

        Parameters
        ----------
        group_channels
            Channels of a group, where its step is not that.
        """
        instruction = Instruction(**fields)
        channels = group_channels or min(instruction.output_group_step, instruction.output_channels)
        beats = -(-channels // self.config.requantizers)
        cycles = instruction.taps_y * instruction.taps_x * -(-instruction.run // self.config.lanes)
        # The next output follows in the same row, or in the next one, which may begin with it sooner.
        positions = min(instruction.emit_every, instruction.warmup + 1)
        instruction = replace(instruction, beats=beats)
        idle = max(0, drain_cycles(self.config, instruction, self.shifts) - positions * cycles)
        if idle >> self.config.idle_bits:
            raise ZeropointError(
                f"an output waits {idle} cycles for {self.config.requantizers} requantizers, more than an instruction "
                f"can say; choose more --requantizers, or more --digit-bits"
            )
        self.instructions.append(replace(instruction, idle=idle))


@dataclass(frozen=True)
class Place:
    """An activation tensor in memory, as a feature map; a vector is one pixel.

    Attributes
    ----------
    tensor
        The tensor.
    address
        Of its first byte.
    row_pitch
        Bytes from one row to the next.
    column_gap
        Bytes from a pixel's end to the next one in the row: other tensors' channels, where they lie in one.
    """

    tensor: Tensor
    address: int
    row_pitch: int
    column_gap: int = 0

    @property
    def map_shape(self) -> tuple[int, int, int]:
        """Height, width, channels."""
        return map_shape(self.tensor.shape)

    @property
    def column_pitch(self) -> int:
        """Bytes from one pixel of a row to the next."""
        return self.map_shape[2] + self.column_gap

    def reshaped(self, shape: Shape) -> "Place":
        """Return the same bytes, which must be without gaps, as a tensor of another shape."""
        _, columns, channels = map_shape(shape)
        return replace(self, tensor=replace(self.tensor, shape=shape), row_pitch=columns * channels)


def map_shape(shape: Shape) -> tuple[int, int, int]:
    """Return a tensor's shape as a feature map's: anything but one is one pixel."""
    return (shape[0], shape[1], shape[2]) if len(shape) == 3 else (1, 1, int(np.prod(shape)))


def flat(place: Place) -> Place:
    """Return a tensor without gaps between pixels as rows of single ones, for layers that treat all values alike."""
    rows, columns, channels = place.map_shape
    return replace(place, tensor=replace(place.tensor, shape=(rows, 1, columns * channels)))


def output_fields(target: Place, clamp: tuple[int, int], channels_at_once: int) -> dict[str, Any]:
    """Return the fields that say what is written where."""
    rows, columns, channels = target.map_shape
    return {
        "clamp_low": clamp[0],
        "clamp_high": clamp[1],
        "output_zero_point": target.tensor.zero_point,
        "rows": rows,
        "columns": columns,
        "groups": -(-channels // channels_at_once),
        "output_channels": channels,
        "output_base": target.address,
        "output_group_step": channels_at_once,
        "output_column_step": target.column_pitch,
        "output_row_step": target.row_pitch,
    }


def input_fields(
    source: Place,
    stride: tuple[int, int] = (1, 1),
    dilation: tuple[int, int] = (1, 1),
    padding: Padding = NO_PADDING,
) -> dict[str, Any]:
    """Return the fields that move a window over a feature map."""
    rows, columns, channels = source.map_shape
    return {
        "input_unsigned": int(source.tensor.dtype == "uint8"),
        "input_rows": rows,
        "row_bytes": columns * channels,
        "input_base": source.address - padding.top * source.row_pitch,
        "input_row_step": stride[0] * source.row_pitch,
        "input_tap_step": dilation[0] * source.row_pitch,
        "y_first": -padding.top,
        "y_row_step": stride[0],
        "y_tap_step": dilation[0],
        "x_first": -padding.left * channels,
        "x_column_step": stride[1] * channels,
        "x_tap_step": dilation[1] * channels,
    }


def as_element(value: int, tensor: Tensor) -> int:
    """Return an activation of a tensor as the bits that stand for it."""
    return value & (1 << 8 * np.dtype(tensor.dtype).itemsize) - 1
