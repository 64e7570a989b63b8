"""The baseline that is learned."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ...models import Backbone, BackboneReader, Reader
from ...models.backbone import BASE
from ..log_quantities import LogQuantities
from .baseline import Baseline, Bound


class NVIL(Baseline):
    """``c + C(x,y)``, a running mean and a linear function of what the base reads in y [Mnih & Gregor 2014].

    What is left is divided by its running standard deviation where that is above 1. C is fitted by least squares
    on the scaled rest; before :meth:`bind` it is 0. The running moments are those of the batches before, so that
    there is no bias by the baseline. The division makes the score's part of the gradient too small by that factor:
    biased in scale. Without ``normalise`` there is no bias. A single draw will do.

    Args:
        decay: of the running moments at each step, after the first ``1 / (1 - decay)`` that count alike; at least 0
            and below 1.
        normalise: divide by the standard deviation.
        reads: with C; without, the running mean alone, for a model without a backbone.

    Raises:
        ValueError: a decay out of range; in :meth:`bind`, ``reads`` and a model without a backbone.
    """

    def __init__(self, decay: float = 0.9, normalise: bool = True, reads: bool = True) -> None:
        super().__init__()
        if not 0 <= decay < 1:
            raise ValueError(f"baseline NVIL: decay must be at least 0 and below 1, got {decay}")
        self.decay, self.normalise, self.reads = decay, normalise, reads
        self.mean, self.variance = nn.Buffer(torch.zeros(())), nn.Buffer(torch.zeros(()))
        self.updates = nn.Buffer(torch.zeros(()))
        self.reader: Reader | None = None

    def bind(self, model: nn.Module) -> None:
        if not self.reads:
            return
        backbone = getattr(model, "backbone", None)
        if not isinstance(backbone, Backbone):
            raise ValueError(
                f"baseline NVIL: reads x and y by the model's backbone, and {type(model).__name__} has none; "
                "set reads=False, or use baseline LeaveOneOut"
            )
        self.reader = BackboneReader(backbone, BASE, 1, "mean", 0, response=True, every_layer=True)

    def forward(self, value: Tensor, bound: Bound, log: LogQuantities) -> tuple[Tensor, Tensor]:  # noqa: ARG002
        rest = value - self.mean
        if self.reader is not None:
            assert log.scene is not None
            rest = rest - self.reader(log.scene.batch)[:, 0]
        scaled = rest / self.variance.sqrt().clamp(min=1)
        signal = (scaled if self.normalise else rest).detach()
        self._update(rest.detach())
        return signal, -0.5 * scaled**2

    def _update(self, rest: Tensor) -> None:
        self.updates.add_(1)
        rate = self.updates.reciprocal().clamp(min=1 - self.decay)
        self.mean.add_(rate * rest.mean())
        spread = rest.var(correction=0) if len(rest) > 1 else rest.square().mean()
        self.variance.lerp_(spread.to(self.variance), rate)
