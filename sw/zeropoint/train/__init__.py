"""Training of networks for low-bit weights, with PyTorch; needs the extra ``train``.

:mod:`~zeropoint.train.channel_scales` prepares a float network, :mod:`~zeropoint.train.inq` quantizes its weights to
powers of two a portion at a time, :mod:`~zeropoint.train.loop` retrains and measures in between, and
:mod:`~zeropoint.train.plots` draws what came of it. ``docs/training.md`` shows their use.
"""

from importlib.util import find_spec

if find_spec("torch") is None:
    raise ModuleNotFoundError("zeropoint.train needs PyTorch: pip install 'zeropoint[train]'", name="torch")

from zeropoint.train.channel_scales import fit_channel_scales
from zeropoint.train.inq import SCHEDULES, Inq
from zeropoint.train.loop import Stage, train_inq
from zeropoint.train.plots import plot_accuracy
from zeropoint.train.qat import Qat

__all__ = ["SCHEDULES", "Inq", "Qat", "Stage", "fit_channel_scales", "plot_accuracy", "train_inq"]
