"""Run by a process of its own: builds or starts a Verilog simulator through cocotb's runners.

The runners take their settings from the environment, wait for what they start and end the process when it fails, none
of which suits a library. The argument is JSON: ``simulator``, ``step`` (``build`` or ``test``), ``trace``, and the
runner's own arguments for the step.
"""

import json
import os
import sys
from typing import Any

from cocotb_tools.runner import Icarus, Verilator

#: Settings of cocotb and its runners that a user may have for other projects.
_SETTINGS = ("WAVES", "GUI", "SIM_CMD_PREFIX", "SIM_CMD_SUFFIX", "GPI_USERS", "PYTEST_CURRENT_TEST", "MAKEFLAGS")


class _IcarusVcd(Icarus):
    """Icarus with waveforms as VCD, where cocotb's own runner asks for FST."""

    def _test_command(self) -> list[list[str]]:
        commands: list[list[str]] = super()._test_command()
        return [["-vcd" if word == "-fst" else word for word in command] for command in commands]


def main() -> None:
    """Do what the argument asks for."""
    request: dict[str, Any] = json.loads(sys.argv[1])
    for name in [*os.environ]:
        if name in _SETTINGS or name.startswith("COCOTB_"):
            del os.environ[name]
    os.environ.update(request["environment"])
    runner = Verilator() if request["simulator"] == "verilator" else _IcarusVcd()
    getattr(runner, request["step"])(**request["arguments"])


if __name__ == "__main__":
    main()
