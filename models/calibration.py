"""A start near the base law with every strategy at the same distance from it."""

from __future__ import annotations

import torch
from torch import Tensor

from .batch import Batch
from .conditioning import Conditioning
from .language_model import LanguageModel
from .latent_lm import LatentLM
from .latents import Capability

DRAWS = 8


@torch.no_grad()
def calibrate(model: LatentLM, batch: Batch, cost: float, halvings: int = 10) -> None:
    """Scale each conditioning so that a value of its latent costs ``cost`` nats per sequence at the start.

    The cost of a value is ``E[log p0(y|x) - log p(y|x,z)]`` over the batch with the other latents switched off. A
    random map costs next to nothing on one LM and twenty nats on another, and more under one z than under
    another; a strategy that starts far off is never chosen and dies. For enumerable latents each value is brought
    to the cost by its own factor; for others the mean over draws from the reference law is, by one factor.
    Factors lie between 1/64 and 4: where the cost is not reached between them, the nearer end is taken.

    Args:
        model: the latent model.
        batch: prompts with responses of the base.
        cost: nats per sequence, above 0.
        halvings: steps of the bisection.

    Raises:
        ValueError: a cost that is not above 0, or a batch without responses.
    """
    response = batch.response
    if not cost > 0 or response is None:
        raise ValueError(
            f"calibrate: expected a cost above 0 nats and a batch with responses, got cost={cost}"
        )
    log_base = model.base(batch).log_prob(response)
    prompt = model.encode(batch)
    for name, conditioning in model.conditionings.items():
        if not isinstance(conditioning, Conditioning) or not conditioning.strength:
            continue
        latent = model.latents[name]
        law = latent.law(torch.zeros(latent.num_parameters, device=batch.prompt.device))
        finite = Capability.ENUMERABLE in latent.capabilities
        rows = latent.features(law.enumerate_support() if finite else law.sample((DRAWS,)))
        each = rows.shape[0] == rows.shape[1] and torch.equal(rows, torch.eye(len(rows)).to(rows))
        features = rows[:, None]

        def mean_cost(factor: Tensor) -> Tensor:
            memory = model.template.around_slot(conditioning.memory(features * factor[:, None, None]))  # noqa: B023
            decoder = LanguageModel(model.backbone, prompt, memory, mask=batch.response_mask)
            return (log_base - decoder.log_prob(response)).mean(-1)  # (values,)

        low, high = (torch.full((len(features),), bound, device=log_base.device) for bound in (-6.0, 2.0))
        for _ in range(halvings):
            middle = (low + high) / 2
            found = mean_cost(middle.exp2())
            above = (found if each else found.mean().expand_as(found)) > cost
            low, high = torch.where(above, low, middle), torch.where(above, middle, high)
        factor = ((low + high) / 2).exp2()
        conditioning.rescale(factor if each else factor[:1].expand(latent.num_features))
