"""Noise in what the guide reads."""

from __future__ import annotations

from dataclasses import replace

import torch

from ...models import Backbone, Batch
from ..log_quantities import Program
from .corruption import Corruption
from .tokens import ordinary_tokens


class Denoising(Corruption):
    """The guide infers z from a response some tokens of which are replaced by random ones [Im et al. 2017].

    ``q(z|x,y')`` with ``y'`` drawn afresh at each step: for each ``y'`` the bound is one on ``log p(y|x)`` of the
    response itself, and their mean is one below that of the mixture ``E[q(z|x,y')]``, the guide that is fitted in
    effect. The end token stays. What the batch holds of the response's features is left out, so that a guide on a
    frozen network runs it at each step.
    """

    def of_guide(self, batch: Batch, model: Program, share: float) -> Batch:
        response, mask = batch.response, batch.response_mask
        backbone = getattr(model, "backbone", None)
        if not isinstance(backbone, Backbone):
            raise ValueError(
                "corruption Denoising: draws tokens of the vocabulary of model.backbone, which "
                f"{type(model).__name__} does not have; give the model a Backbone of that name"
            )
        if response is None or mask is None:
            return batch
        ends = torch.isin(response, torch.tensor(backbone.eos_ids, device=response.device))
        noisy = (torch.rand(response.shape, device=response.device) < self.rate.at(share)) & mask & ~ends
        drawn = ordinary_tokens(backbone, response.shape, response.device)
        kept = {name: value for name, value in batch.features.items() if not name.startswith("response/")}
        return replace(batch, response=torch.where(noisy, drawn, response), features=kept)
