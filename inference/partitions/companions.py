"""Several responses to each of some prompts."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ...models import Backbone, Example
from ..dataset import Dataset, sample_base

OWN = 104_729
"""Added to the seed, so that the responses are not those that the data were given by the same seed."""


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
