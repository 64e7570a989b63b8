"""The exact posterior led by a partition that was made before the fit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from torch import Tensor

from ...models import Backbone
from ..dataset import Dataset
from ..expectations import Enumerate
from ..log_quantities import LogQuantities, xlogp
from ..partitions import Partition
from ..schedules import Schedule
from .term import Term

PARTITION = "response/partition"
"""Name of the partition among the features of the data, ``(N, P)`` with rows that sum to one."""


class Distillation(Term):
    """``KL(r(z|x,y) || p(z|x,y))`` in nats per sequence, lowered in decoder and router; exact by enumeration.

    ``r`` is a partition of the data, made once before the fit. With weight 1 beside ``log p(y|x)`` the two are
    ``E_r[log p(y,z|x)] + H(r)``, the ELBO whose posterior is the partition: decoder and router are fitted to it as if z
    had been seen [latent variable distillation, Liu et al. 2023]. As the weight falls to 0 the posterior is left to
    itself: the partition is where EM starts.

    With ``smoothing`` s the partition is mixed with its mean over the data it was made on, ``(1 - s) r + s mean(r)``. A
    part that has no response to a prompt is then led by the others' responses there, and falls back on them where it is
    asked for all the same; where it has its own, these outweigh the rest, those of a rare part as well.

    Args:
        partition: makes it.
        smoothing: from 0 to below 1.
        weight: as of every term.

    Raises:
        ValueError: a smoothing out of range.
    """

    expectations: ClassVar = (Enumerate,)
    sign: ClassVar = -1
    reads: ClassVar = (PARTITION,)

    def __init__(self, partition: Partition, smoothing: float = 0.0, weight: float | Schedule = 1.0) -> None:
        super().__init__(weight)
        if not 0 <= smoothing < 1:
            raise ValueError(f"term Distillation: expected smoothing in [0, 1), got {smoothing}")
        self.partition, self.smoothing = partition, smoothing

    def prepare(self, backbone: Backbone, data: Sequence[Dataset], values: int, seed: int) -> None:
        assign = self.partition.fit(backbone, data[0], values, seed)
        mean = assign(data[0]).mean(0)
        for part in data:
            part.features[PARTITION] = (1 - self.smoothing) * assign(part) + self.smoothing * mean

    def value(self, log: LogQuantities) -> Tensor:
        features = log.scene.batch.features if log.scene is not None else {}
        if PARTITION not in features:
            raise ValueError(
                "term Distillation: the batch has no partition; call prepare of the algorithm with the data sets "
                "before the first step, as stratagem fit does"
            )
        r = features[PARTITION].T  # (P, B)
        return xlogp(r.log(), r.log() - log.log_posterior).sum(0)
