"""The state of a decoder that has read a prompt and a memory and takes in the response."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor
from torch.nn.functional import pad

from .backbone import Backbone, KeyValues, SharedCache, Span, soft_span
from .memory import Memory
from .prompt import EncodedPrompt


class DecoderState:
    """``prod(lead) * B`` rows that share ``B`` encoded prompts, and what each has read so far.

    Args:
        backbone: the LM.
        prompt: ``B`` encoded prompts.
        memory: of a batch shape that broadcasts to ``(*lead, B)``.
        lead: the shape on the left of ``B``.
    """

    def __init__(self, backbone: Backbone, prompt: EncodedPrompt, memory: Memory, lead: torch.Size) -> None:
        self.backbone, self.prompt = backbone, prompt
        self.batch_shape = torch.Size((*lead, len(prompt)))
        self._read = prompt.span
        shared = [] if prompt.past is None else [prompt.past]
        if memory.key_values is not None and memory.bias is not None:
            shared = [memory.key_values, *shared]
            own = soft_span(
                torch.full_like(prompt.start.order, -1.0),
                torch.zeros_like(prompt.start.position),
                memory.bias,
            )
            if memory.places is not None:
                own = replace(own, order=prompt.start.order - 0.5 + memory.places)
            self._read = Span.cat([own, self._read])
        self._cache = SharedCache(shared, self.batch_shape, backbone.num_layers)
        self._tokens, self._window = memory.tokens, memory.window
        self._edits = [edit.rows(self.batch_shape) for edit in memory.edits]
        self._added = memory.added

    def start(self, response: Tensor) -> Tensor:
        """Read the soft tokens, the prompt's last token and ``response`` ``(rows, T)``.

        Returns:
            Hidden states ``(rows, T + 1, hidden_size)`` that predict the response's tokens and the next one.
        """
        first = self.prompt.last.expand(self.batch_shape).reshape(-1, 1)  # (rows, 1)
        embeddings = self._embed(torch.cat([first, response], 1), 0)
        span = self._span(0, response.shape[1] + 1)
        if self._tokens is None:
            return self._advance(embeddings, span)
        soft = self._tokens.embeddings.to(embeddings.dtype)
        rows = soft.expand(*self.batch_shape, *soft.shape[-2:]).flatten(0, -3)  # (rows, n, embedding_size)
        slot = soft_span(self.prompt.start.order - 0.5, self.prompt.start.position, self._tokens.bias)
        hidden = self._advance(torch.cat([rows, embeddings], 1), Span.cat([slot, span]))
        return hidden[:, rows.shape[1] :]

    def context(self) -> KeyValues:
        """What the prompt's last token sees before it: memory, prompt and soft tokens, once they have been read."""
        read = self.start(self.prompt.last.new_zeros(self.batch_shape.numel(), 0))
        seen, last = self._cache.key_values(), read.shape[1]
        return KeyValues(
            tuple(key[..., :-last, :] for key in seen.keys),
            tuple(value[..., :-last, :] for value in seen.values),
        )

    def step(self, token: Tensor, place: int) -> Tensor:
        """Read one more token ``(rows,)``, the response's ``place``-th; hidden states ``(rows, hidden_size)``."""
        return self._advance(self._embed(token[:, None], place), self._span(place, 1))[:, 0]

    def _embed(self, ids: Tensor, first: int) -> Tensor:
        """Embeddings ``(rows, T, embedding_size)`` of the tokens at places ``first ..``, with what is added to them."""
        embeddings = self.backbone.embed(ids, self.prompt.role)
        if self._added is None:
            return embeddings
        added = self._added[..., first : first + ids.shape[1], :].to(embeddings.dtype)
        rows = added.expand(*self.batch_shape, *added.shape[-2:]).reshape(len(ids), *added.shape[-2:])
        return embeddings + pad(rows, (0, 0, 0, ids.shape[1] - rows.shape[1]))

    def _span(self, first: int, num: int) -> Span:
        """The span of places ``first ..`` after the prompt, place 0 being the prompt's last token."""
        start = self.prompt.start
        places = torch.arange(first, first + num, device=start.order.device)
        # Padding behind the longest prompt may stand beyond the context, where some networks have no position.
        position = (start.position + places).clamp(max=self.backbone.context - 1)
        order = start.order + places
        last = None if self._window is None else torch.where(places > 0, order + self._window - 1, torch.inf)
        return Span(position, order, torch.zeros_like(start.order).expand(-1, num), last)

    def _advance(self, embeddings: Tensor, span: Span) -> Tensor:
        self._read = Span.cat([self._read, span])
        return self.backbone.run(self.prompt.role, embeddings, span, self._read, self._cache, self._edits)
