"""Which responses to a prompt say the same: what of a text is surface."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import torch
from torch import Tensor

from ...models import Backbone, Example, LanguageModel, collate, encode_prompt
from ...models.backbone import BASE
from .companions import Companions

LOGITS = 2**24
"""Logits held at once."""

CANDIDATES, SCORED = 16, 200
"""Pairs of symbols that are looked at, the most frequent ones, and responses that each is looked at in."""

KEPT = 2.0
"""Nats per sequence that an interchange of surface symbols may cost in the middle: the law of marks may be uneven."""


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


def _next_token_law(backbone: Backbone, examples: Sequence[Example]) -> Tensor:
    law, response = _base_on(backbone, examples)
    return law.logits(response).log_softmax(-1)


def interchangeable(backbone: Backbone, found: Companions) -> set[int]:
    """Symbols that may change places everywhere in a response without a change of its probability.

    An interchange s of two tokens is a symmetry of the base law where ``p0(s(y)|x) = p0(y|x)``: a separator for
    another, one bullet for the next. What changes the meaning of a response changes its probability by many nats.
    Looked at are interchanges that make one response to a prompt another one.
    """
    examples = found.data.examples
    seen = Counter(
        swap
        for i, j in found.same_prompt.tolist()
        if (swap := _interchange(examples[i].response, examples[j].response)) is not None
    )
    symbols: set[int] = set()
    for (a, b), _ in seen.most_common(CANDIDATES):
        own = [e for e in examples if a in e.response or b in e.response][:SCORED]
        places = {a: b, b: a}
        other = [Example(e.prompt, tuple(places.get(t, t) for t in e.response)) for e in own]
        change = _log_lik(backbone, other) - _log_lik(backbone, own)
        if change.median() >= -KEPT:
            symbols |= {a, b}
    return symbols


def _interchange(one: Sequence[int], other: Sequence[int]) -> tuple[int, int] | None:
    """The two tokens whose interchange makes one response the other; None where there are not just two."""
    differ = {(min(a, b), max(a, b)) for a, b in zip(one, other, strict=False) if a != b}
    return differ.pop() if len(one) == len(other) and len(differ) == 1 else None


@torch.no_grad()
def _log_lik(backbone: Backbone, examples: Sequence[Example]) -> Tensor:
    rows = max(1, LOGITS // (max(len(e.response) for e in examples) * backbone.vocab_size))
    pairs = (_base_on(backbone, examples[start : start + rows]) for start in range(0, len(examples), rows))
    return torch.cat([law.log_prob(response).cpu() for law, response in pairs])


def _base_on(backbone: Backbone, examples: Sequence[Example]) -> tuple[LanguageModel, Tensor]:
    """The base after the prompts of a batch, and the responses, ``(B, T)``."""
    batch = collate(examples, backbone.pad_id).to(backbone.device)
    assert batch.response is not None
    prompt = encode_prompt(backbone, BASE, batch.prompt, batch.prompt_mask)
    return LanguageModel(backbone, prompt, mask=batch.response_mask), batch.response


def contents(found: Companions, dependence: list[Tensor], symbols: set[int], threshold: float) -> Tensor:
    """``(P * R,)``: a number for what a response says, the same where all tokens agree that are not surface.

    Args:
        found: the responses.
        dependence: of their tokens on the prompt.
        symbols: that are surface wherever they stand.
        threshold: a token that depends less than this is surface.
    """
    seen: dict[tuple[int, ...], int] = {}
    names = []
    for example, depends in zip(found.data.examples, dependence, strict=True):
        kept = [
            t if d > threshold and t not in symbols else -1
            for t, d in zip(example.response, depends.tolist(), strict=True)
        ]
        names.append(seen.setdefault((*example.prompt, -2, *kept), len(seen)))
    return torch.tensor(names)
