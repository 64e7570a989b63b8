"""Several responses to each of some prompts, and which of them say the same."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ...models import Backbone, Example, LanguageModel, collate, encode_prompt
from ...models.backbone import BASE
from ..dataset import Dataset, sample_base

OWN = 104_729
"""Added to the seed, so that the responses are not those that the data were given by the same seed."""

LOGITS = 2**24
"""Logits held at once."""


@dataclass(frozen=True)
class Companions:
    """R responses to each of P prompts, the data's own first, the base's after them.

    Attributes:
        data: the P * R pairs, those of a prompt beside each other.
        responses: R.
    """

    data: Dataset
    responses: int

    @property
    def same_prompt(self) -> Tensor:
        """``(P * R * (R - 1) / 2, 2)``: places of two responses to one prompt, each pair once."""
        first, second = torch.triu_indices(self.responses, self.responses, 1)
        begin = torch.arange(0, len(self.data), self.responses)[:, None]
        return torch.stack([(begin + first).flatten(), (begin + second).flatten()], 1)


def companions(backbone: Backbone, data: Dataset, prompts: int, responses: int, seed: int) -> Companions:
    """Responses to the first ``prompts`` distinct prompts of ``data``; what the data lack is sampled from the base.

    Raises:
        ValueError: fewer than two distinct prompts.
    """
    found: dict[tuple[int, ...], list[Example]] = {}
    for example in data.examples:
        if example.prompt in found or len(found) < prompts:
            found.setdefault(example.prompt, []).append(example)
    if len(found) < 2:
        raise ValueError(
            "partition hidden_states: needs at least 2 distinct prompts, to tell what differs between responses from "
            "what differs between prompts; got 1. Give more prompts, or take the term distillation out with "
            "~inference.terms.distillation"
        )
    missing = [Example(p) for p, own in found.items() for _ in range(responses - len(own))]
    longest = max(len(example.response) for own in found.values() for example in own)
    sampled = iter(sample_base(backbone, missing, longest, seed + OWN))
    examples = [
        example
        for prompt, own in found.items()
        for example in [
            *own[:responses],
            *(Example(prompt, next(sampled)) for _ in range(responses - len(own))),
        ]
    ]
    texts = [""] * len(examples)
    return Companions(Dataset(examples, texts, texts, data.pad_id), responses)


@torch.no_grad()
def prompt_dependence(backbone: Backbone, found: Companions, others: int, seed: int) -> list[Tensor]:
    """How much the law of each token of a response depends on the prompt, each ``(T,)`` from 0 to 1.

    The Jensen-Shannon divergence, in bits, between ``p0(y_t|x,y_<t)`` and the same after another prompt, mean over
    ``others`` prompts drawn from the rest. What is copied from the response itself, and the surface of a text that
    says nothing about the prompt, have none.
    """
    examples, size = found.data.examples, len(found.data)
    prompts = size // found.responses
    generator = torch.Generator().manual_seed(seed)
    shifts = 1 + torch.randperm(max(prompts - 1, 1), generator=generator)[:others]
    swapped = [
        [
            Example(examples[(i + int(s) * found.responses) % size].prompt, e.response)
            for i, e in enumerate(examples)
        ]
        for s in shifts
    ]
    longest = max(len(example.response) for example in examples)
    rows = max(1, LOGITS // (longest * backbone.vocab_size))
    out: list[Tensor] = []
    for start in range(0, size, rows):
        own = _next_token_law(backbone, examples[start : start + rows])
        total = torch.zeros(own.shape[:2], device=own.device)
        for other in swapped:
            theirs = _next_token_law(backbone, other[start : start + rows])
            mixed = torch.logaddexp(own, theirs) - torch.tensor(2.0).log()
            total += ((own.exp() * (own - mixed)).sum(-1) + (theirs.exp() * (theirs - mixed)).sum(-1)) / 2
        bits = (total / len(swapped) / torch.tensor(2.0).log()).cpu()
        out += [row[: len(e.response)] for row, e in zip(bits, examples[start : start + rows], strict=True)]
    return out


def _next_token_law(backbone: Backbone, examples: list[Example]) -> Tensor:
    batch = collate(examples, backbone.pad_id).to(backbone.device)
    prompt = encode_prompt(backbone, BASE, batch.prompt, batch.prompt_mask)
    assert batch.response is not None
    return LanguageModel(backbone, prompt, mask=batch.response_mask).logits(batch.response).log_softmax(-1)


def contents(found: Companions, dependence: list[Tensor], threshold: float) -> Tensor:
    """``(P * R,)``: a number for what a response says, the same where all tokens that depend on the prompt agree.

    Args:
        found: the responses.
        dependence: of their tokens on the prompt.
        threshold: a token that depends less than this is surface.
    """
    seen: dict[tuple[int, ...], int] = {}
    names = []
    for example, depends in zip(found.data.examples, dependence, strict=True):
        kept = [t if d > threshold else -1 for t, d in zip(example.response, depends.tolist(), strict=True)]
        names.append(seen.setdefault((*example.prompt, -2, *kept), len(seen)))
    return torch.tensor(names)
