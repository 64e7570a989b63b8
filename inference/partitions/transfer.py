"""Which part of one kind of prompts is which of another: the one whose conditioning carries over."""

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

BATCH = 32

SCORED = 400
"""Responses to prompts of each kind that are scored under the prefixes of the others."""


def match(
    backbone: Backbone, data: Dataset, z: Tensor, kind: Tensor, parts: int, steps: int, lr: float, seed: int
) -> Tensor:
    """``(kinds, parts)``: a name for each part of each kind, so that parts of one name are one thing to the decoder.

    A key/value prefix is fitted to each part of each kind by itself. On the responses to another kind of prompts, those
    of one part are likelier under the prefix of some part than under the others: prefixes that were fitted to a
    strategy give that strategy again where they were not fitted. Names maximise the expected number of responses
    that the prefixes of their own name would take, over one-to-one matchings with the largest kind.

    Args:
        backbone: the base.
        data: N pairs.
        z: ``(N,)``, the part of each, within its kind.
        kind: ``(N,)``, of each prompt.
        parts: of each kind.
        steps: of the prefixes' fit.
        lr: its learning rate.
        seed: of prefixes and batches.
    """
    kinds = int(kind.max()) + 1
    cell = kind * parts + z
    with seeded(seed, backbone.device):
        prefixes = _fit(backbone, data, cell, kinds * parts, steps, lr)
    scored = torch.cat([(kind == k).nonzero()[:SCORED, 0] for k in range(kinds)])
    log_lik = _score(backbone, data, scored.tolist(), prefixes, kinds * parts)  # (n, kinds * parts)
    usage = torch.bincount(cell, minlength=kinds * parts).view(kinds, parts).double()
    log_usage = (usage / usage.sum(1, keepdim=True)).log()
    taken = (log_lik.view(-1, kinds, parts).double() + log_usage).softmax(-1)  # (n, kinds, parts)
    counts = torch.zeros(kinds * parts, kinds, parts, dtype=taken.dtype).index_add(0, cell[scored], taken)
    counts = counts.view(kinds, parts, kinds, parts)
    largest = int(usage.sum(1).argmax())
    names = torch.arange(parts).repeat(kinds, 1)
    for other in set(range(kinds)) - {largest}:
        both = counts[other, :, largest] + counts[largest, :, other].T
        rows, columns = linear_sum_assignment(both.numpy(), maximize=True)
        names[other, torch.from_numpy(rows)] = torch.from_numpy(columns)
    return names


def _fit(
    backbone: Backbone, data: Dataset, cell: Tensor, cells: int, steps: int, lr: float
) -> KeyValuePrefix:
    prefixes = KeyValuePrefix(backbone, Categorical(cells)).to(backbone.device)
    optimizer = torch.optim.AdamW(prefixes.parameters(), lr=lr, weight_decay=0.0)
    for _ in range(steps):
        index = torch.randint(len(data), (min(BATCH, len(data)),)).tolist()
        batch = data.batch(index).to(backbone.device)
        prompt = encode_prompt(backbone, BASE, batch.prompt, batch.prompt_mask)
        memory = prefixes(cell[index].to(backbone.device))
        assert batch.response is not None
        law = LanguageModel(backbone, prompt, memory, mask=batch.response_mask)
        (-law.log_prob(batch.response).mean()).backward()
        clip_grad_norm_(prefixes.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
    return prefixes


@torch.no_grad()
def _score(
    backbone: Backbone, data: Dataset, index: Sequence[int], prefixes: KeyValuePrefix, cells: int
) -> Tensor:
    memory = prefixes(torch.arange(cells, device=backbone.device)[:, None])
    parts = []
    for start in range(0, len(index), BATCH):
        batch = data.batch(index[start : start + BATCH]).to(backbone.device)
        prompt = encode_prompt(backbone, BASE, batch.prompt, batch.prompt_mask)
        assert batch.response is not None
        law = LanguageModel(backbone, prompt, memory, mask=batch.response_mask)
        parts.append(law.log_prob(batch.response).T.cpu())
    return torch.cat(parts)
