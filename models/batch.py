"""Token ids of prompts and responses, padded, with explicit masks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor


@dataclass(frozen=True)
class Example:
    """One datum: token ids of a prompt (at least one) and of a response, its end token included where it ended.

    ``annotations`` are labels of the response's tokens, 0 for none; empty where it has not been annotated.
    """

    prompt: tuple[int, ...]
    response: tuple[int, ...] = ()
    annotations: tuple[int, ...] = ()


@dataclass(frozen=True)
class Batch:
    """What a latent model and its guide are called with.

    Attributes:
        prompt: ``(B, Tx)`` ids, padded on the left.
        prompt_mask: ``(B, Tx)``, True for a token.
        response: ``(B, Ty)`` ids, padded on the right, end tokens included; None where it is to be sampled.
        response_mask: ``(B, Ty)``, True for a token.
        index: ``(B,)`` place of each datum in its data set.
        max_length: tokens of a response that is sampled.
        annotations: ``(B, T)`` labels of the response's tokens, or of those to be sampled, 0 for none; None for none
            at all.
        features: what frozen roles have computed for these data once and for all, by name.
        hidden: what the readers of several latents read alike, :meth:`shared`; None where each reads for itself.
    """

    prompt: Tensor
    prompt_mask: Tensor
    response: Tensor | None = None
    response_mask: Tensor | None = None
    index: Tensor | None = None
    max_length: int = 64
    annotations: Tensor | None = None
    features: dict[str, Tensor] = field(default_factory=dict)
    hidden: dict[tuple[str, bool, bool], Sequence[Tensor]] | None = None

    def __len__(self) -> int:
        return self.prompt.shape[0]

    def shared(self) -> Batch:
        """The batch for one call of a program or a guide, in which what several readers read is computed once."""
        return replace(self, hidden={})

    def without_response(self, max_length: int | None = None) -> Batch:
        """The same prompts with the response left to be sampled."""
        length = max_length or (self.max_length if self.response is None else self.response.shape[1])
        kept = {k: v for k, v in self.features.items() if not k.startswith("response/")}
        return replace(self, response=None, response_mask=None, max_length=length, features=kept, hidden=None)

    def to(self, device: torch.device | str) -> Batch:
        """The batch on another device."""
        return replace(
            self,
            prompt=self.prompt.to(device),
            prompt_mask=self.prompt_mask.to(device),
            response=None if self.response is None else self.response.to(device),
            response_mask=None if self.response_mask is None else self.response_mask.to(device),
            index=None if self.index is None else self.index.to(device),
            annotations=None if self.annotations is None else self.annotations.to(device),
            features={k: v.to(device) for k, v in self.features.items()},
            hidden=None,
        )


def collate(examples: Sequence[Example], pad_id: int, index: Sequence[int] | None = None) -> Batch:
    """Examples as one batch; without a response where no example has any."""
    prompt, prompt_mask = _pad([e.prompt for e in examples], pad_id, left=True)
    batch = Batch(prompt, prompt_mask, index=None if index is None else torch.tensor(list(index)))
    if not any(e.response for e in examples):
        return batch
    response, response_mask = _pad([e.response for e in examples], pad_id, left=False)
    batch = replace(batch, response=response, response_mask=response_mask, max_length=response.shape[1])
    if not any(e.annotations for e in examples):
        return batch
    labels = [(*e.annotations, *[0] * (len(e.response) - len(e.annotations))) for e in examples]
    return replace(batch, annotations=_pad(labels, 0, left=False)[0])


def _pad(rows: Sequence[Sequence[int]], pad_id: int, left: bool) -> tuple[Tensor, Tensor]:
    width = max(len(row) for row in rows)
    ids = torch.full((len(rows), width), pad_id)
    mask = torch.zeros(len(rows), width, dtype=torch.bool)
    for i, row in enumerate(rows):
        columns = slice(width - len(row), width) if left else slice(0, len(row))
        ids[i, columns] = torch.tensor(list(row), dtype=torch.long)
        mask[i, columns] = True
    return ids, mask
