"""Responses: their log-probabilities token by token, and new ones under given latents."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ...models import Backbone, Batch, LanguageModel
from ...models.generation import RESPONSE
from ...models.text import decode
from ..evaluation.tokens import next_tokens
from ..log_quantities import Program
from .passes import given

ENDED = -1
"""In place of a token where a response has ended."""


@dataclass(frozen=True)
class Responses:
    """Token ids and their numbers.

    Attributes:
        tokens: ``(..., T)``, :data:`ENDED` after the end.
        lengths: ``(...)``, end tokens counted.
    """

    tokens: np.ndarray
    lengths: np.ndarray

    def texts(self, backbone: Backbone) -> np.ndarray:
        """``(...)`` strings."""
        rows = self.tokens.reshape(-1, self.tokens.shape[-1])
        found = [decode(backbone, row[row != ENDED].tolist()) for row in rows]
        return np.array(found, dtype=object).reshape(self.lengths.shape)


def observed(batches: Sequence[Batch]) -> Responses:
    """The responses of the data, ``(N, T)``."""
    parts = []
    for batch in batches:
        assert batch.response is not None
        assert batch.response_mask is not None
        parts.append(batch.response.masked_fill(~batch.response_mask, ENDED))
    return _responses(parts)


def answers(batches: Sequence[Batch], backbone: Backbone) -> list[str]:
    """Texts of the responses of the data."""
    return [str(answer) for answer in observed(batches).texts(backbone)]


def prompts(batches: Sequence[Batch], backbone: Backbone) -> list[str]:
    """Texts of the prompts."""
    return [
        backbone.tokenizer.decode(ids[mask].tolist(), skip_special_tokens=True)
        for batch in batches
        for ids, mask in zip(batch.prompt, batch.prompt_mask, strict=True)
    ]


@torch.no_grad()
def generated(
    model: Program, batches: Sequence[Batch], z: Mapping[str, Tensor], max_new_tokens: int
) -> Responses:
    """A response under each draw of the latents, ``(D, N, T)`` of ``(D, N, *event)`` by site."""
    rows, parts, start = len(next(iter(z.values()))), [], 0
    for batch in batches:
        here = {
            name: value[:, start : start + len(batch)].to(batch.prompt.device) for name, value in z.items()
        }
        node = given(model, batch.without_response(max_new_tokens), here, rows).nodes[RESPONSE]
        ids, law = node["value"], node["fn"]
        parts.append(ids.masked_fill(~law.mask_of(ids), ENDED) if isinstance(law, LanguageModel) else ids)
        start += len(batch)
    return _responses(parts)


@torch.no_grad()
def token_log_likelihood(
    model: Program, batches: Sequence[Batch], z: Mapping[str, Tensor], log_weight: Tensor | None
) -> np.ndarray | None:
    """``log p(y_t | x, y_<t)``, z summed out: ``(N, T)`` nats, NaN after the end; None where y is no language model's.

    ``sum_z p(z|x,y_<t) p(y_t|x,z,y_<t)``, over all values where they are given: exact, and the tokens of a response
    sum to ``log p(y|x)``. Over weighted draws of the guide the posterior given the tokens before is self-normalised:
    biased at the rate 1/S, and summing to something else than the importance-weighted ``log p(y|x)``.

    Args:
        model: the program.
        batches: the data.
        z: every joint value of the latents, ``(P, 1, *event)`` by site; or draws of the guide, ``(S, N, *event)``.
        log_weight: ``(S, N)`` of the draws; None for all values.
    """
    rows, parts, start = len(next(iter(z.values()))), [], 0
    for batch in batches:
        here = slice(start, start + len(batch))
        values = {name: v if v.shape[1] == 1 else v[:, here] for name, v in z.items()}
        values = {name: v.to(batch.prompt.device) for name, v in values.items()}
        nodes = given(model, batch, values, rows).nodes
        law, y = nodes[RESPONSE]["fn"], nodes[RESPONSE]["value"]
        if not isinstance(law, LanguageModel):
            return None
        tokens = law.token_log_probs(y).expand(rows, len(batch), -1).cpu()  # (rows, B, T)
        if log_weight is None:
            log_prior = (nodes[name]["fn"].log_prob(v) for name, v in values.items())
            log_start = sum(part.expand(rows, len(batch)).cpu() for part in log_prior)
        else:
            log_start = log_weight[:, here] - tokens.sum(-1)
        found = next_tokens(tokens, log_start)
        assert batch.response_mask is not None
        parts.append(found.masked_fill(~batch.response_mask.cpu(), torch.nan))
        start += len(batch)
    return _padded(parts, torch.nan).numpy()


def _responses(parts: Sequence[Tensor]) -> Responses:
    tokens = _padded([part.cpu() for part in parts], ENDED).numpy()
    return Responses(tokens, (tokens != ENDED).sum(-1))


def _padded(parts: Sequence[Tensor], filler: float) -> Tensor:
    """Parts ``(..., B, T)`` of different T, one after the other, ``(..., N, T)``."""
    length = max(part.shape[-1] for part in parts)
    return torch.cat([torch.nn.functional.pad(p, (0, length - p.shape[-1]), value=filler) for p in parts], -2)
