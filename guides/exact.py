"""q(z|x,y) = p(z|x,y) by enumeration, without a network."""

from __future__ import annotations

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor, nn

from ..models import Batch, Capability, LatentLM
from .checks import check_router_and_decoder


class ExactGuide(nn.Module):
    """Bayes' rule over all values of all latents: ``p(z|x,y) = p(z|x) p(y|x,z) / sum_z' p(z'|x) p(y|x,z')``.

    Several latents are drawn in turn, each from its exact law given those before it. No gradient flows into
    the guide, which has no parameters.

    Args:
        model: every latent of it must be enumerable.

    Raises:
        ValueError: a latent that cannot be enumerated, or a model without router and decoder.
    """

    def __init__(self, model: LatentLM) -> None:
        super().__init__()
        check_router_and_decoder(model)
        wrong = [n for n, latent in model.latents.items() if Capability.ENUMERABLE not in latent.capabilities]
        if wrong:
            raise ValueError(
                f"guide exact: latent {wrong[0]} is {type(model.latents[wrong[0]]).__name__}, which cannot be "
                "enumerated; use guide=amortized"
            )
        self._model = [model]

    @torch.no_grad()
    def log_joint(self, batch: Batch) -> Tensor:
        """``log p(z, y | x)`` as ``(K_n, ..., K_1, B)``, the first latent next to the data."""
        if batch.response is None:
            raise ValueError("guide exact: the batch has no response; p(z|x,y) needs one")
        model = self._model[0]
        z, log_prior = {}, torch.zeros(len(batch), device=batch.prompt.device)
        for place, (name, law) in enumerate(model.router(batch).items()):
            values = law.enumerate_support(expand=False)  # (K, 1)
            z[name] = values.reshape(-1, *(1,) * (place + 1))  # (K, 1, ..., 1)
            log_prior = log_prior + law.log_prob(values).reshape(-1, *(1,) * place, len(batch))
        return log_prior + model.decoder(batch, z).log_prob(batch.response)

    def guide(self, batch: Batch) -> None:
        """The guide program."""
        log_joint = self.log_joint(batch)
        data = torch.arange(len(batch), device=log_joint.device)
        chosen: list[Tensor] = []
        with pyro.plate("data", len(batch), dim=-1):
            for name in self._model[0].latents:
                later = tuple(range(log_joint.dim() - 2 - len(chosen)))
                log_q = log_joint.logsumexp(later) if later else log_joint  # (K_i, ..., K_1, B)
                moved = log_q.movedim(0, -1)  # (..., K_1, B, K_i)
                logits = moved[(*reversed(chosen), data)] if chosen else moved
                chosen.append(pyro.sample(name, dist.Categorical(logits=logits)))

    forward = guide
