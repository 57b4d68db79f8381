"""Single faults of the gateware: where there may be any, which ones, and how they are put in.

A fault changes one expression or one assignment of one module: an operator, an operand, a constant, a condition. It is
put in where Amaranth holds the elaborated module, before its simulator or its RTLIL gets it, so the same fault is there
on each engine; each kind corresponds to a change of one cell of the RTLIL, or of one of its connections. Every instance
of the module has it, in every configuration that has the place: it is what a slip in the source would be.
"""

import functools
import importlib
import pkgutil
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from amaranth.hdl import Cat, Const, Elaboratable, Fragment, Shape, Value
from amaranth.hdl._ast import Assign, Operator, Part, Slice, Statement, Switch, SwitchValue

import zeropoint_hw

#: What is written instead of an operator, and what that is called.
_OTHERS = {
    "+": ("-", "wrong operator"),
    "-": ("+", "wrong operator"),
    "&": ("|", "wrong operator"),
    "|": ("&", "wrong operator"),
    "^": ("|", "wrong operator"),
    "r|": ("r&", "wrong operator"),
    "r&": ("r|", "wrong operator"),
    "==": ("!=", "wrong comparison"),
    "!=": ("==", "wrong comparison"),
    "<": ("<=", "wrong comparison"),
    "<=": ("<", "wrong comparison"),
    ">": (">=", "wrong comparison"),
    ">=": (">", "wrong comparison"),
}


@dataclass(frozen=True, order=True)
class Place:
    """A statement of a module.

    Attributes
    ----------
    module
        Source file and class, such as ``requantizer.RequantizerLane``.
    source
        File and line of the statement, such as ``requantizer.py:102``.
    target
        The signals that are assigned; ``if`` for a condition.
    domain
        Its clock domain, or ``comb``.
    number
        Which of those with the same line, target and domain, as loops have several.
    """

    module: str
    source: str
    target: str
    domain: str
    number: int


@dataclass(frozen=True, order=True)
class Fault:
    """A fault: ``change`` at the node of the statement's expression to which ``path`` leads.

    ``kind`` groups changes; ``change`` is unique among those of a node. Constants and ranges of bits differ from one
    configuration to another: there, ``step`` says in which direction they are off, in any configuration.
    """

    place: Place
    path: tuple[int, ...]
    kind: str
    change: str
    step: int = field(default=0, compare=False)

    @property
    def slip(self) -> tuple[tuple[int, ...], str, object]:
        """What the fault is in any configuration."""
        return (self.path, self.kind, self.step or self.change)

    def __str__(self) -> str:
        place = self.place
        number = f"#{place.number}" if place.number else ""
        path = ".".join(map(str, self.path)) or "-"
        return f"{place.module} {place.source} {place.domain}:{place.target}{number} {path} {self.change}"


# What can be wrong with an expression.

#: Kind, description, what makes the faulty value, and the step of what is off by one.
Change = tuple[str, str, Callable[[], Value], int]


def _fit(value: Value, shape: Shape) -> Value:
    """Return a value in a given shape, as an assignment to a signal of that shape would."""
    if len(value) < shape.width:
        sign = value[-1] if value.shape().signed else Const(0, 1)
        value = Cat(value, sign.replicate(shape.width - len(value)))
    value = value[: shape.width]
    return value.as_signed() if shape.signed else value


def _of_constant(node: Const) -> Iterator[Change]:
    shape = node.shape()
    steps = (1,) if shape.width == 1 else (1, -1)
    for step in steps:
        yield "wrong constant", f"{node.value}{step:+d}", lambda step=step: Const(node.value + step, shape), step


def _of_operator(node: Operator) -> Iterator[Change]:
    operator, operands = node.operator, node.operands
    if operator in ("+", "-", "&", "|", "^", "*") and len(operands) == 2:
        a, b = operands
        if not isinstance(b, Const):
            yield "dropped operand", f"without the second operand of {operator}", lambda: a, 0
        if operator != "-" and not isinstance(a, Const):
            yield "dropped operand", f"without the first operand of {operator}", lambda: b, 0
    if operator in ("-", "<", "<=", ">", ">=") and len(operands) == 2:
        yield "swapped operands", f"operands of {operator} swapped", lambda: Operator(operator, operands[::-1]), 0
    if operator in ("~", "-") and len(operands) == 1:
        yield "dropped operand", f"without {operator}", lambda: operands[0], 0
    if operator in ("<<", ">>") and not isinstance(operands[1], Const):
        yield "off by one", f"{operator} by one more", lambda: Operator(operator, [operands[0], operands[1] + 1]), 0
    if operator in _OTHERS and (operator[0] == "r" or len(operands) == 2):
        other, kind = _OTHERS[operator]
        yield kind, f"{other} for {operator}", lambda: Operator(other, operands), 0


def _of_slice(node: Slice) -> Iterator[Change]:
    whole, start, stop = node.value, node.start, node.stop
    if stop < len(whole):
        yield "off by one", f"bits {start + 1}:{stop + 1}", lambda: whole[start + 1 : stop + 1], 1
    if start > 0:
        yield "off by one", f"bits {start - 1}:{stop - 1}", lambda: whole[start - 1 : stop - 1], -1


def _of_choice(node: SwitchValue) -> Iterator[Change]:
    if len(node.cases) == 2:
        (first, one), (second, other) = node.cases
        yield "swapped operands", "choices swapped", lambda: SwitchValue(node.test, [(first, other), (second, one)]), 0
        yield "dropped operand", "always the first choice", lambda: one, 0
        yield "dropped operand", "always the second choice", lambda: other, 0


def _of_value(node: Value) -> Iterator[Change]:
    """Yield what may stand for an expression by a slip."""
    if not len(node):
        return
    if isinstance(node, Const):
        yield from _of_constant(node)
    elif isinstance(node, Operator):
        yield from _of_operator(node)
    elif isinstance(node, Slice):
        yield from _of_slice(node)
    elif isinstance(node, SwitchValue):
        yield from _of_choice(node)


def _of_whole(node: Value) -> Iterator[Change]:
    """Yield what may be wrong with a value on its way to a register, a port or a memory."""
    if isinstance(node, Const) or not len(node):
        return
    if len(node) == 1:
        for value in (0, 1):
            yield "stuck", f"stuck at {value}", lambda value=value: Const(value, 1), 0
        yield "inverted", "inverted", lambda: ~node, 0
    else:
        yield "off by one", "one more", lambda: node + 1, 0
        yield "stuck", "stuck at 0", lambda: Const(0, len(node)), 0


def _children(node: Value) -> tuple[Value, ...]:
    if isinstance(node, Operator):
        return node.operands
    if isinstance(node, Slice):
        return (node.value,)
    if isinstance(node, Part):
        return (node.value, node.offset)
    if isinstance(node, SwitchValue):
        return (node.test, *(value for _, value in node.cases))
    return tuple(getattr(node, "parts", ()))


def _with_children(node: Value, children: Sequence[Value]) -> Value:
    if isinstance(node, Operator):
        return Operator(node.operator, children)
    if isinstance(node, Slice):
        return Slice(children[0], node.start, node.stop)
    if isinstance(node, Part):
        return Part(*children, node.width, stride=node.stride)
    if isinstance(node, SwitchValue):
        patterns = (patterns for patterns, _ in node.cases)
        return SwitchValue(children[0], list(zip(patterns, children[1:], strict=True)))
    return Cat(*children)


def _wholes(expression: Value, condition: bool) -> list[tuple[int, ...]]:
    """Return the paths to what an expression gives: itself, or each condition of an If with its Elifs."""
    if not condition or not hasattr(expression, "parts"):
        return [()]
    return [(index,) for index in range(len(expression.parts))]


def _changes(expression: Value, condition: bool) -> Iterator[tuple[tuple[int, ...], Change]]:
    """Yield all changes of an expression, with the paths to their nodes."""
    wholes = _wholes(expression, condition)
    for path in wholes:
        for change in _of_whole(_at(expression, path)):
            yield path, change

    seen: set[int] = set()

    def within(node: Value, path: tuple[int, ...]) -> Iterator[tuple[tuple[int, ...], Change]]:
        # What an expression has several times, such as the sign that extends a number, is one cell.
        if id(node) in seen:
            return
        seen.add(id(node))
        if path or not condition or wholes == [()]:
            for change in _of_value(node):
                yield path, change
        for index, child in enumerate(_children(node)):
            yield from within(child, (*path, index))

    yield from within(expression, ())


def _at(node: Value, path: Sequence[int]) -> Value:
    for index in path:
        node = _children(node)[index]
    return node


def _replaced(expression: Value, old: Value, new: Value) -> Value:
    """Return an expression with ``new`` wherever it has the very object ``old``."""
    made = {id(old): _fit(new, old.shape())}

    def replaced(node: Value) -> Value:
        if id(node) not in made:
            children = _children(node)
            others = [replaced(child) for child in children]
            changed = any(other is not child for other, child in zip(others, children, strict=True))
            made[id(node)] = _with_children(node, others) if changed else node
        return made[id(node)]

    return replaced(expression)


# Statements and modules.

LOST = "lost assignment"


class _Walk:
    """Goes through the statements of a module, to look at them or to change them."""

    def __init__(self, module: str, see: Callable[[Place, Value | None], Value | None]) -> None:
        self._module, self._see = module, see
        self._counts: Counter[tuple[str, str, str]] = Counter()
        self.lost: Callable[[Place, Statement], list[Statement]] = lambda place, statement: [statement]

    def _place(self, statement: Statement, target: str, domain: str) -> Place:
        path, line = statement.src_loc[:2]
        source = f"{Path(path).name}:{line}"
        number = self._counts[source, target, domain]
        self._counts[source, target, domain] += 1
        return Place(self._module, source, target, domain, number)

    def rewritten(self, statements: Sequence[Statement], domain: str) -> list[Statement]:
        """Return statements with what is to stand for each of their expressions."""
        made: list[Statement] = []
        for statement in statements:
            if isinstance(statement, Assign):
                target = ",".join(sorted({signal.name for signal in statement.lhs._lhs_signals()}))
                place = self._place(statement, target, domain)
                other = self._see(place, statement.rhs)
                if other is not statement.rhs:
                    source = statement.src_loc
                    statement = Assign(statement.lhs, other)
                    statement.src_loc = source
                made += self.lost(place, statement)
            elif isinstance(statement, Switch):
                test = self._see(self._place(statement, "if", domain), statement.test)
                cases = [(patterns, self.rewritten(body, domain), at) for patterns, body, at in statement.cases]
                made.append(Switch(test, cases, src_loc=statement.src_loc))
            else:
                made.append(statement)
        return made

    def fragment(self, fragment: Fragment) -> Fragment:
        for domain in list(fragment.statements):
            statements = self.rewritten(fragment.statements[domain], domain)
            del fragment.statements[domain]
            fragment.add_statements(domain, statements)
        return fragment


def faults_of(module: str, fragment: Fragment) -> list[Fault]:
    """Return all faults that there may be in an elaborated module."""
    found: list[Fault] = []

    def see(place: Place, value: Value) -> Value:
        for path, (kind, change, _, step) in _changes(value, place.target == "if"):
            found.append(Fault(place, path, kind, change, step))
        if place.target != "if":
            found.append(Fault(place, (), LOST, LOST))
        return value

    _Walk(module, see).fragment(fragment)
    return found


def insert(module: str, fragment: Fragment, faults: Mapping[int, Fault], selector: Value | None) -> set[int]:
    """Put faults into an elaborated module, and return the numbers of those that have their place there.

    Parameters
    ----------
    module, fragment
        The module, which is changed.
    faults
        Faults by number; those of other modules are left alone.
    selector
        The number of the fault that is to be there; None if there is only one fault.
    """
    by_place: dict[Place, list[tuple[int, Fault]]] = {}
    for number, fault in faults.items():
        if fault.place.module == module:
            by_place.setdefault(fault.place, []).append((number, fault))
    done: set[int] = set()

    def see(place: Place, value: Value) -> Value:
        wanted = [(number, fault) for number, fault in by_place.get(place, ()) if fault.kind != LOST]
        if not wanted:
            return value
        makers = {
            (path, kind, step or change): make
            for path, (kind, change, make, step) in _changes(value, place.target == "if")
        }
        others = []
        for number, fault in wanted:
            if (make := makers.get(fault.slip)) is not None:
                others.append((number, _replaced(value, _at(value, fault.path), make())))
        done.update(number for number, _ in others)
        if selector is None:
            return others[0][1] if others else value
        return SwitchValue(selector, [*others, (None, value)])

    def lost(place: Place, statement: Statement) -> list[Statement]:
        numbers = [number for number, fault in by_place.get(place, ()) if fault.kind == LOST]
        done.update(numbers)
        if not numbers:
            return [statement]
        if selector is None:
            return []
        return [Switch(selector, [(tuple(numbers), [], None), (None, [statement], None)])]

    walk = _Walk(module, see)
    walk.lost = lost
    walk.fragment(fragment)
    return done


# All modules at once.

#: What is done with each module of the gateware once it is elaborated: its name, the component, what it became.
Edit = Callable[[str, Any, Fragment], None]
_edits: list[Edit] = []


@contextmanager
def editing(edit: Edit) -> Iterator[None]:
    """Have ``edit`` see and change each module of the gateware that is elaborated meanwhile, instead of others."""
    _install()
    _edits.append(edit)
    try:
        yield
    finally:
        _edits.pop()


def inserting(faults: Mapping[int, Fault], selector: Value | None, done: set[int] | None = None) -> Any:
    """Have faults in the gateware that is elaborated meanwhile: see :func:`insert`."""

    def edit(module: str, component: Any, fragment: Fragment) -> None:
        numbers = insert(module, fragment, faults, selector)
        if done is not None:
            done.update(numbers)

    return editing(edit)


@functools.cache
def _install() -> None:
    """Let what elaborates a component of the gateware hand on the result."""
    for entry in pkgutil.iter_modules(zeropoint_hw.__path__):
        module = importlib.import_module(f"zeropoint_hw.{entry.name}")
        for name, kind in vars(module).items():
            own = isinstance(kind, type) and issubclass(kind, Elaboratable) and kind.__module__ == module.__name__
            if own and "elaborate" in vars(kind):
                watch(kind, f"{entry.name}.{name}")


def watch(kind: Any, name: str) -> None:
    """Have what a class elaborates edited under a name, while there is an edit."""
    elaborate = kind.elaborate

    @functools.wraps(elaborate)
    def wrapped(self: Any, platform: object) -> Any:
        made = elaborate(self, platform)
        if not _edits:
            return made
        fragment = Fragment.get(made, platform)
        _edits[-1](name, self, fragment)
        return fragment

    kind.elaborate = wrapped


def all_faults(designs: Sequence[Any]) -> tuple[dict[str, list[Fault]], dict[str, list[Any]]]:
    """Return the faults of the modules in some designs, each once, and of each module the components looked at."""
    faults: dict[str, dict[Fault, None]] = {}
    components: dict[str, list[Any]] = {}

    def edit(module: str, component: Any, fragment: Fragment) -> None:
        seen = components.setdefault(module, [])
        if len(seen) < 40:
            seen.append(component)
            faults.setdefault(module, {}).update(dict.fromkeys(faults_of(module, fragment)))

    with editing(edit):
        for design in designs:
            Fragment.get(design, None)
    return {module: list(found) for module, found in faults.items()}, components
