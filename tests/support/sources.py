"""Components whose source is changed: to have a fault, or a name for each signal."""

import ast
import inspect
import sys
import textwrap
from typing import Any


def broken(component: Any, right: str, wrong: str) -> Any:
    """Return a component's class with a fault: of its source, ``right``, which is there once, is ``wrong``."""
    source = _source(component)
    if source.count(right) != 1:
        raise ValueError(f"{component.__name__} has {right!r} {source.count(right)} times, not once")
    return _made(component, source.replace(right, wrong))


def named(component: Any) -> Any:
    """Return a component's class whose signals all have names, by which proofs find registers.

    Amaranth names a signal after what it is assigned to, but not if several are assigned at once: here they are
    assigned one after the other.
    """

    class OneAfterTheOther(ast.NodeTransformer):
        def visit_Assign(self, node: ast.Assign) -> Any:
            target, values = node.targets[0], node.value
            if not isinstance(target, ast.Tuple) or not isinstance(values, ast.Tuple):
                return node
            pairs = zip(target.elts, values.elts, strict=True)
            return [ast.copy_location(ast.Assign([name], value), node) for name, value in pairs]

    return _made(component, ast.unparse(OneAfterTheOther().visit(ast.parse(_source(component)))))


def _source(component: Any) -> str:
    """Return the text of a class, be it one that was made here."""
    return vars(component).get("_text") or textwrap.dedent(inspect.getsource(component))


def _made(component: Any, source: str) -> Any:
    namespace = dict(vars(sys.modules[component.__module__]))
    exec(source, namespace)
    made = namespace[component.__name__]
    made._text = source
    return made
