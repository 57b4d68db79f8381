"""The command line: each command parses its options, calls the library and prints.

Modules:

- ``group``: the commands' names; their modules are imported when they are asked for.
- ``failures``: what goes wrong, as one line and an exit status.
- ``options``: arguments and options that several commands have.
- ``terminal``: tables, notes and progress bars.
- ``demo``, ``quantize``, ``info``, ``export``, ``golden``, ``compile``, ``simulate``, ``doctor``: a command each;
  ``simulation`` is what ``demo`` and ``simulate`` share.
"""

from zeropoint.cli.group import zeropoint


def main() -> None:
    """Run the command line."""
    zeropoint()
