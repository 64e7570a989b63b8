"""Which of several cuts of the same responses means the same on every prompt: the one that the decoder carries over."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor
from torch.nn.utils import clip_grad_norm_

from ...models import Backbone, Categorical, KeyValuePrefix, LanguageModel, encode_prompt
from ...models.backbone import BASE
from ..dataset import Dataset
from ..randomness import seeded

BATCH, LR, INIT_SCALE = 32, 0.03, 0.3
"""Of the short fits of a prefix to each part."""

ASKED = 400
"""Responses that two cuts are asked about, at most."""


def referee(
    backbone: Backbone, data: Dataset, cuts: Sequence[Tensor], parts: int, steps: int, fits: int, seed: int
) -> int:
    """The place of the cut that every later one lost to.

    Two cuts that part the responses to each prompt in the same way may name the parts differently on some prompts; no
    figure of the parts tells which names are right. The decoder does: a prefix that was fitted to a strategy where the
    cuts agree gives that strategy again on prompts where they do not, :func:`carried_over`. A short fit is a noisy
    witness, several are asked and their mean decides.

    Args:
        backbone: the base.
        data: N pairs.
        cuts: parts of the data, ``(N,)`` each, the first one's names held against the next one's, and so on.
        parts: of each cut.
        steps: of a fit.
        fits: for each pair of cuts, from different first weights and batches.
        seed: of these; the global generators are left as they were.
    """
    best = 0
    for other in range(1, len(cuts)):
        seeds = range(seed * fits, (seed + 1) * fits)
        gains = [carried_over(backbone, data, cuts[best], cuts[other], parts, steps, s) for s in seeds]
        if sum(gains) < 0:
            best = other
    return best


def carried_over(
    backbone: Backbone, data: Dataset, z: Tensor, other: Tensor, parts: int, steps: int, seed: int
) -> float:
    """``E[log p(y|x,z) - log p(y|x,z')]`` in nats per sequence where two cuts z and z' differ.

    Names of z' are first matched with those of z one to one. p is the base under a key/value prefix for each name,
    fitted for a moment to the data on which both agree. 0 where they agree on all data, or on none.
    """
    names = torch.zeros(parts, parts, dtype=torch.long).index_put_(
        (other, z), torch.tensor(1), accumulate=True
    )
    rows, columns = linear_sum_assignment(names.numpy(), maximize=True)
    matched = torch.empty(parts, dtype=torch.long)
    matched[torch.from_numpy(rows)] = torch.from_numpy(columns)
    other = matched[other]
    agreed, asked = (z == other).nonzero()[:, 0], (z != other).nonzero()[:ASKED, 0]
    if not len(agreed) or not len(asked):
        return 0.0
    with seeded(seed, backbone.device):
        prefixes = KeyValuePrefix(backbone, Categorical(parts), init_scale=INIT_SCALE).to(backbone.device)
        optimizer = torch.optim.AdamW(prefixes.parameters(), lr=LR, weight_decay=0.0)
        for _ in range(steps):
            index = agreed[torch.randint(len(agreed), (BATCH,))]
            loss = -_log_lik(backbone, data, index, prefixes, z[index][None]).mean()
            loss.backward()
            clip_grad_norm_(prefixes.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
    with torch.no_grad():
        differences = [
            log_lik[0] - log_lik[1]
            for index in asked.split(BATCH)
            for log_lik in [_log_lik(backbone, data, index, prefixes, torch.stack([z[index], other[index]]))]
        ]
    return float(torch.cat(differences).mean())


def _log_lik(backbone: Backbone, data: Dataset, index: Tensor, prefixes: KeyValuePrefix, z: Tensor) -> Tensor:
    """``log p(y|x,z)`` for z ``(P, B)``."""
    batch = data.batch(index.tolist()).to(backbone.device)
    prompt = encode_prompt(backbone, BASE, batch.prompt, batch.prompt_mask)
    assert batch.response is not None
    law = LanguageModel(backbone, prompt, prefixes(z.to(backbone.device)), mask=batch.response_mask)
    return law.log_prob(batch.response)
