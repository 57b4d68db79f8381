"""What calibration data tell of a float network, before any scheme is applied to it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from zeropoint.errors import quoted_list
from zeropoint.model import FloatModel
from zeropoint.quantize.bias_correction import mean_inputs
from zeropoint.quantize.calibration import CalibrationMethod, Range, calibrate
from zeropoint.quantize.convert import observed_tensors
from zeropoint.quantize.schemes import Float64s, Rules, Weighted


@dataclass(frozen=True)
class Observed:
    """Ranges and means on calibration data.

    Attributes
    ----------
    ranges
        Of the tensors that ``convert`` wants.
    inputs
        What ``bias_correction.mean_inputs`` returns, or nothing.
    notes
        What a model's metadata are to say of this.
    """

    ranges: Mapping[str, Range]
    inputs: Mapping[str, Float64s]
    notes: Mapping[str, str]


def observe(
    model: FloatModel,
    calibration: npt.ArrayLike,
    rules: Rules,
    method: CalibrationMethod,
    percentile: float,
    bias_correction: bool,
    progress: Callable[[float], object] = lambda done: None,
) -> Observed:
    """Run ``model`` on calibration data; parameters and errors are those of :func:`zeropoint.quantize.quantize`."""
    names = [name for members in observed_tensors(model).values() for name in members]
    share = 0.75 if bias_correction else 1.0
    ranges, constant = calibrate(
        model, calibration, names, rules, method, percentile, lambda done: progress(done * share)
    )
    inputs = {}
    if bias_correction:
        inputs = mean_inputs(model, calibration, lambda done: progress(share + done * (1 - share)))
    notes = {
        "calibration": f"{method.value} {percentile:g}" if method is CalibrationMethod.PERCENTILE else method.value,
        "calibration samples": str(len(np.asarray(calibration))),
        "bias correction": "yes" if bias_correction else "no",
    }
    if constant:
        notes["warning"] = (
            f"the calibration data leave the ranges of some activations open, which have one value only: "
            f"{quoted_list(constant)}; give inputs typical of those to come"
        )
    return Observed(ranges, inputs, notes)


def peak(model: FloatModel, ranges: Mapping[str, Range]) -> float:
    """Return the greatest magnitude of all activations and weights."""
    ends = [abs(end) for low_high in ranges.values() for end in low_high]
    weights = (model.tensor(operator.weights).data for operator in model.operators if isinstance(operator, Weighted))
    return max([*ends, *(float(np.abs(data).max()) for data in weights if data is not None)])
