"""The configuration of an accelerator: one frozen, validated object."""

from dataclasses import asdict, dataclass, fields
from enum import StrEnum
from typing import Any

from zeropoint_hw.isa import IDLE_BITS, INSTRUCTION_WORDS


class PEKind(StrEnum):
    """The kind of processing element in the array."""

    #: ``(x − Zx) · (w − Zw)``: both zero points are subtracted in the datapath.
    MAC = "mac"
    #: ``x · w``: the zero-point terms are folded into the bias by the compiler; the one term that depends on the data,
    #: ``Zw · Σx``, is subtracted once an output.
    FOLD = "fold"
    #: ``(x − Zx) · ±2^e``, shifted rather than multiplied: for weights that are powers of two.
    SHIFT = "shift"
    #: ``mac`` for some layers, and for others weights that are powers of two, in codes.
    MIXED = "mixed"
    #: ``x · w`` of small floating-point numbers, added up exactly.
    MINIFLOAT = "minifloat"


class RequantizerKind(StrEnum):
    """How the requantizers scale."""

    #: By any multiplier: a 32-bit product, then a shift.
    MULTIPLIER = "multiplier"
    #: By powers of two only: a shift.
    SHIFT = "shift"
    #: By any multiplier, some of its bits a cycle: no DSP blocks, and several cycles for an output.
    SERIAL = "serial"


class WeightSource(StrEnum):
    """Where program, parameters and weights come from."""

    #: Loaded by the host into memories that it can write.
    RAM = "ram"
    #: Initial contents of memories that nothing writes.
    ROM = "rom"
    #: Built in, but for the weights, which are copied from a SPI flash at start.
    FLASH = "flash"


class WeightStore(StrEnum):
    """Where weights lie while a program runs."""

    #: In a memory of their own, whose words are as wide as the array.
    WIDE = "wide"
    #: At the end of the activation memory, from which they are fetched into a buffer.
    SHARED = "shared"
    #: In a SPI flash, from which they are streamed into a buffer.
    FLASH = "flash"


#: The fields that are a choice; all others are integers.
_CHOICES: dict[str, type[StrEnum]] = {
    "pe": PEKind,
    "requantizer": RequantizerKind,
    "weight_source": WeightSource,
    "weight_store": WeightStore,
}


#: The widest codes of powers of two that PEs take: 0 or not, the sign, and an exponent of 3 bits.
CODE_BITS = 5

#: Bits that a weight may have, by the kind of PE, the default first; codes without a 0 have one less.
WEIGHT_BITS = {
    PEKind.MAC: (8, 7, 6, 5, 4, 3, 2),
    PEKind.FOLD: (8, 7, 6, 5, 4, 3, 2),
    PEKind.SHIFT: (CODE_BITS, 4, 3, 2),
    PEKind.MIXED: (8,),
    PEKind.MINIFLOAT: (8, 7, 6, 5, 4, 3, 2),
}

#: Bits that an accumulator of integers may have.
_INTEGER_WIDTHS = range(20, 33)

#: The other width of activations, and what accumulators then may have: ADD sets two activations side by side.
WIDE_BITS = 16
_WIDE_WIDTHS = range(36, 49)

#: The most bits of a multiplier that a serial requantizer takes in a cycle.
_DIGIT_BITS = 8

#: Bits of a multiplier.
MULTIPLIER_BITS = 31

#: Cycles from one beat to the next of a serial requantizer, besides those in which it multiplies and shifts.
_SERIAL_OVERHEAD = 3

#: Bits that are enough to count the cycles in which the array waits for requantizers that take a beat a cycle.
_IDLE_BITS = 7

#: The most bits that loops and places in a feature map are counted with, by field: those of an instruction's fields.
MOST_BITS = {"loop_bits": 16, "tap_bits": 12, "line_bits": 17, "place_bits": 22}

#: Words of the weight buffer where the user does not say, and the most that it may have.
_BUFFER_WORDS, _MOST_BUFFER_WORDS = 256, 4096

#: Bytes of an image in flash that are not weights.
_FLASH_OVERHEAD = 12

#: Exponent bits of minifloats where the user does not say.
_EXPONENT_BITS = 4


def _is_power_of_two(value: int) -> bool:
    return value > 0 and value & (value - 1) == 0


@dataclass(frozen=True)
class AcceleratorConfig:
    """What the generator builds.

    Attributes
    ----------
    lanes
        Input channels reduced at once: a power of two, 1 to 64.
    columns
        Output channels computed at once: a power of two, 1 to 64.
    requantizers
        Outputs requantized at once: a power of two up to ``min(lanes, columns)``. 0, the default, takes the largest
        that is not above 8.
    requantizer
        How the requantizers, and ADD its operands, scale: ``multiplier``, or ``shift`` for networks whose scales are
        all powers of two and whose outputs have no zero points, such as those in dynamic fixed point; or ``serial``,
        which is ``multiplier`` without DSP blocks, takes several cycles for an output, and has no ``elementwise``,
        whatever else is said.
    digit_bits
        Bits of a multiplier that ``serial`` takes in a cycle, 1 to 8; 0 for other kinds. For serial, 0, the default,
        takes 1.
    pe
        The kind of processing element.
    weight_bits
        Bits of a weight, in memory as in the PEs: 2 to 8, or to 16 where activations have as many; for shift, those of
        a code, 2 to 5, or 1 to 4 without a 0; 8 for mixed. 0, the default, takes the most.
    activation_bits
        Bits of an activation: 8, the default; for mac also 16, in dynamic fixed point: requantizers shift, and there
        are neither zero points of weights nor tables, whatever else is said; for minifloat, those of a code, up to 8.
        0 takes the default.
    exponent_bits
        Bits of the exponents of minifloat's weights and activations, at least 1 and up to 1 less than those of either;
        what is left after them and the sign is the mantissa's. 0 for other kinds. For minifloat, 0, the default,
        takes 4, or the most if that is less.
    weight_zero
        Whether shift has a code for 0, as INQ has; Ristretto's have none, and so a bit less.
    weight_zero_points
        Whether weights may have zero points, and be uint8.
    unsigned_activations
        Whether activations may be uint8.
    dsp
        Whether the PEs' multipliers are DSP blocks; if not, they are made of adders.
    window_taps
        Horizontal or vertical taps that depthwise convolution takes at once: up to ``lanes``; 1 leaves out the history
        of activations that this takes. 0, the default, takes 3, or ``lanes`` if those are fewer.
    max_pooling
        Whether MAX_POOL_2D is there, of its own and on a convolution's outputs.
    elementwise
        Whether ADD, SUB and MUL of two tensors are there.
    left_shift
        Whether the requantizers shift left, as multipliers of 1 or more want it.
    ties_to_even
        Whether the requantizers can round ties to even, as Ristretto's formats want it.
    tables
        Tables of 256 bytes, up to 15: LOGISTIC and LEAKY_RELU take one each, and inputs of CONCATENATION whose scale
        changes.
    prefetch
        Whether the next instruction is fetched while one executes, and begins before its last outputs are written.
        Without, a third as many flip-flops hold instructions, and each takes some sixty cycles more.
    log
        Whether the cycles of each instruction are logged, and those that were lost counted by what they were lost to.
    memory_registers
        Whether what weights, parameters and program give goes through a register. Without, there are as many fewer
        flip-flops, and the path to the memories limits the clock.
    loop_bits
        Bits that count groups, rows, columns, the words of a run, and channels written. 0, the default, takes as many
        as the activation memory can ask for.
    tap_bits
        Bits that count rows and columns of a kernel: up to 12, which 0, the default, takes.
    line_bits
        Bits of the number of a feature-map row, padding included, with its sign. 0, as for ``loop_bits``.
    place_bits
        Bits of a byte's place within a feature-map row, padding included, with its sign. 0, as for ``loop_bits``.
    accumulator_width
        Bits of an accumulator, 20 to 32; 36 to 48 for activations of 16 bits; for minifloat, those of a product, or up
        to 15 more. The compiler refuses a layer whose worst case does not fit. 0, the default, takes the most.
    activation_bytes
        Size of the activation memory: a multiple of ``lanes``, at most 2^20.
    weight_bytes
        Size of the weight memory: at most 2^20 words of a weight for each PE, and at most the 8 MiB that the host's bus
        reaches. 0, the default, takes 288 KiB, or the most if that is less.
    parameter_channels
        Output channels, over all layers, whose bias, multiplier and shift the parameter memory holds: a multiple of
        ``requantizers``.
    program_words
        32-bit words of layer program: those of one instruction at least, at most 2^16.
    weight_source
        Whether program, parameters and weights are loaded by the host (``ram``) or built in (``rom``); or weights come
        from a SPI flash, from which they are copied at start, and all else is built in (``flash``).
    flash_offset
        Byte of the SPI flash from which on weights lie there: a multiple of 4096, less than 2^24. What is before is the
        FPGA's.
    weight_store
        Where weights lie: in a memory of their own, as wide as the array (``wide``), or at the end of the activation
        memory (``shared``), from which they are fetched into a buffer, word by word, when the array wants them; their
        words then begin at powers of two of bytes; or in a SPI flash (``flash``), which is slow but large.
    weight_buffer
        Words of the weight buffer, where there is one: a power of two, 2 to 4096. The words of a group of output
        channels are fetched once if they fit it, otherwise for each output. 0, the default, takes 256.
    activation_ports
        Ports of the activation memory: 2, the default, one for reading and one for writing; or 1, as the large memories
        of iCE40 UltraPlus have (SPRAM, which is used there), so that the array waits while outputs are written.

    The default memories take 386 of the 416 KiB of block RAM in an LFE5U-85F.

    Raises
    ------
    TypeError
        If a field is of the wrong kind.
    ValueError
        If a field is out of range; the message quotes it.
    """

    lanes: int = 8
    columns: int = 8
    requantizers: int = 0
    requantizer: RequantizerKind = RequantizerKind.MULTIPLIER
    digit_bits: int = 0
    pe: PEKind = PEKind.MAC
    weight_bits: int = 0
    activation_bits: int = 0
    exponent_bits: int = 0
    weight_zero: bool = True
    weight_zero_points: bool = True
    unsigned_activations: bool = True
    dsp: bool = True
    window_taps: int = 0
    max_pooling: bool = True
    elementwise: bool = True
    left_shift: bool = True
    ties_to_even: bool = True
    tables: int = 8
    prefetch: bool = True
    log: bool = True
    memory_registers: bool = True
    loop_bits: int = 0
    tap_bits: int = 0
    line_bits: int = 0
    place_bits: int = 0
    accumulator_width: int = 0
    activation_bytes: int = 64 * 1024
    weight_bytes: int = 0
    parameter_channels: int = 2048
    program_words: int = 2048
    weight_source: WeightSource = WeightSource.RAM
    weight_store: WeightStore = WeightStore.WIDE
    weight_buffer: int = 0
    activation_ports: int = 2
    flash_offset: int = 1 << 20

    def __post_init__(self) -> None:
        for field in fields(self):
            name, value = field.name, getattr(self, field.name)
            if kind := _CHOICES.get(name):
                if value not in list(kind):
                    error = ValueError if isinstance(value, str) else TypeError
                    raise error(f"{name} must be one of {', '.join(kind)}, not {value!r}")
                object.__setattr__(self, name, kind(value))
            elif field.type is bool:
                if not isinstance(value, bool):
                    raise TypeError(f"{name} must be true or false, not {value!r}")
            elif not isinstance(value, int) or isinstance(value, bool):
                raise TypeError(f"{name} must be an integer, not {value!r}")
        for name in ("lanes", "columns"):
            value = getattr(self, name)
            if not _is_power_of_two(value) or value > 64:
                raise ValueError(f"{name} must be a power of two from 1 to 64, not {value!r}")
        if self.requantizers == 0:
            object.__setattr__(self, "requantizers", min(8, self.channels))
        if not _is_power_of_two(self.requantizers) or self.requantizers > self.channels:
            raise ValueError(
                f"requantizers must be a power of two up to min(lanes, columns) = {self.channels}, "
                f"not {self.requantizers!r}"
            )
        allowed = [bits - (not self.weight_zero) for bits in WEIGHT_BITS[self.pe]]
        if self.activation_bits == WIDE_BITS and self.pe is PEKind.MAC:
            allowed = list(range(WIDE_BITS, 1, -1))
            for name, value in {"requantizer": RequantizerKind.SHIFT, "weight_zero_points": False, "tables": 0}.items():
                object.__setattr__(self, name, value)
        if not self.weight_zero and self.pe is not PEKind.SHIFT:
            raise ValueError(f"weight_zero is for pe = shift only, not {self.pe!s}")
        if self.weight_bits == 0:
            object.__setattr__(self, "weight_bits", allowed[0])
        if self.weight_bits not in allowed:
            bits = f"{allowed[-1]} to {allowed[0]}" if len(allowed) > 1 else f"{allowed[0]}"
            raise ValueError(f"weight_bits must be {bits} for pe = {self.pe!s}, not {self.weight_bits!r}")
        self._check_formats()
        self._check_serial()
        if self.window_taps == 0:
            object.__setattr__(self, "window_taps", min(3, self.lanes))
        if not 1 <= self.window_taps <= self.lanes:
            raise ValueError(f"window_taps must be 1 to lanes = {self.lanes}, not {self.window_taps!r}")
        widths = self.accumulator_widths
        if self.accumulator_width == 0:
            object.__setattr__(self, "accumulator_width", widths[-1])
        if self.accumulator_width not in widths:
            raise ValueError(f"accumulator_width must be {widths[0]} to {widths[-1]}, not {self.accumulator_width!r}")
        self._check_stores()
        if self.weight_bytes == 0:
            object.__setattr__(self, "weight_bytes", min(288 * 1024, self.memories["weight_bytes"][2]))
        for name, most in MOST_BITS.items():
            if not 0 <= getattr(self, name) <= most:
                raise ValueError(f"{name} must be 0 to {most}, not {getattr(self, name)!r}")
        for name, (unit, least, most) in self.memories.items():
            value = getattr(self, name)
            if value % unit or not least <= value <= most:
                multiple = f"a multiple of {unit} from " if unit > 1 else ""
                raise ValueError(f"{name} must be {multiple}{least} to {most}, not {value!r}")
        if self.memory_elements > 1 << 20:
            raise ValueError(
                f"weight_bytes must leave room for {self.activation_bytes} bytes of activations in a memory of "
                f"{self.element_bytes << 20}, not be {self.weight_bytes}"
            )

    def _check_stores(self) -> None:
        """Fill in and check where weights and activations lie."""
        if self.buffered and self.weight_buffer == 0:
            object.__setattr__(self, "weight_buffer", _BUFFER_WORDS)
        least, most = (2, _MOST_BUFFER_WORDS) if self.buffered else (0, 0)
        if not least <= self.weight_buffer <= most or (self.buffered and not _is_power_of_two(self.weight_buffer)):
            words = f"a power of two from {least} to {most}" if self.buffered else "0"
            raise ValueError(
                f"weight_buffer must be {words} for weight_store = {self.weight_store!s}, not {self.weight_buffer!r}"
            )
        if self.activation_ports not in (1, 2):
            raise ValueError(f"activation_ports must be 1 or 2, not {self.activation_ports!r}")
        if self.weight_store is WeightStore.SHARED and self.weight_source is WeightSource.ROM:
            raise ValueError("weight_store must be wide where weights are built in (weight_source = rom), not shared")
        if self.weight_source is WeightSource.FLASH:
            if self.weight_store is WeightStore.WIDE:
                raise ValueError("weight_store must be shared or flash for weight_source = flash, not wide")
            if self.weight_store is WeightStore.SHARED and self.element_bits != 8:
                raise ValueError(f"activation_bits must be 8 for weight_source = flash, not {self.activation_bits}")
        elif self.weight_store is WeightStore.FLASH:
            raise ValueError(f"weight_source must be flash for weight_store = flash, not {self.weight_source!s}")
        if self.flash_offset % 4096 or not 0 <= self.flash_offset < 1 << 24:
            raise ValueError(f"flash_offset must be a multiple of 4096 below 2^24, not {self.flash_offset!r}")

    def _check_formats(self) -> None:
        """Fill in and check the widths of activations and exponents."""
        floats = self.pe is PEKind.MINIFLOAT
        if floats and self.requantizer is not RequantizerKind.MULTIPLIER:
            raise ValueError(f"requantizer must be left out for pe = {self.pe!s}, which has its own")
        if self.activation_bits == 0:
            object.__setattr__(self, "activation_bits", 8)
        least = 2 if floats else 8
        wide = self.activation_bits == WIDE_BITS and self.pe is PEKind.MAC
        if not (least <= self.activation_bits <= 8 or wide):
            bits = "2 to 8" if floats else f"8 or {WIDE_BITS}" if self.pe is PEKind.MAC else "8"
            raise ValueError(f"activation_bits must be {bits} for pe = {self.pe!s}, not {self.activation_bits!r}")
        most = min(self.weight_bits, self.activation_bits) - 1 if floats else 0
        if floats and self.exponent_bits == 0:
            object.__setattr__(self, "exponent_bits", min(_EXPONENT_BITS, most))
        if not floats <= self.exponent_bits <= most:
            bits = f"1 to {most}" if floats else "0"
            raise ValueError(f"exponent_bits must be {bits} for pe = {self.pe!s}, not {self.exponent_bits!r}")

    def _check_serial(self) -> None:
        """Fill in and check what a serial requantizer is made of."""
        serial = self.requantizer is RequantizerKind.SERIAL
        if serial:
            object.__setattr__(self, "elementwise", False)
            if self.digit_bits == 0:
                object.__setattr__(self, "digit_bits", 1)
        if not serial <= self.digit_bits <= serial * _DIGIT_BITS:
            bits = f"1 to {_DIGIT_BITS}" if serial else "0"
            raise ValueError(
                f"digit_bits must be {bits} for requantizer = {self.requantizer!s}, not {self.digit_bits!r}"
            )

    @property
    def memories(self) -> dict[str, tuple[int, int, int]]:
        """Of each memory, by the field that gives its size: what that is a multiple of, its least and its most."""
        return {
            "activation_bytes": (row := self.lanes * self.element_bytes, 2 * row, self.element_bytes << 20),
            "weight_bytes": (
                1,
                -(-2 * self.stored_bits // 8),
                min((self.stored_bits << 20) // 8, self._reachable_bytes),
            ),
            "parameter_channels": (self.requantizers, 2 * self.requantizers, 1 << 16),
            "program_words": (1, INSTRUCTION_WORDS, 1 << 16),
            "tables": (1, 0, 15),
        }

    @property
    def multipliers(self) -> int:
        """Multipliers in the array, without the requantizers'."""
        return self.lanes * self.columns

    @property
    def requantizer_multipliers(self) -> int:
        """Multipliers outside the array: four for each 32-bit product, two more where ADD scales an operand."""
        if self.pe is PEKind.MINIFLOAT or self.requantizer is not RequantizerKind.MULTIPLIER:
            return 0
        return self.requantizers * (6 if self.elementwise else 4)

    @property
    def pairs(self) -> bool:
        """Whether two activations can be set side by side in an accumulator; minifloat adds those of ADD up exactly."""
        return self.elementwise and self.pe is not PEKind.MINIFLOAT

    @property
    def code_exponent_bits(self) -> int:
        """Bits of the exponent in a code of a power of two."""
        return self.weight_bits - 1 - self.weight_zero

    @property
    def significand_bits(self) -> tuple[int, int]:
        """Bits of the magnitudes that minifloat multiplies: the activation's and the weight's."""
        return self.activation_bits - self.exponent_bits, self.weight_bits - self.exponent_bits

    @property
    def accumulator_widths(self) -> range:
        """Bits that an accumulator may have."""
        if self.pe is PEKind.MINIFLOAT:
            product = 1 + sum(self.significand_bits) + 2 * ((1 << self.exponent_bits) - 2)
            return range(product, product + 16)
        return _WIDE_WIDTHS if self.element_bits > 8 else _INTEGER_WIDTHS

    @property
    def shifts(self) -> range:
        """By how much requantizers shift, left where positive."""
        return range(-128, 2) if self.pe is PEKind.MINIFLOAT else range(-31, 31)

    @property
    def digits(self) -> int:
        """Cycles in which a serial requantizer multiplies."""
        return -(-MULTIPLIER_BITS // self.digit_bits)

    def beat_cycles(self, least_shift: int, greatest_shift: int) -> int:
        """Return the cycles from one beat to the next, if the requantizers shift by no less and no more than this."""
        if self.requantizer is not RequantizerKind.SERIAL:
            return 1
        shifts = max(0, -least_shift) + (1 + max(0, greatest_shift) if self.left_shift else 0)
        return _SERIAL_OVERHEAD + self.digits + shifts

    @property
    def idle_bits(self) -> int:
        """Bits that count the cycles in which the array waits for the drain."""
        cycles = self.columns // self.requantizers * self.beat_cycles(self.shifts[0], self.shifts[-1])
        return min(IDLE_BITS, max(_IDLE_BITS, cycles.bit_length()))

    @property
    def byte_products(self) -> bool:
        """Whether the array multiplies signed numbers of 8 bits, as they lie in memory, in DSP blocks."""
        return self.pe is PEKind.FOLD and self.dsp and not (self.weight_zero_points or self.unsigned_activations)

    @property
    def element_bits(self) -> int:
        """Bits that the activation memory has for an activation."""
        return 8 if self.activation_bits <= 8 else WIDE_BITS

    @property
    def element_bytes(self) -> int:
        """Bytes that the activation memory has for an activation."""
        return self.element_bits // 8

    @property
    def activation_elements(self) -> int:
        """Activations that the activation memory holds; its addresses count them."""
        return self.activation_bytes // self.element_bytes

    @property
    def pair_bits(self) -> int:
        """Bits that hold any difference of one activation: in them MAX_POOL_2D compares, and ADD sets two together."""
        return 10 if self.element_bits == 8 else WIDE_BITS + 1

    @property
    def value_width(self) -> int:
        """Bits of a sum on its way from the accumulators to the requantizers."""
        return max(32, self.accumulator_width)

    @property
    def word_bits(self) -> int:
        """Bits of a weight word: a weight for each processing element."""
        return self.lanes * self.columns * self.weight_bits

    @property
    def buffered(self) -> bool:
        """Whether the array takes weights from a buffer."""
        return self.weight_store is not WeightStore.WIDE

    @property
    def built_in(self) -> bool:
        """Whether program, parameters and tables are built in."""
        return self.weight_source is not WeightSource.RAM

    @property
    def row_bits(self) -> int:
        """Bits of a row of the activation memory, which is what its banks hold at one address."""
        return self.lanes * self.element_bits

    @property
    def word_rows(self) -> int:
        """Rows of the activation memory that a weight word takes, if it lies there."""
        return -(-self.word_bits // self.row_bits)

    @property
    def stored_bits(self) -> int:
        """Bits of memory from one weight word to the next."""
        if self.weight_store is WeightStore.SHARED:
            return self.row_bits << (self.word_rows - 1).bit_length()
        if self.weight_store is WeightStore.FLASH:
            return -(-self.word_bits // 8) * 8
        return self.word_bits

    @property
    def buffer_shape(self) -> tuple[int, int]:
        """Bits of a word of the weight buffer, and of the parts in which words arrive."""
        if self.weight_store is WeightStore.FLASH:
            return self.stored_bits, 8
        return self.word_rows * self.row_bits, self.row_bits

    @property
    def memory_elements(self) -> int:
        """Activations that the activation memory has places for, those included where weights lie."""
        if self.weight_store is not WeightStore.SHARED:
            return self.activation_elements
        # Weights are addressed from the end, by inverted addresses.
        rows = self.activation_elements // self.lanes + self.weight_words * self.stored_bits // self.row_bits
        return self.lanes << (rows - 1).bit_length()

    @property
    def piece_bits(self) -> int:
        """Bits of a weight word that the host writes at once: as many as divide it, 32 at most."""
        if self.weight_store is WeightStore.SHARED:
            return self.host_elements * self.element_bits
        return max(bits for bits in range(1, 33) if self.word_bits % bits == 0)

    @property
    def pieces(self) -> int:
        """Accesses by which the host writes a weight word, those included that its address has room for."""
        return 1 << (self.stored_bits // self.piece_bits - 1).bit_length()

    @property
    def _reachable_bytes(self) -> int:
        """Bytes of the weight memory that 2^21 accesses of the host reach."""
        if self.weight_store is WeightStore.FLASH:
            return (1 << 24) - self.flash_offset - _FLASH_OVERHEAD
        return ((1 << 21) // self.pieces) * self.stored_bits // 8

    @property
    def channels(self) -> int:
        """Channels computed at once where each channel has its own input (depthwise, pooling, ADD)."""
        return min(self.lanes, self.columns)

    @property
    def count_width(self) -> int:
        """Bits that count outputs, positions or groups, minus one: the memory has no more than that."""
        return min(self.loop_bits or 16, (self.activation_elements - 1).bit_length() + 1)

    @property
    def tap_width(self) -> int:
        """Bits that count a kernel's taps along an axis, minus one."""
        return self.tap_bits or MOST_BITS["tap_bits"]

    @property
    def row_width(self) -> int:
        """Bits of the number of a feature-map row, which may lie outside the map."""
        return min(self.line_bits or 17, (self.activation_elements - 1).bit_length() + 2)

    @property
    def place_width(self) -> int:
        """Bits of a byte's place within a feature-map row, which may lie outside the map."""
        return min(self.place_bits or 22, (self.activation_elements - 1).bit_length() + 2)

    @property
    def weight_words(self) -> int:
        """Words of the weight memory."""
        return 8 * self.weight_bytes // self.stored_bits

    @property
    def parameter_words(self) -> int:
        """Words of the parameter memory, each for ``requantizers`` channels."""
        return self.parameter_channels // self.requantizers

    @property
    def max_instructions(self) -> int:
        """Instructions that the program memory holds, each of which has an entry in the log."""
        return self.program_words // INSTRUCTION_WORDS

    @property
    def host_elements(self) -> int:
        """Activations that one host access carries."""
        return min(4 // self.element_bytes, self.requantizers)

    @property
    def host_bytes(self) -> int:
        """Bytes of activation memory that one host access carries."""
        return self.host_elements * self.element_bytes

    @property
    def configuration_word(self) -> int:
        """What the accelerator tells of itself; ``isa.Register.CONFIGURATION`` says in which bits."""
        sizes = (self.lanes, self.columns, self.requantizers)
        word = sum((size.bit_length() - 1) << 4 * index for index, size in enumerate(sizes))
        word |= list(PEKind).index(self.pe) << 12 | self.max_pooling << 15
        word |= self.elementwise << 16 | self.left_shift << 17 | self.tables << 18
        return word | self.window_taps - 1 << 22 | self.accumulator_width - self.accumulator_widths[0] << 28

    @property
    def format_word(self) -> int:
        """What it tells of its number formats; ``isa.Register.FORMATS`` says in which bits."""
        word = self.weight_bits % 16 | self.weight_zero << 4 | self.ties_to_even << 5 | self.weight_zero_points << 6
        word |= self.exponent_bits << 7 | self.activation_bits << 10
        word |= (self.requantizer is RequantizerKind.SHIFT) << 15 | self.digit_bits << 16
        word |= (not self.unsigned_activations) << 20 | (not self.log) << 21
        word |= list(WeightStore).index(self.weight_store) << 25 | (2 - self.activation_ports) << 27
        return word | max(0, self.weight_buffer.bit_length() - 1) << 28

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON holds them."""
        return {key: str(value) if isinstance(value, StrEnum) else value for key, value in asdict(self).items()}

    @classmethod
    def from_dict(cls, entries: dict[str, Any]) -> "AcceleratorConfig":
        """Return the configuration with these fields.

        Raises
        ------
        ValueError
            If there is no such field; and as the constructor does.
        """
        known = [field.name for field in fields(cls)]
        for key in entries:
            if key not in known:
                raise ValueError(f"there is no configuration field {key!r}; there are {', '.join(known)}")
        return cls(**entries)
