"""The cheap figures of a fit, on a batch and on held-out data."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

from ..models import base_law
from .dataset import Dataset
from .loss import Loss
from .randomness import seeded


class Evaluation:
    """The objective and the cheap figures on held-out data, the same draws at every call.

    The terms have the weights of the end of the fit, so that one evaluation compares with another, or those where a
    share of it is done. After a call :attr:`line` says it in short. Where enumerated, :attr:`usage` is the share of
    each strategy, and :attr:`entropy` that of its responses, ``E[-log p(y|x,z)]`` over the data weighted by
    ``p(z|x,y)``, nats per sequence.
    """

    def __init__(self, step: nn.Module, test: Dataset, size: int, batch_size: int) -> None:
        self.step = step
        device = next(step.parameters()).device
        limit = min(size, len(test))
        self.batches = [
            test.batch(range(start, min(start + batch_size, limit))).to(device)
            for start in range(0, limit, batch_size)
        ]
        self.base = self._base()
        self.line = ""
        self.usage: list[float] = []
        self.entropy: list[float] = []

    @torch.no_grad()
    def _base(self) -> list[Tensor] | None:
        if not any(hasattr(self.step.model, name) for name in ("base", "backbone")):
            return None
        return [
            base_law(self.step.model, batch).log_prob(batch.response)
            for batch in self.batches
            if batch.response is not None
        ]

    @torch.no_grad()
    def __call__(self, share: float = 1.0) -> dict[str, float]:
        device = self.batches[0].prompt.device
        with seeded(0, device):
            losses = [self.step(batch, share) for batch in self.batches]
        sizes = [len(batch) for batch in self.batches]
        figures = summary(losses, sizes)
        self.line = f" test {figures['bound']:.3f}"
        if self.base is not None:
            tokens = sum(int(b.response_mask.sum()) for b in self.batches if b.response_mask is not None)
            gap = sum(float((b - loss.bound).sum()) for b, loss in zip(self.base, losses, strict=True))
            figures["fidelity_gap_per_token"] = gap / tokens
            self.line += f" gap {gap / tokens:.4f}/token"
        found = [
            (loss.usage, loss.log_lik)
            for loss in losses
            if loss.usage is not None and loss.log_lik is not None
        ]
        if found:
            usage, log_lik = (torch.cat(part, -1) for part in zip(*found, strict=True))  # (P, N)
            mean = usage.mean(-1)
            self.usage = mean.tolist()
            self.entropy = (-(usage * log_lik).sum(-1) / usage.sum(-1).clamp(min=1e-9)).tolist()
            figures |= {f"usage/{k}": share for k, share in enumerate(self.usage)}
            figures |= {f"entropy/{k}": nats for k, nats in enumerate(self.entropy)}
            self.line += f" usage {' '.join(f'{share:.2f}' for share in self.usage[:8])}"
        return figures


def summary(losses: Sequence[Loss], sizes: Sequence[int] | None = None) -> dict[str, float]:
    """The cheap figures of the parts of a batch, means over its data.

    Args:
        losses: of the parts.
        sizes: data of each; None for those of the bounds.
    """
    sizes = sizes or [len(loss.bound) for loss in losses]

    def mean(values: Iterable[Tensor]) -> float:
        return sum(n * float(v.mean()) for n, v in zip(sizes, values, strict=True)) / sum(sizes)

    out = {"bound": mean(loss.bound for loss in losses), "objective": mean(loss.objective for loss in losses)}
    kl_router = [loss.kl_router for loss in losses if loss.kl_router is not None]
    information = [loss.information for loss in losses if loss.information is not None]
    out |= {"kl_router": mean(kl_router)} if kl_router else {}
    out |= {"information": mean(information)} if information else {}
    return out | {f"term/{name}": mean(loss.terms[name] for loss in losses) for name in losses[0].terms}
