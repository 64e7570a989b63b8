"""The guide fitted to what the model dreams."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

import torch
from pyro import poutine
from torch import Tensor

from ...models import LanguageModel
from ..expectations import Enumerate, Sample, latent_sites, site_log_prob
from ..log_quantities import LogQuantities
from ..schedules import Schedule
from .term import Term


class Sleep(Term):
    """``-log q(z|x,y)`` in nats at one ``z ~ p(z|x)``, ``y ~ p(y|x,z)`` for each prompt, lowered in q alone.

    The sleep phase [Hinton et al. 1995]: unbiased, in value and gradient, for ``E_{p(y|x)} KL(p(z|x,y) || q(z|x,y))``
    plus what q does not change. It has no weights, so that one draw from the guide will do, and any latents; but the
    guide learns the posterior of the model's own responses in place of the data's. Each evaluation generates a batch
    of responses and runs the guide on it. The program has to draw y from a
    :class:`~stratagem.models.LanguageModel` where the batch has no response.

    Args:
        weight: of the term, a number or a schedule.
        max_length: tokens of a dreamed response; as many as the batch's longest response has where not given.

    Raises:
        ValueError: a length below 1; in :meth:`value`, a program that does not draw y.
    """

    expectations: ClassVar = (Enumerate, Sample)
    sign: ClassVar = -1
    pointwise: ClassVar = False

    def __init__(self, weight: float | Schedule = 1.0, max_length: int | None = None) -> None:
        super().__init__(weight)
        if max_length is not None and max_length < 1:
            raise ValueError(f"term Sleep: max_length must be at least 1, got {max_length}")
        self.max_length = max_length

    def value(self, log: LogQuantities) -> Tensor:
        assert log.scene is not None
        prompts = log.scene.batch.without_response(self.max_length)
        with torch.no_grad():
            dream = poutine.trace(log.scene.model).get_trace(prompts)
        drawn = latent_sites(dream)
        responses = [site for name, site in drawn.items() if name not in log.sites]
        if len(responses) != 1 or not isinstance(responses[0]["fn"], LanguageModel):
            found = ", ".join(f"{name} ({type(site['fn']).__name__})" for name, site in drawn.items())
            raise ValueError(
                f"term Sleep: run on prompts alone, the model draws {found}; expected its latents "
                f"{', '.join(log.sites)} and a response from a LanguageModel, as "
                'pyro.sample("y", language_model, obs=batch.response) does'
            )
        y = responses[0]["value"]  # (B, T)
        dreamed = replace(prompts, response=y, response_mask=responses[0]["fn"].mask_of(y))
        read = poutine.trace(poutine.replay(log.scene.guide, trace=dream)).get_trace(dreamed)
        shape = torch.Size((len(prompts),))
        parts = [
            site_log_prob(name, read.nodes[name]["fn"], drawn[name]["value"], shape) for name in log.sites
        ]
        return -sum(parts[1:], parts[0])
