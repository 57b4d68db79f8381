"""Whether a program fits the memories of its configuration, and what to say where it does not."""

from zeropoint.errors import ZeropointError
from zeropoint_hw.config import AcceleratorConfig

#: What the size of each memory is called and counted in, by the field of AcceleratorConfig.
MEMORIES = {
    "activation_bytes": ("activation memory", "bytes"),
    "weight_bytes": ("weight memory", "bytes"),
    "parameter_channels": ("parameter memory", "channels"),
    "program_words": ("program memory", "words"),
    "tables": ("table memory", "tables"),
}


def check_fits(name: str, config: AcceleratorConfig, field: str, needed: int, reason: str = "") -> None:
    """Raise what :func:`shortage` returns if the memory is smaller than ``needed``; the parameters are the same."""
    if needed > getattr(config, field):
        raise shortage(name, config, field, needed, reason)


def shortage(name: str, config: AcceleratorConfig, field: str, needed: int, reason: str = "") -> ZeropointError:
    """Return the error for a memory that is too small: by how much, and which option makes room, or that none can.

    Parameters
    ----------
    name
        The network's.
    config
        What it does not fit.
    field
        The one of :data:`MEMORIES` that gives the memory's size.
    needed
        The size that the network needs.
    reason
        Why that is so.
    """
    memory, unit = MEMORIES[field]
    available = getattr(config, field)
    size = -(-needed // (whole := config.memories[field][0])) * whole
    try:
        AcceleratorConfig.from_dict(config.to_dict() | {field: size})
        advice = f"--{field.replace('_', '-')} {size} makes room there, --trim wherever it is short"
    except ValueError as error:
        advice = f"no option makes room, because {error}: use a smaller network"
    return ZeropointError(
        f"'{name}' does not fit: its {memory} must have {needed} {unit}{f' ({reason})' if reason else ''}, "
        f"{needed - available} more than the {available} of this configuration; {advice}"
    )
