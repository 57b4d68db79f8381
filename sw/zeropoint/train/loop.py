"""The loop of INQ: quantize a portion, retrain, measure, and so on, with checkpoints."""

import pickle
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from torch import nn

from zeropoint.errors import ZeropointError
from zeropoint.files import atomic_file, check_writable
from zeropoint.train.inq import Inq

#: What can be wrong with a file that torch.load reads, or with a state dict in it.
_LOADING_ERRORS = (
    OSError,
    RuntimeError,
    ValueError,
    KeyError,
    TypeError,
    AttributeError,
    EOFError,
    pickle.PickleError,
    struct.error,
)


@dataclass(frozen=True)
class Stage:
    """One step of INQ: the accumulated portion, and the accuracy once the rest was retrained."""

    portion: float
    accuracy: float


def train_inq(
    model: nn.Module,
    inq: Inq,
    fit: Callable[[nn.Module, float], object],
    evaluate: Callable[[nn.Module], float],
    *,
    checkpoint: Path | None = None,
    console: Console | None = None,
) -> list[Stage]:
    """Quantize all of ``model`` with ``inq``, retraining after each portion; return the accuracy after each.

    The weights are plain parameters again at the end (:meth:`Inq.finish`). A progress bar is shown if ``console`` is a
    terminal.

    Parameters
    ----------
    model, inq
        ``Inq(model, …)``, as new.
    fit
        ``fit(model, portion)`` retrains; it makes its own optimizer, and so starts its learning rate anew. It is
        called after the last portion too, for biases and normalizations.
    evaluate
        ``evaluate(model)`` returns the accuracy.
    checkpoint
        A file to which all is saved after each portion, and from which the loop goes on if the file is there. The
        result has the same bits as without a break if all randomness of ``fit`` comes from torch's default generator,
        whose state is saved too, or from ``portion``.
    console
        Where the progress is shown: standard error if None.

    Raises
    ------
    ZeropointError
        If the checkpoint cannot be read or written, or is of another model or other settings.
    """
    stages: list[Stage] = []
    if checkpoint is not None:
        check_writable(checkpoint)
        if checkpoint.exists():
            stages = _resume(checkpoint, model, inq)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console or Console(stderr=True)) as progress:
        task = progress.add_task(f"INQ, {inq.bits} bits", total=len(inq.portions), completed=len(stages))
        while not inq.done:
            portion = inq.advance()
            fit(model, portion)
            stages.append(Stage(portion, float(evaluate(model))))
            if checkpoint is not None:
                _save(checkpoint, model, inq, stages)
            progress.console.print(
                f"{inq.bits} bits, portion {portion:g}: accuracy {stages[-1].accuracy:.2%}", highlight=False
            )
            progress.advance(task)
    inq.finish()
    return stages


def _save(path: Path, model: nn.Module, inq: Inq, stages: list[Stage]) -> None:
    content = {
        "model": model.state_dict(),
        "inq": inq.state_dict(),
        "accuracies": [stage.accuracy for stage in stages],
        "generator": torch.get_rng_state(),
    }
    with atomic_file(path) as temporary:
        torch.save(content, temporary)


def _resume(path: Path, model: nn.Module, inq: Inq) -> list[Stage]:
    """Bring ``model``, ``inq`` and torch's generator to the state in the checkpoint; return the stages so far."""
    try:
        content: dict[str, Any] = torch.load(path, weights_only=True, map_location="cpu")
        accuracies = [float(accuracy) for accuracy in content["accuracies"]]
        model.load_state_dict(content["model"])
        inq.load_state_dict(content["inq"])
        torch.set_rng_state(content["generator"])
    except (ZeropointError, *_LOADING_ERRORS) as error:
        reason = str(error).strip().partition("\n")[0]
        raise ZeropointError(
            f"cannot go on from the checkpoint '{path}': {reason}; remove the file to start anew"
        ) from error
    if len(accuracies) != (inq.portions.index(inq.portion) + 1 if inq.portion else 0):
        raise ZeropointError(f"the checkpoint '{path}' has not one accuracy for each portion; remove it to start anew")
    return [Stage(*pair) for pair in zip(inq.portions, accuracies, strict=False)]
