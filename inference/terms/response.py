"""The observed response, token by token, under every value of the latents."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ...models import LanguageModel
from ..expectations import observed_sites
from ..log_quantities import LogQuantities


@dataclass(frozen=True)
class Response:
    """What the model's run says of the tokens of the response; no further pass of the decoder.

    Attributes:
        law: ``p(y|x,z)``.
        value: y, ids ``(B, T)``.
        shape: of the joint values of the latents, ``(..., B)``, which is ``(P, B)`` when flattened.
    """

    law: LanguageModel
    value: Tensor
    shape: torch.Size

    @property
    def mask(self) -> Tensor:
        """``(B, T)``, True for a token."""
        return self.law.mask_of(self.value)

    @property
    def log_p(self) -> Tensor:
        """``log p(y_t|x,z,y_<t)``, ``(P, B, T)`` nats, 0 at padding."""
        tokens = self.law.token_log_probs(self.value)
        return tokens.expand(*self.shape, -1).reshape(-1, *self.value.shape)

    @property
    def hidden(self) -> Tensor:
        """Hidden states ``(P, B, T, hidden_size)``, of which ``law.logits_of`` makes the next-token logits."""
        hidden = self.law.hidden(self.value)
        return hidden.expand(*self.shape, -1, -1).reshape(-1, *self.value.shape, hidden.shape[-1])


def response_of(log: LogQuantities) -> Response:
    """The response of a run.

    Raises:
        ValueError: particles that were run one by one, or a model that does not observe one response.
    """
    if log.scene is None or log.scene.model_trace is None:
        raise ValueError(
            "a term on the tokens of the response needs the particles in one run; set one_by_one=false"
        )
    found = {
        name: site
        for name, site in observed_sites(log.scene.model_trace).items()
        if isinstance(site["fn"], LanguageModel)
    }
    if len(found) != 1:
        raise ValueError(
            f"a term on the tokens of the response needs one observed LanguageModel site, got {sorted(found)}; "
            "observe the response at one"
        )
    (site,) = found.values()
    return Response(site["fn"], site["value"], _joint_shape(log))


def _joint_shape(log: LogQuantities) -> torch.Size:
    if not log.enumerated:
        return log.log_lik.shape
    shapes = [s.z.shape[: s.z.dim() - s.prior.event_dim] for s in log.sites.values()]
    return torch.broadcast_shapes(log.log_lik.shape[-1:], *shapes)
