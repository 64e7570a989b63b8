"""Reading a sequence: pooled hidden states of some network, and a head on top of them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from .backbone import Backbone, TextEncoder
from .batch import Batch, Example
from .pooling import MeanPooling, make_pooling
from .regrouped import regrouped
from .text import decode


class Reader(nn.Module, ABC):
    """``(B, outputs)`` from a batch's prompts, or prompts and responses, by pooled hidden states and a head.

    The head's last layer starts at zero; its inputs are standardised by :meth:`standardise`. What a frozen network
    pools without parameters is the same at every step: it is taken from ``batch.features[name]`` where
    :meth:`features` has been kept there.

    Args:
        sizes: widths of the layers that are pooled.
        outputs: numbers that the head gives.
        pooling: ``mean``, ``first``, ``last``, ``mean_last`` or ``attention``.
        width: of the head's hidden layer; 0 for a linear head.
        source: what is pooled, where it is always the same; None where it is learned.
        more: numbers that :meth:`features` has beside the pooled ones.
    """

    def __init__(
        self,
        sizes: Sequence[int],
        outputs: int,
        pooling: str,
        width: int,
        source: str | None,
        more: int = 0,
    ) -> None:
        super().__init__()
        made = [make_pooling(pooling, size) for size in sizes]
        self.poolings = nn.ModuleList(made)
        size = sum(s * p.vectors for s, p in zip(sizes, made, strict=True)) + more
        last = nn.Linear(width or size, outputs)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        hidden = [nn.Linear(size, width), nn.GELU()] if width else []
        self.centre, self.scale = nn.Buffer(torch.zeros(size)), nn.Buffer(torch.ones(size))
        self.head = nn.Sequential(*hidden, last)
        self.name = None if source is None or list(self.poolings.parameters()) else f"{source}/{pooling}"

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
        return self.pool(batch, *self.read(batch))

    def pool(self, batch: Batch, layers: Sequence[Tensor], mask: Tensor) -> Tensor:  # noqa: ARG002
        """Features of hidden states ``(B, T, size)`` of each layer at the places of a mask ``(B, T)``.

        A reader that goes by more than the mask, by annotations say, takes it from the batch.
        """
        pooled = [
            pooling(layer, mask).to(self.centre.dtype)
            for pooling, layer in zip(self.poolings, layers, strict=True)
        ]
        return torch.cat(pooled, -1)

    def reads(self, example: Example) -> Example:
        """What of a datum it looks at: data that have it in common have the same features."""
        return example

    @abstractmethod
    def read(self, batch: Batch) -> tuple[Sequence[Tensor], Tensor]:
        """Hidden states ``(B, T, size)`` of each layer, and which of their places to pool, ``(B, T)``."""

    def forward(self, batch: Batch) -> Tensor:
        return self.head((self.features(batch) - self.centre) / self.scale)

    def regroup(self, weight: Tensor, gain: Tensor | float = 0.0) -> None:
        """Give ``weight @ outputs + gain``, ``(G, K)`` and ``(G,)``, in place of the K outputs."""
        self.output.weight = regrouped(self.output.weight, weight)
        self.output.bias = regrouped(self.output.bias, weight, gain)
        self.output.out_features = len(weight)

    def standardise(self, features: Tensor) -> None:
        """Bring the head's inputs to mean 0 and variance 1 over ``features`` ``(N, size)``.

        Pooled hidden states share a large mean, beside which what differs between the data is small.
        """
        self.centre.copy_(features.mean(0))
        self.scale.copy_(features.std(0, correction=0).clamp(min=1e-3 * float(features.std()) + 1e-8))


class BackboneReader(Reader):
    """Reads by a role of the backbone.

    Args:
        backbone: the LM.
        role: whose network reads.
        outputs, pooling, width: as of every reader.
        response: pool over the response's tokens, read after the prompt, instead of the prompt's.
        every_layer: pool the hidden states after each layer and not after the last alone; what decides a
            response's continuation is often plainer before the layers that turn it into the next token.
        annotations: how many labels of the response's tokens there are: for each, the mean over its tokens is pooled
            as well, and their share of the response.
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
        annotations: int = 0,
    ) -> None:
        sizes = backbone.layer_sizes if every_layer else (backbone.hidden_size,)
        source = f"{'response' if response else 'prompt'}/{'every' if every_layer else 'last'}"
        source += f"/{annotations} annotations" if annotations else ""
        more = annotations * (sum(sizes) + 1)
        super().__init__(sizes, outputs, pooling, width, source if backbone.is_frozen(role) else None, more)
        self.backbone, self.role, self.response, self.every_layer = backbone, role, response, every_layer
        self.annotations = annotations

    def reads(self, example: Example) -> Example:
        return example if self.response else Example(example.prompt)

    def read(self, batch: Batch) -> tuple[Sequence[Tensor], Tensor]:
        ids, mask = batch.prompt, batch.prompt_mask
        pooled = mask
        if self.response:
            response, response_mask = response_of(batch)
            ids = torch.cat([ids, response], 1)
            pooled = torch.cat([torch.zeros_like(mask), response_mask], 1)
            mask = torch.cat([mask, response_mask], 1)
        if batch.hidden is None:
            return self.backbone.hidden_layers(self.role, ids, mask, self.every_layer), pooled
        key = (self.role, self.response, self.every_layer)
        if key not in batch.hidden:
            batch.hidden[key] = self.backbone.hidden_layers(self.role, ids, mask, self.every_layer)
        return batch.hidden[key], pooled

    def pool(self, batch: Batch, layers: Sequence[Tensor], mask: Tensor) -> Tensor:
        whole = super().pool(batch, layers, mask)
        if not self.annotations:
            return whole
        labels = torch.zeros_like(mask, dtype=torch.long)
        if batch.annotations is not None:
            # A response that was drawn may be shorter or longer than the labels.
            of_response = labels[:, batch.prompt.shape[1] :]
            width = min(of_response.shape[1], batch.annotations.shape[1])
            of_response[:, :width] = batch.annotations[:, :width]
        number = mask.sum(-1, keepdim=True).clamp(min=1)
        parts = [whole]
        for label in range(1, self.annotations + 1):
            of_label = mask & (labels == label)
            parts += [MeanPooling()(layer, of_label).to(whole.dtype) for layer in layers]
            parts.append((of_label.sum(-1, keepdim=True) / number).to(whole.dtype))
        return torch.cat(parts, -1)


class EncoderReader(Reader):
    """Reads the text of the response, and of the prompt before it, by an encoder of its own.

    Args:
        backbone: the LM whose tokens are turned to text.
        encoder: the encoder.
        outputs, pooling, width: as of every reader.
        prompt: whether the prompt is read with the response, as a pair of texts.
    """

    def __init__(
        self,
        backbone: Backbone,
        encoder: TextEncoder,
        outputs: int,
        pooling: str,
        width: int,
        prompt: bool,
    ) -> None:
        source = None if encoder.trained else f"response/{encoder.name}/{'pair' if prompt else 'alone'}"
        super().__init__([encoder.hidden_size], outputs, pooling, width, source)
        self.backbone, self.encoder, self.prompt = backbone, encoder, prompt

    def read(self, batch: Batch) -> tuple[Sequence[Tensor], Tensor]:
        response, mask = response_of(batch)
        responses = [
            decode(self.backbone, row[kept].tolist()) for row, kept in zip(response, mask, strict=True)
        ]
        hidden, read = self.encoder(self._prompts(batch) if self.prompt else None, responses)
        return [hidden], read

    def _prompts(self, batch: Batch) -> list[str]:
        """Their whole texts: the turns of a chat end with end tokens."""
        rows = [row[kept] for row, kept in zip(batch.prompt, batch.prompt_mask, strict=True)]
        return [self.backbone.tokenizer.decode(row, skip_special_tokens=True) for row in rows]


def response_of(batch: Batch) -> tuple[Tensor, Tensor]:
    """Ids and mask of the responses.

    Raises:
        ValueError: a batch without.
    """
    if batch.response is None or batch.response_mask is None:
        raise ValueError("posterior: the batch has no response to read; q(z|x,y) needs one")
    return batch.response, batch.response_mask
