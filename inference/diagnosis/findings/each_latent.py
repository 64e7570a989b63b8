"""What the response tells of each of several latents."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ...evaluation.statistics import mean_se
from ...evaluation.use import WEAK
from ..diagnostic import Diagnosis
from .evidence import Estimate, estimate, sizes
from .guide_far import guide_far
from .verdict import BIT, in_use


def idle_latents(diagnosis: Diagnosis) -> dict[str, Estimate]:
    """By latent, what the response tells of those of which it tells nothing; none where z is one, or collapsed.

    Nothing is less than a twentieth of what it could. Of enumerable latents the larger of two is asked:
    ``I(z_i; y|x,z_<i)``, given the latents that the program draws before it, and given all others. A parent whose child
    alone reaches the response has the first and not the second; of two latents that act by their difference the first
    has the second alone.
    """
    if len(diagnosis.subject.model.latents) < 2 or not in_use(diagnosis):
        return {}
    if not diagnosis.subject.enumerable:
        return _by_guide(diagnosis)
    return {
        name: max(told.in_order, told.beside, key=lambda estimated: estimated.value)
        for name, told in _exact(diagnosis).items()
        if told.in_order.below(WEAK * told.most) and told.beside.below(WEAK * told.most)
    }


def acting(diagnosis: Diagnosis) -> np.ndarray:
    """``(P,)``: the same number for joint values that differ in latents alone that do not act on the response.

    Those are idle ones, and parents that choose among their children and do no more: the response tells nothing of
    them beside all others.
    """
    told = _exact(diagnosis) if len(diagnosis.subject.model.latents) > 1 else {}
    out, stride = np.zeros(1, dtype=int), 1
    for name, size in sizes(diagnosis.subject).items():
        silent = name in told and told[name].beside.below(WEAK * told[name].most)
        out = (np.arange(size)[:, None] * (0 if silent else stride) + out).flatten()
        stride *= size
    return out


@dataclass(frozen=True)
class _Told:
    """What the response tells of one latent: given those before it, given all others, and at most, in nats."""

    in_order: Estimate
    beside: Estimate
    most: float


def _exact(diagnosis: Diagnosis) -> dict[str, _Told]:
    """By latent; the most is the entropy of its own router, or of the responses."""
    seen = diagnosis.subject.seen
    assert seen.posterior is not None
    assert seen.router is not None
    found = sizes(diagnosis.subject)
    shape = (-1, *reversed(found.values()))  # the first latent changes fastest
    posterior, router = seen.posterior.double().reshape(shape), seen.router.double().reshape(shape)

    def told_without(axes: list[int]) -> Tensor:
        """``KL(posterior || router)`` of the latents at the other axes, ``(N,)``."""
        return _divergence(*(law.sum(axes) if axes else law for law in (posterior, router)))

    out = {}
    for i, name in enumerate(found):
        axis = len(found) - i
        later = list(range(1, axis))
        alone = router.sum([a for a in range(1, len(found) + 1) if a != axis])
        entropy = float(-torch.special.xlogy(alone, alone).sum(1).mean())
        out[name] = _Told(
            Estimate(*mean_se(told_without(later) - told_without([*later, axis]))),
            Estimate(*mean_se(told_without([]) - told_without([axis]))),
            min(entropy, float(-seen.log_base.double().mean())),
        )
    return out


def _by_guide(diagnosis: Diagnosis) -> dict[str, Estimate]:
    """The same by the divergence of the guide from the router, against one bit; nothing where the guide is far off."""
    if guide_far(diagnosis) is not None:
        return {}
    found = {name: estimate(diagnosis, f"dimension/kl/{name}") for name in diagnosis.subject.model.latents}
    return {name: told for name, told in found.items() if told is not None and told.below(WEAK * BIT)}


def _divergence(p: Tensor, q: Tensor) -> Tensor:
    """``KL(p || q)`` of each datum, ``(N,)``."""
    return (torch.special.xlogy(p, p) - torch.special.xlogy(p, q)).reshape(len(p), -1).sum(1)
