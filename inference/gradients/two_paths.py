"""One run of the model for two gradients: its own, and the guide's through the draws."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor

from ..log_quantities import LogQuantities
from .rescoring import rescore

Bound = Callable[[LogQuantities], Tensor]


def slope(bound: Bound, log: LogQuantities) -> Tensor:
    """``dF/dlog_w``, ``(P, B)`` and held fixed, of a bound F that is a function of ``log_w`` alone."""
    log_w, value = _at_weights(bound, log)
    return torch.autograd.grad(value.sum(), log_w)[0]


def slope_and_curvature(bound: Bound, log: LogQuantities) -> tuple[Tensor, Tensor]:
    """As :func:`slope`, and ``d^2F/dlog_w_s^2`` of each particle s, ``(P, B)``."""
    log_w, value = _at_weights(bound, log)
    (first,) = torch.autograd.grad(value.sum(), log_w, create_graph=True)
    if not first.requires_grad:
        return first, torch.zeros_like(first)
    particles = torch.eye(len(log_w), dtype=log_w.dtype, device=log_w.device)
    each = particles[..., None].expand(-1, -1, log_w.shape[1])  # (P, P, B)
    (hessian,) = torch.autograd.grad(first, log_w, each, is_grads_batched=True)
    return first.detach(), hessian.diagonal().T


def _at_weights(bound: Bound, log: LogQuantities) -> tuple[Tensor, Tensor]:
    log_w = log.log_w.detach().requires_grad_()
    none = torch.zeros_like(log_w)
    return log_w, bound(replace(log, log_lik=log_w, log_prior=none, log_q=none))


def two_paths(log: LogQuantities, model: Tensor, guide: Tensor) -> Tensor:
    """``(B,)``, to be differentiated in place of a bound.

    Its gradient is ``sum_s m_s d log p(y,z_s|x)`` in the model and ``sum_s g_s dlog w_s/dz_s dz_s`` in the guide, the
    q in ``w_s`` being a function of z alone. Where nothing else is differentiated, what flows into the draws is
    scaled on its way, in one run back through the model; where terms are, their part must not be, and it costs a
    second.

    Args:
        log: of draws.
        model: m, ``(P, B)``.
        guide: g, ``(P, B)``.
    """
    moving = [site.z for site in log.sites.values() if site.z.requires_grad]
    if not moving:
        return (model * log.log_joint).sum(0)
    log_w = log.log_joint - rescore(log, {name: site.z for name, site in log.sites.items()}, fixed=True)
    if log.run.alone:
        model = _above_rounding(model, guide)
        factor = guide / torch.where(model == 0, 1.0, model)
        for z in moving:
            z.register_hook(partial(_scale, factor))
        return (model * log_w).sum(0)
    slopes = torch.autograd.grad(log_w, moving, guide - model, retain_graph=True)
    paths = [
        (z * slope).reshape(*log_w.shape, -1).sum((0, 2)) for z, slope in zip(moving, slopes, strict=True)
    ]
    return (model * log_w).sum(0) + sum(paths)


def _above_rounding(model: Tensor, guide: Tensor) -> Tensor:
    """``model``, where smaller than a rounding error of ``guide`` at that size: no quotient is infinite or lost."""
    least = guide.abs() * torch.finfo(guide.dtype).eps
    return torch.where(model.abs() < least, torch.where(model < 0, -least, least), model)


def _scale(factor: Tensor, gradient: Tensor) -> Tensor:
    of_event = (1,) * (gradient.dim() - factor.dim())
    return (gradient * factor.reshape(*factor.shape, *of_event)).to(gradient.dtype)
