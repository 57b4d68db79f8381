"""The array: lanes × columns processing elements, an adder tree and an accumulator a column."""

from amaranth import Cat, Const, Module, Mux, Signal, Value, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from zeropoint_hw.adder_tree import add_carry, adder_tree
from zeropoint_hw.config import AcceleratorConfig, PEKind
from zeropoint_hw.history import History
from zeropoint_hw.isa import Accumulate, Gate
from zeropoint_hw.layout import LEVEL_WIDTH, InstructionLayout, delay
from zeropoint_hw.multiplier import byte_products
from zeropoint_hw.pe import PROCESSING_ELEMENTS, extend, operand_shape


def _at_least(m: Module, value: Value, width: int) -> Value:
    """Return a signed number with ``width`` bits or more."""
    wider = Signal(signed(max(width, len(value))))
    m.d.comb += wider.eq(value)
    return wider


class Array(wiring.Component):
    """A dot-product array: an activation word is broadcast to all columns, each adds its lanes' products.

    Takes a word of activations and a word of weights in every cycle with ``valid`` and never stalls. ``LATENCY`` cycles
    after the cycle with ``last`` (given by :attr:`latency`), ``done`` is asserted for one cycle, in which
    ``accumulators`` hold the output's sums; they may change in the next cycle.

    Parameters
    ----------
    config
        Gives lanes, columns, PE kind and accumulator width.

    Members
    -------
    instruction : In(InstructionLayout)
        Held still while words are under way.
    valid, first, last, level : In
        An array cycle, the output's first and last, and the loop that moves on after it.
    activations : In(ArrayLayout(config.element_bits, lanes))
        Activations, in the cycle of ``valid``.
    mask : In(lanes)
        Which lanes hold activations; the others stand for ``pad_value``.
    weights : In(config.word_bits)
        The weight of lane ``l`` and column ``c`` is the one of number ``c · lanes + l``; ``WEIGHT_DELAY`` cycles after
        activations.
    done : Out(1)
        An output is complete.
    done_level : Out(4)
        The loop that moves on after it.
    accumulators : Out(ArrayLayout(signed(accumulator_width), columns))
        The output's sums.
    activation_sum : Out(signed(accumulator_width))
        Σx over the output's activations, as ``fold`` needs it; 0 for other kinds.
    """

    #: Cycles by which a word of weights comes after the activations it belongs to.
    WEIGHT_DELAY = 2

    def __init__(self, config: AcceleratorConfig) -> None:
        self._config = config
        self._accumulator = signed(config.accumulator_width)
        levels = (config.lanes - 1).bit_length()
        #: Cycles from ``last`` to ``done``: lane input, products, adder tree, accumulator.
        self.latency = self.WEIGHT_DELAY + PROCESSING_ELEMENTS[config.pe].latency(config) + (levels + 1) // 2 + 1
        super().__init__(
            {
                "instruction": In(InstructionLayout),
                "valid": In(1),
                "first": In(1),
                "last": In(1),
                "level": In(LEVEL_WIDTH),
                "activations": In(data.ArrayLayout(config.element_bits, config.lanes)),
                "mask": In(config.lanes),
                "weights": In(config.word_bits),
                "done": Out(1),
                "done_level": Out(LEVEL_WIDTH),
                "accumulators": Out(data.ArrayLayout(self._accumulator, config.columns)),
                "activation_sum": Out(self._accumulator),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config, i = self._config, self.instruction
        pe_class = PROCESSING_ELEMENTS[config.pe]
        unsigned = i.input_unsigned if config.unsigned_activations else Const(0)

        # Masked lanes take the pad value, whose difference from the zero point is what padding means to the layer.
        operands: list[Value] = []
        shape, pad_value = operand_shape(config), i.pad_value[: config.element_bits]

        def operand_of(element: Value) -> Value:
            if config.element_bits > 8:
                # There are no zero points.
                return element.as_signed()
            return pe_class.operand(extend(element, unsigned), i.input_zero_point)

        for lane in range(config.lanes):
            byte = Signal(config.element_bits, name=f"byte{lane}")
            operand = Signal(shape, name=f"operand{lane}")
            m.d.sync += byte.eq(Mux(self.mask[lane], self.activations[lane], pad_value))
            m.d.sync += operand.eq(operand_of(byte))
            operands.append(operand)
        flags = delay(m, Cat(self.valid, self.first, self.last & self.valid, self.level), self.WEIGHT_DELAY, "flags")

        # Depthwise layers give each of the first lanes a tap, and each column its own channel.
        taps: list[list[Value]] = [[operand] * config.columns for operand in operands]
        if config.window_taps > 1:
            m.submodules.history = history = History(config)
            # The instruction is there long before its activations.
            pad = Signal(shape)
            m.d.sync += pad.eq(operand_of(pad_value))
            m.d.comb += [
                history.valid.eq(flags[0]),
                history.level.eq(flags[3:]),
                Cat(history.operands).eq(Cat(operands[: config.channels])),
                history.pad.eq(pad),
            ]
            for lane, word in enumerate(history.taps):
                for column, tap in enumerate(word):
                    taps[lane][column] = Mux(i.window, tap, operands[lane])

        sums, left = [], []
        pe_latency, tree_latency = pe_class.latency(config), 0
        each = self._byte_products(m, taps) if config.byte_products else self._products(m, taps)
        for column, (products, carries) in enumerate(each):
            total, carry, tree_latency = adder_tree(m, products, carries, f"tree{column}")
            sums.append(_at_least(m, total, config.pair_bits))
            left.append(carry)

        ahead = pe_latency + tree_latency
        assert self.WEIGHT_DELAY + ahead + 1 == self.latency
        flags = delay(m, flags, ahead, "late_flags")
        valid, first, last, level = flags[0], flags[1], flags[2], flags[3:]
        m.d.sync += [self.done.eq(last), self.done_level.eq(level)]
        # One adder serves all ways to accumulate: what it adds to is nothing where a sum begins or a greater operand
        # takes its place, and a second operand goes above the first, whose bits stay as they are.
        width = config.accumulator_width if config.pe is PEKind.MINIFLOAT else config.pair_bits
        greatest = i.accumulate == Accumulate.MAX if config.max_pooling else Const(0)
        second = (i.accumulate == Accumulate.PAIR) & ~first if config.pairs else Const(0)
        for total, carry, accumulator in zip(sums, left, self.accumulators, strict=True):
            greater = total[:width].as_signed() > accumulator[:width].as_signed()
            if config.pe is PEKind.MINIFLOAT and carry is not None:
                greater = add_carry(accumulator, ~total, ~carry)[-1]
            term = Mux(second, total[:width] << width, total)
            with m.If(valid & (first | ~greatest | greater)):
                base = Mux(first | greatest | second, 0, accumulator)
                added = Signal(self._accumulator)
                m.d.comb += added.eq(base + term if carry is None else add_carry(base, term, carry))
                m.d.sync += accumulator[width:].eq(added[width:])
                with m.If(~second):
                    m.d.sync += accumulator[:width].eq(added)

        if config.pe is PEKind.FOLD and config.weight_zero_points:
            late = [delay(m, operand, pe_latency, f"late{lane}").as_signed() for lane, operand in enumerate(operands)]
            total, _, _ = adder_tree(m, late, None, "activation_tree")
            with m.If(valid):
                m.d.sync += self.activation_sum.eq(Mux(first, total, self.activation_sum + total))
        return m

    def _weight(self, lane: int, column: int) -> Value:
        """Return the weight of a PE."""
        return self.weights.word_select(column * self._config.lanes + lane, self._config.weight_bits)

    def _products(self, m: Module, taps: list[list[Value]]) -> list[tuple[list[Value], list[Value] | None]]:
        """Return each column's products, and their carries where there are any, given what each PE multiplies."""
        config, i = self._config, self.instruction
        pe_class = PROCESSING_ELEMENTS[config.pe]
        columns: list[tuple[list[Value], list[Value] | None]] = []
        for column in range(config.columns):
            elements = []
            for lane in range(config.lanes):
                m.submodules[f"pe_{lane}_{column}"] = pe = pe_class(config)
                m.d.comb += [
                    pe.activation.eq(taps[lane][column]),
                    pe.weight.eq(self._weight(lane, column)),
                    pe.weights_unsigned.eq(i.weights_unsigned),
                    pe.weights_coded.eq(i.weights_coded),
                    pe.weight_zero_point.eq(i.weight_zero_point),
                    pe.gate.eq(0 if config.weight_zero else self._gated(lane, column)),
                ]
                elements.append(pe)
            carries: list[Value] | None = [pe.carry for pe in elements] if pe_class.carries else None
            columns.append(([pe.product for pe in elements], carries))
        return columns

    def _byte_products(self, m: Module, taps: list[list[Value]]) -> list[tuple[list[Value], None]]:
        """Return each column's products where these are of signed bytes, as they lie in memory: two a DSP block."""
        lanes, columns = self._config.lanes, self._config.columns
        places = [(lane, column) for column in range(columns) for lane in range(lanes)]
        operands = [(taps[lane][column], self._weight(lane, column).as_signed()) for lane, column in places]
        products = byte_products(m, operands, "products")
        return [(products[column * lanes : (column + 1) * lanes], None) for column in range(columns)]

    def _gated(self, lane: int, column: int) -> Value:
        """Return whether an instruction keeps a lane from a column."""
        taken = {Gate.OWN: lane == column, Gate.FIRST: lane == 0, Gate.TAPS: lane < self._config.window_taps}
        gate: Value = Const(0)
        for kind, takes in taken.items():
            if not takes:
                gate = gate | (self.instruction.gate == kind)
        return gate
