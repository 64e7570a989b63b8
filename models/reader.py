"""Reading a sequence in a role of the backbone: pooled features and the head on top of them."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .backbone import Backbone
from .batch import Batch
from .pooling import make_pooling


class Reader(nn.Module):
    """``(B, outputs)`` from a batch's prompts, or prompts and responses, by pooled hidden states and a head.

    The head's last layer starts at zero; its inputs are standardised by :meth:`standardise`. What a frozen role
    pools without parameters is the same at every step: it is taken from ``batch.features[name]`` where
    :meth:`features` has been kept there.

    Args:
        backbone: the LM.
        role: whose network reads.
        outputs: numbers that the head gives.
        pooling: ``mean``, ``last``, ``mean_last`` or ``attention``.
        width: of the head's hidden layer; 0 for a linear head.
        response: pool over the response's tokens, read after the prompt, instead of the prompt's.
        every_layer: pool the hidden states after each layer and not after the last alone; what decides a
            response's continuation is often plainer before the layers that turn it into the next token.
    """

    def __init__(
        self,
        backbone: Backbone,
        role: str,
        outputs: int,
        pooling: str,
        width: int,
        response: bool,
        every_layer: bool = False,
    ) -> None:
        super().__init__()
        self.backbone, self.role, self.response = backbone, role, response
        self.every_layer = every_layer
        sizes = backbone.layer_sizes if every_layer else (backbone.hidden_size,)
        made = [make_pooling(pooling, size) for size in sizes]
        self.poolings = nn.ModuleList(made)
        size = sum(s * p.vectors for s, p in zip(sizes, made, strict=True))
        last = nn.Linear(width or size, outputs)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        hidden = [nn.Linear(size, width), nn.GELU()] if width else []
        self.centre, self.scale = nn.Buffer(torch.zeros(size)), nn.Buffer(torch.ones(size))
        self.head = nn.Sequential(*hidden, last)
        kind = "response" if response else "prompt"
        constant = backbone.is_frozen(role) and not list(self.poolings.parameters())
        self.name = f"{kind}/{pooling}/{'every' if every_layer else 'last'}" if constant else None

    @property
    def output(self) -> nn.Linear:
        """The head's last layer, a row for each of the numbers that it gives."""
        last = self.head[-1]
        assert isinstance(last, nn.Linear)
        return last

    def features(self, batch: Batch) -> Tensor:
        """Pooled hidden states ``(B, size)``, layer after layer, in the head's dtype."""
        if self.name is not None and self.name in batch.features:
            return batch.features[self.name]
        ids, mask = batch.prompt, batch.prompt_mask
        pooled_mask = mask
        if self.response:
            if batch.response is None or batch.response_mask is None:
                raise ValueError("posterior: the batch has no response to read; q(z|x,y) needs one")
            ids = torch.cat([ids, batch.response], 1)
            pooled_mask = torch.cat([torch.zeros_like(mask), batch.response_mask], 1)
            mask = torch.cat([mask, batch.response_mask], 1)
        layers = self.backbone.hidden_layers(self.role, ids, mask, self.every_layer)
        pooled = [
            pooling(layer, pooled_mask).to(self.centre.dtype)
            for pooling, layer in zip(self.poolings, layers, strict=True)
        ]
        return torch.cat(pooled, -1)

    def forward(self, batch: Batch) -> Tensor:
        return self.head((self.features(batch) - self.centre) / self.scale)

    def standardise(self, features: Tensor) -> None:
        """Bring the head's inputs to mean 0 and variance 1 over ``features`` ``(N, size)``.

        Pooled hidden states share a large mean, beside which what differs between the data is small.
        """
        self.centre.copy_(features.mean(0))
        self.scale.copy_(features.std(0, correction=0).clamp(min=1e-3 * float(features.std()) + 1e-8))
