"""Arguments and options that several commands have."""

import inspect
import re
from collections.abc import Callable, Mapping
from dataclasses import fields
from enum import StrEnum
from functools import wraps
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, cast

import click

from zeropoint.errors import ZeropointError
from zeropoint_hw.config import AcceleratorConfig

if TYPE_CHECKING:
    from zeropoint.model import QuantizedModel

Function = TypeVar("Function", bound=Callable[..., Any])


class Configured(Protocol):
    """Gives the configuration that the options describe, for a network that decides what they leave open.

    Fields in ``defaults`` count where no option gives them.
    """

    def __call__(self, model: "QuantizedModel", defaults: Mapping[str, Any] = ...) -> AcceleratorConfig:
        """Return the configuration."""
        ...


PATH = click.Path(path_type=Path)

#: The fields that ``zeropoint.compiler.configure`` chooses where no option does.
_BY_NETWORK = ("requantizer", "pe", "weight_bits", "activation_bits", "exponent_bits", "weight_zero")

model_argument = click.argument("model", type=PATH)

#: The names are those of ``zeropoint_sim.simulate.ENGINES``, which takes long to import.
engine_option = click.option(
    "--engine",
    type=click.Choice(["auto", "amaranth", "cxxrtl", "verilator", "icarus"]),
    default="auto",
    show_default=True,
    help="cxxrtl: compiled C++. amaranth: Amaranth's simulator, much slower, which needs no C++ compiler. "
    "verilator, icarus: the Verilog in that simulator, through cocotb. auto: cxxrtl where its tools are there.",
)

trim_option = click.option(
    "--trim",
    "trimmed",
    is_flag=True,
    help="Leave out of the accelerator whatever MODEL does not need, and make its memories no larger than that takes.",
)

limit_option = click.option("--limit", type=click.IntRange(min=1), help="Take the first inputs only, so many.")


def load_quantized(path: Path) -> "QuantizedModel":
    """Return the quantized network in a file.

    Raises
    ------
    ZeropointError
        As ``zeropoint.importers.load``; and if the network is not quantized.
    """
    from zeropoint import importers
    from zeropoint.model import QuantizedModel

    model = importers.load(path)
    if not isinstance(model, QuantizedModel):
        raise ZeropointError(
            f"'{path}' is a float network; quantize it first: zeropoint quantize {path} --scheme affine-int8 "
            f"--calibration X.npy -o {path.with_suffix('.zp').name}"
        )
    return model


def config_options(function: Function) -> Function:
    """Add ``--config`` and an option for each field of AcceleratorConfig.

    The command gets ``configured``, which returns the configuration for a network.
    """
    texts = field_texts(AcceleratorConfig)

    @wraps(function)
    def command(config: Path | None, **given: Any) -> Any:
        from zeropoint.compiler.configure import configure
        from zeropoint.compiler.options import load_fields

        entries = load_fields(config, {name: given.pop(name) for name in texts})

        def configured(
            model: "QuantizedModel", defaults: Mapping[str, Any] = MappingProxyType({})
        ) -> AcceleratorConfig:
            try:
                return configure(model, entries, defaults)
            except ValueError as error:
                raise ZeropointError(f"configuration: {error}") from None

        return function(configured=configured, **given)

    wrapped: Any = command
    # Options are listed in the reverse of the order in which they are added.
    for field in reversed(fields(AcceleratorConfig)):
        flag, default = f"--{field.name.replace('_', '-')}", field.default
        kind: Any = int
        if field.type is bool:
            flag, kind, default = f"{flag}/--no-{flag[2:]}", None, "yes" if default else "no"
        elif _is_enum(field.type):
            kind = click.Choice([str(kind) for kind in field.type])
        if field.name in _BY_NETWORK:
            default = "what the network's numbers want"
        help = f"{texts[field.name]}  [default: {default}]"
        wrapped = click.option(flag, type=kind, default=None, help=help)(wrapped)
    file = click.option("--config", type=PATH, help="A TOML file of the following options, with _ for -.")
    return cast(Function, file(wrapped))


def _is_enum(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, StrEnum)


def field_texts(cls: type) -> dict[str, str]:
    """Return what the section ``Attributes`` of a class's docstring says of each of its fields."""
    texts: dict[str, str] = {field.name: "" for field in fields(cls)}
    name = ""
    for line in (inspect.getdoc(cls) or "").splitlines():
        if re.fullmatch(r"\w+", line):
            name = line
        elif not line.startswith("    "):
            name = ""
        elif name in texts:
            texts[name] += f" {line.strip()}"
    return {name: text.strip().replace("``", "") for name, text in texts.items()}
