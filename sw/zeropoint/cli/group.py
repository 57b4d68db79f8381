"""The ``zeropoint`` command and the names of what it can do."""

import os
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Any, NoReturn

import click

from zeropoint import __version__
from zeropoint.cli.failures import exit_status

#: What each command does, in the order in which a user meets them. A command is the object ``command`` in the module
#: of its name, which takes too long to import for a list of commands.
COMMANDS = {
    "demo": "Run the whole path on the network and the images that ship with Zeropoint.",
    "quantize": "Quantize a float network after training.",
    "info": "Show a network's layers, shapes, scales, operations and parameters.",
    "export": "Write a quantized network as an ONNX file for other tools.",
    "golden": "Run the golden model.",
    "compile": "Compile a network to a layer program, a memory map and weight images.",
    "simulate": "Run a network on the simulated hardware and compare it with the golden model.",
    "boards": "List the boards that a network can run on.",
    "build": "Build the bitstream that runs a network on a board.",
    "program": "Put a bitstream on a board.",
    "run": "Run a compiled network on a board, or on a virtual one.",
    "verilog": "Write the accelerator for a network as Verilog with weight images.",
    "doctor": "Show which tools were found, which are missing and how to get them.",
}


#: By this environment variable a shell asks for completions.
COMPLETE = "_ZEROPOINT_COMPLETE"


class _Commands(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = import_module(f"zeropoint.cli.{cmd_name}").command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        # Click prints the help as an error, or not, as its version has it.
        return super().parse_args(ctx, args or ["--help"])

    def main(self, args: Sequence[str] | None = None, prog_name: str | None = None, **extra: Any) -> NoReturn:  # type: ignore[override]
        name = prog_name or "zeropoint"
        if COMPLETE in os.environ:
            super().main(args, name, COMPLETE, **extra)
        words = list(sys.argv[1:] if args is None else args)

        # Click's own main would exit with status 1 where nobody reads the output.
        def run() -> None:
            with self.make_context(name, words) as ctx:
                self.invoke(ctx)

        sys.exit(exit_status(run))


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, message="%(prog)s %(version)s")
def zeropoint() -> None:
    """From a trained network to a bit-exact integer accelerator.

    MODEL is a quantized network: a .zp file, which "quantize" writes, a
    quantized .onnx file or a .tflite file.
    Arrays are .npy files with the batch first. Integers are the network's
    quantized values; floats are quantized with the scale of its input.

    Exit status: 0 done; 1 the hardware and the golden model differ;
    2 bad usage or bad input, said in one line; 70 a defect of Zeropoint;
    130 interrupted; 141 nobody reads the output any more; 143 terminated.
    With ZEROPOINT_DEBUG=1 in the environment, errors come with a traceback.
    """
