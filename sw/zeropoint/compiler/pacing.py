"""How long an output's beats take to drain: what the compiler leaves idle for them, and the verifier asks for."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from zeropoint_hw.config import AcceleratorConfig
from zeropoint_hw.isa import Instruction


def beat_words(i: Instruction) -> int:
    """Return how many words of parameters go with an instruction's beats, with those beyond its last channel."""
    return 1 if i.parameters_shared else i.groups * i.beats


def drain_cycles(config: AcceleratorConfig, i: Instruction, shifts: Sequence[int] | npt.NDArray[np.integer]) -> int:
    """Return the cycles in which an output's beats go to the requantizers.

    Parameters
    ----------
    shifts
        Of all channels in the parameter memory.
    """
    first = i.parameter_base * config.requantizers
    used = shifts[first : first + beat_words(i) * config.requantizers]
    least, greatest = (int(min(used)), int(max(used))) if len(used) else (0, 0)
    return i.beats * config.beat_cycles(least, greatest)
