"""The loop of INQ: quantize a portion, retrain, measure, and so on, with checkpoints."""

from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from torch import Tensor, nn

from zeropoint.errors import ZeropointError, quoted_list
from zeropoint.files import as_path, atomic_file, check_writable
from zeropoint.train.inq import Inq

#: What a checkpoint holds.
_CONTENT: Mapping[str, type] = {"model": dict, "inq": dict, "accuracies": list, "generator": Tensor}


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
    checkpoint: str | Path | None = None,
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
        If the checkpoint cannot be read or written, is none, or is of another model or other settings. ``model`` and
        ``inq`` are as they were then.
    """
    stages: list[Stage] = []
    path = None if checkpoint is None else as_path(checkpoint, "the checkpoint")
    if path is not None:
        check_writable(path)
        if path.exists():
            stages = _resume(path, model, inq)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console or Console(stderr=True)) as progress:
        task = progress.add_task(f"INQ, {inq.bits} bits", total=len(inq.portions), completed=len(stages))
        while not inq.done:
            portion = inq.advance()
            fit(model, portion)
            stages.append(Stage(portion, float(evaluate(model))))
            if path is not None:
                _save(path, model, inq, stages)
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
    """Bring ``model``, ``inq`` and torch's generator to the state in the checkpoint; return the stages so far.

    Where that fails nothing is changed.
    """
    before, generator = deepcopy(model.state_dict()), torch.get_rng_state()
    try:
        content = _read(path)
        _check(content, model)
        try:
            _set_generator(content["generator"])
            model.load_state_dict(content["model"])
            inq.load_state_dict(content["inq"])
        except Exception:
            model.load_state_dict(before)
            torch.set_rng_state(generator)
            raise
    except (ZeropointError, RuntimeError, TypeError, ValueError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise ZeropointError(
            f"cannot go on from the checkpoint '{path}': {reason}; remove the file, or name another, to start anew"
        ) from error
    return [Stage(*pair) for pair in zip(inq.portions, content["accuracies"], strict=False)]


def _read(path: Path) -> Any:
    """Return what the checkpoint holds."""
    try:
        return torch.load(path, weights_only=True, map_location="cpu")
    except OSError as error:
        raise ZeropointError(f"it cannot be read: {error.strerror or error}") from error
    except Exception as error:
        # Anything can come out of unpickling somebody's file, and PyTorch's advice is to trust it.
        raise ZeropointError("it is no checkpoint of INQ, or is damaged") from error


def _check(content: Any, model: nn.Module) -> None:
    """Raise ZeropointError unless ``content`` is what :func:`_save` writes, of this model."""
    if not isinstance(content, dict):
        raise ZeropointError(f"it is no checkpoint of INQ: it holds {_described(content)}, expected a dict")
    if absent := [f"'{key}'" for key in _CONTENT if key not in content]:
        raise ZeropointError(f"it is no checkpoint of INQ: it has no {quoted_list(absent)}")
    for key, kind in _CONTENT.items():
        if not isinstance(content[key], kind):
            raise ZeropointError(
                f"it is no checkpoint of INQ: its '{key}' is {_described(content[key])}, expected a {kind.__name__}"
            )
    accuracies, step = content["accuracies"], content["inq"].get("step")
    if len(accuracies) != step or not all(isinstance(accuracy, float) for accuracy in accuracies):
        raise ZeropointError(f"it has not one accuracy for each of its {step} portions")
    saved, own = content["model"], model.state_dict()
    for name, value in own.items():
        if name not in saved:
            raise ZeropointError(f"it is of another network: it has no '{name}'")
        if _described(saved[name]) != _described(value):
            raise ZeropointError(
                f"it is of another network: its '{name}' is {_described(saved[name])}, expected {_described(value)}"
            )
    for name in saved:
        if name not in own:
            raise ZeropointError(f"it is of another network: it has '{name}', which the model has not")


def _set_generator(state: Tensor) -> None:
    try:
        torch.set_rng_state(state)
    except (RuntimeError, TypeError) as error:
        raise ZeropointError("its 'generator' is no state of this PyTorch's random generator") from error


def _described(value: object) -> str:
    """Return what a value is: the shape of a tensor, otherwise its type."""
    if isinstance(value, Tensor):
        return f"a Tensor of shape {tuple(value.shape)}"
    name = type(value).__name__
    return f"{'an' if name[0] in 'aeiouAEIOU' else 'a'} {name}"
