"""Tokens to put in the place of others."""

from __future__ import annotations

import torch
from torch import Tensor

from ...models import Backbone


def ordinary_tokens(backbone: Backbone, shape: torch.Size, device: torch.device) -> Tensor:
    """Ids drawn uniformly from the vocabulary without the tokens that end, fill or begin a text."""
    special = sorted({*backbone.eos_ids, backbone.pad_id, backbone.bos_id} - {-1})
    ids = torch.randint(backbone.vocab_size - len(special), shape, device=device)
    for token in special:
        ids += ids >= token
    return ids
