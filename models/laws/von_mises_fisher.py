"""The von Mises-Fisher law of a direction, with pathwise gradients."""

from __future__ import annotations

import math
from functools import cache

import numpy as np
import torch
from pyro.distributions import TorchDistribution, constraints
from torch import Tensor
from torch.distributions import register_kl

TINY = 1e-12
"""A concentration below which the law is uniform to all digits, and has no mean direction."""

WIDTH = 12.0
"""Standard deviations around the mode beyond which nothing of an integral lies."""


class VonMisesFisherLaw(TorchDistribution):
    """``p(z) = exp(theta . z) / Z(k)`` on the unit sphere of D dimensions, ``k = |theta|``.

    ``Z`` is an integral over the angle to the mean direction, by quadrature; draws are exact [Wood 1994]. Their
    gradient is that of a flow on the sphere along which the density changes as theta does, unbiased for any such flow:
    along the mean direction by the law of the cosine alone, ``dw/dk = -(dF/dk) / f`` [Figurnov et al. 2018, eq. 5];
    across it by a rotation, whose speed is ``1/k``, and near the uniform law by ``c(w)`` times the projected
    direction, where ``w c' + (k w + D - 1) c = 1``, so that its variance is bounded where a rotation's is not.

    Args:
        theta: natural parameter ``(*batch, D)``, D at least 2; its length is the concentration.
    """

    arg_constraints = {"theta": constraints.real_vector}  # noqa: RUF012
    support = constraints.sphere
    has_rsample = True

    def __init__(self, theta: Tensor, validate_args: bool | None = None) -> None:
        if theta.shape[-1] < 2:
            raise ValueError(
                f"VonMisesFisherLaw: D must be at least 2, got theta of shape {tuple(theta.shape)}"
            )
        self.theta = theta
        super().__init__(theta.shape[:-1], theta.shape[-1:], validate_args=validate_args)

    def expand(
        self, batch_shape: torch.Size, _instance: VonMisesFisherLaw | None = None
    ) -> VonMisesFisherLaw:
        new = self._get_checked_instance(VonMisesFisherLaw, _instance)
        new.theta = self.theta.expand(*batch_shape, -1)
        super(VonMisesFisherLaw, new).__init__(torch.Size(batch_shape), self.event_shape, validate_args=False)
        return new

    @property
    def concentration(self) -> Tensor:
        """``k``, of the batch shape."""
        return (self.theta.square().sum(-1) + TINY**2).sqrt()

    @property
    def direction(self) -> Tensor:
        """The mean direction, the first axis where the law is uniform."""
        axis = torch.zeros_like(self.theta)
        axis[..., 0] = 1.0
        k = self.concentration[..., None]
        return torch.where(k > 2 * TINY, self.theta / k, axis)

    @property
    def log_normaliser(self) -> Tensor:
        """``log Z``."""
        return self._integral[0]

    @property
    def mean(self) -> Tensor:
        return self._integral[1][..., None] * self.direction

    @property
    def variance(self) -> Tensor:
        _, first, second = self._integral
        along = self.direction.square()
        across = (1 - along) * ((1 - second) / (self.theta.shape[-1] - 1))[..., None]
        return along * (second - first.square())[..., None] + across

    def entropy(self) -> Tensor:
        log_z, first, _ = self._integral
        return log_z - self.concentration * first

    def log_prob(self, value: Tensor) -> Tensor:
        if self._validate_args:
            self._validate_sample(value)
        return (self.theta * value).sum(-1) - self.log_normaliser

    @torch.no_grad()
    def sample(self, sample_shape: torch.Size | tuple[int, ...] = ()) -> Tensor:
        return self._draw(torch.Size(sample_shape))

    def rsample(self, sample_shape: torch.Size | tuple[int, ...] = ()) -> Tensor:
        with torch.no_grad():
            z = self._draw(torch.Size(sample_shape))
        if not (torch.is_grad_enabled() and self.theta.requires_grad):
            return z
        return z + self._flow(z, self.theta - self.theta.detach())

    @property
    def _integral(self) -> tuple[Tensor, Tensor, Tensor]:
        """``log Z``, and mean and mean square of the cosine to the mean direction."""
        k, dim = self.concentration, self.theta.shape[-1]
        low, high = _range(k.detach(), dim)
        nodes, log_weights = _nodes(128, k.dtype, k.device)
        angle = low[..., None] + (high - low)[..., None] * nodes
        cosine = angle.cos()
        log_f = k[..., None] * (cosine - 1) + (dim - 2) * angle.sin().log() + log_weights
        log_sum = log_f.logsumexp(-1)
        share = (log_f - log_sum[..., None]).exp()
        log_sphere = math.log(2) + (dim - 1) / 2 * math.log(math.pi) - math.lgamma((dim - 1) / 2)
        log_z = k + log_sum + (high - low).log() + log_sphere
        return log_z, (share * cosine).sum(-1), (share * cosine.square()).sum(-1)

    def _draw(self, sample_shape: torch.Size) -> Tensor:
        shape = sample_shape + self.batch_shape
        direction = self.direction.detach().expand(*shape, -1)
        w = _cosines(self.concentration.detach().expand(shape), self.theta.shape[-1])[..., None]
        noise = torch.randn_like(direction)
        across = noise - (noise * direction).sum(-1, keepdim=True) * direction
        across = across / across.norm(dim=-1, keepdim=True)
        z = w * direction + (1 - w.square()).clamp(min=0).sqrt() * across
        return z / z.norm(dim=-1, keepdim=True)

    def _flow(self, z: Tensor, change: Tensor) -> Tensor:
        """The tangent at ``z`` that a ``change`` of theta moves it along."""
        with torch.no_grad():
            direction, k, dim = self.direction, self.concentration, z.shape[-1]
            w = (z * direction).sum(-1).clamp(-1, 1)
            outwards = _cosine_speed(w, k, self._integral[1], dim) / (1 - w.square()).clamp(min=1e-12)
            near_uniform = (-k.square() / 2).exp()
            flat = near_uniform * _flat_speed(w, k.clamp(max=8.0), dim)
            turning = -torch.expm1(-k.square() / 2) / k
        along = (direction * change).sum(-1, keepdim=True)
        across = change - along * direction
        with_z = (across * z).sum(-1, keepdim=True)
        return (
            along * outwards[..., None] * (direction - w[..., None] * z)
            + flat[..., None] * (across - with_z * z)
            + turning[..., None] * (w[..., None] * across - with_z * direction)
        )


@register_kl(VonMisesFisherLaw, VonMisesFisherLaw)
def _kl(p: VonMisesFisherLaw, q: VonMisesFisherLaw) -> Tensor:
    return ((p.theta - q.theta) * p.mean).sum(-1) - p.log_normaliser + q.log_normaliser


@cache
def _legendre(num: int) -> tuple[np.ndarray, np.ndarray]:
    x, weight = np.polynomial.legendre.leggauss(num)
    return (x + 1) / 2, np.log(weight / 2)


def _nodes(num: int, dtype: torch.dtype, device: torch.device) -> tuple[Tensor, Tensor]:
    """Places and log-weights of Gauss-Legendre quadrature on [0, 1]."""
    x, log_weight = _legendre(num)
    return torch.tensor(x, dtype=dtype, device=device), torch.tensor(log_weight, dtype=dtype, device=device)


def _range(k: Tensor, dim: int) -> tuple[Tensor, Tensor]:
    """Angles between which ``exp(k cos t) sin(t)^(D-2)`` lies, but for what rounding hides."""
    n = dim - 2
    cosine = 2 * k / (n + (n**2 + 4 * k.square()).sqrt())  # k sin^2 = (D-2) cos
    mode = cosine.clamp(max=1.0).acos() if n else torch.zeros_like(k)
    curvature = k * cosine + (n / mode.sin().square().clamp(min=1e-12) if n else 0.0)
    width = WIDTH / curvature.sqrt()
    return (mode - width).clamp(min=0.0), (mode + width).clamp(max=math.pi)


def _cosines(k: Tensor, dim: int) -> Tensor:
    """Draws of the cosine to the mean direction, by rejection [Wood 1994, algorithm VM*]."""
    n = dim - 1
    b = n / (2 * k + (4 * k.square() + n**2).sqrt())
    x = (1 - b) / (1 + b)
    c = k * x + n * (1 - x.square()).log()
    beta = torch.distributions.Beta(*(torch.tensor(n / 2, dtype=k.dtype, device=k.device),) * 2)
    out, wanted = torch.zeros_like(k), torch.ones_like(k, dtype=torch.bool)
    while wanted.any():
        e = beta.sample(k.shape)
        w = (1 - (1 + b) * e) / (1 - (1 - b) * e)
        taken = wanted & (k * w + n * (1 - x * w).log() - c >= torch.rand_like(k).log())
        out, wanted = torch.where(taken, w, out), wanted & ~taken
    return out


def _cosine_speed(w: Tensor, k: Tensor, mean: Tensor, dim: int) -> Tensor:
    """``dw/dk`` at a fixed place in the law of the cosine: a tail's integral of ``s - E[s]`` over the density at w."""
    nodes, log_weights = _nodes(64, w.dtype, w.device)
    at = w.acos()
    upper = w >= mean
    far = torch.minimum(math.pi - at, 40 / (k * at.sin()).clamp(min=1e-6))
    low, length = torch.where(upper, 0.0, at), torch.where(upper, at, far)
    angle = low[..., None] + length[..., None] * nodes
    cosine, ratio = angle.cos(), angle.sin() / at.sin().clamp(min=1e-12)[..., None]
    log_f = k[..., None] * (cosine - w[..., None]) + (dim - 3) * ratio.clamp(min=1e-30).log() + log_weights
    total = ((cosine - mean[..., None]) * angle.sin() * log_f.exp()).sum(-1) * length
    return torch.where(upper, total, -total)


def _flat_speed(w: Tensor, k: Tensor, dim: int) -> Tensor:
    """``c(w)``: the solution of ``w c' + (k w + D - 1) c = 1`` that is finite at 0."""
    nodes, log_weights = _nodes(32, w.dtype, w.device)
    tilt = -(k * w)[..., None] * (1 - nodes)
    return (tilt + (dim - 2) * nodes.log() + log_weights).exp().sum(-1)
