"""Whether probabilities are frequencies."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from ..evaluation.statistics import mean_se

BINS = 10


def calibration_error(predicted: Tensor, target: Tensor) -> tuple[float, float]:
    """The expected calibration error of each value by itself, and its standard error.

    ``1/2 sum_k sum_b share(b) |mean target - mean prediction|``, over the values k and 10 bins b of the probability
    that is predicted of k: the classwise error [Kull et al. 2019] summed over the values and halved rather than
    divided by their number, so that it is the total variation distance between prediction and frequency where all data
    have the same prediction.

    A mean of absolute differences would be above 0 by chance alone. Here the sign of each difference is that on the
    other half of the data, the data of even and of odd place, so that it is 0 in the mean where the prediction is
    right, may fall below, and is otherwise too low by what a wrong sign costs. The standard error is that where the
    prediction is right, in which case the halves have the same sign by chance: 1 + 2/pi times the variance of the mean.

    Args:
        predicted: probabilities ``(N, P)``.
        target: what they are predictions of: one-hot, or themselves probabilities, which is less noisy; ``(N, P)``.
    """
    gap = (target - predicted).double()
    data, values = gap.shape
    cell = _bins(predicted) + BINS * torch.arange(values)  # (N, P)
    half = torch.arange(data) % 2
    sums = torch.zeros(2, BINS * values, dtype=torch.float64)
    for fold in range(2):
        sums[fold].index_add_(0, cell[half == fold].flatten(), gap[half == fold].flatten())
    sign = sums.sign()[1 - half].gather(1, cell)  # (N, P)
    value, error = mean_se((sign * gap).sum(1) / 2)
    return value, error * math.sqrt(1 + 2 / math.pi)


def reliability(predicted: Tensor, target: Tensor) -> np.ndarray:
    """Rows: mean prediction, frequency, and pairs of datum and value, by bin of the prediction: ``(3, 10)``.

    All values together; an empty bin has its middle for a prediction and a frequency of 0. Arguments as those of
    :func:`calibration_error`.
    """
    cell = _bins(predicted).flatten()
    count = torch.bincount(cell, minlength=BINS).double()
    sums = [torch.bincount(cell, law.double().flatten(), BINS) for law in (predicted, target)]
    filled = count.clamp(min=1)
    middle = (torch.arange(BINS, dtype=torch.float64) + 0.5) / BINS
    mean = torch.where(count > 0, sums[0] / filled, middle)
    return torch.stack([mean, sums[1] / filled, count]).numpy()


def _bins(predicted: Tensor) -> Tensor:
    return (predicted * BINS).long().clamp(0, BINS - 1)
