"""A causal LM as a Pyro distribution over token sequences."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from pyro.distributions import TorchDistribution
from torch import Tensor
from torch.distributions import constraints

from .backbone import Backbone
from .decoder_state import DecoderState
from .memory import Memory
from .prompt import EncodedPrompt

Warp = Callable[[Tensor], Tensor]


class LanguageModel(TorchDistribution):
    """``p(y | x, memory) = prod_t p(y_t | x, memory, y_<t)`` over sequences that end in EOS or at ``max_length``.

    A value is token ids ``(*batch_shape, T)`` padded on the right. Its tokens are those up to and including
    the first end token; a sequence of full length without one is a truncated response, whose probability is
    that of its tokens. With ``max_length`` fixed these probabilities sum to one.

    The batch shape is the memory's broadcast with ``(B,)``, so that an enumerated z of shape ``(K, 1)`` or
    particles ``(S, B)`` cost one pass of the responses and share the prompts.

    Args:
        backbone: the LM.
        prompt: ``B`` encoded prompts; their role is the network that speaks.
        memory: what z adds to the context; nothing for the law of the role itself.
        max_length: ``T``, the tokens of a sample.
        mask: ``(B, T)`` tells the tokens of an observed value from its padding, for values that were cut
            without an end token; without it the first end token decides.
        warp: changes next-token logits ``(rows, vocab_size)`` before sampling (temperature, top-p); it has no
            part in ``log_prob``.

    Raises:
        ValueError: in ``log_prob``, a value whose shape does not end in ``(B, T)``, or not in that of the
            mask.
    """

    arg_constraints: dict[str, constraints.Constraint] = {}  # noqa: RUF012
    has_rsample = False

    def __init__(
        self,
        backbone: Backbone,
        prompt: EncodedPrompt,
        memory: Memory | None = None,
        max_length: int = 64,
        mask: Tensor | None = None,
        warp: Warp | None = None,
    ) -> None:
        self.backbone, self.prompt, self.memory = backbone, prompt, memory or Memory()
        self.mask_of_value, self.warp = mask, warp
        batch_shape = torch.broadcast_shapes(self.memory.batch_shape, (len(prompt),))
        super().__init__(batch_shape, torch.Size((max_length,)), validate_args=False)

    @property
    def support(self) -> constraints.Constraint:
        return constraints.independent(constraints.integer_interval(0, self.backbone.vocab_size - 1), 1)

    def expand(self, batch_shape: torch.Size, _instance: LanguageModel | None = None) -> LanguageModel:
        new = self._get_checked_instance(LanguageModel, _instance)
        new.backbone, new.prompt, new.memory = self.backbone, self.prompt, self.memory
        new.mask_of_value, new.warp = self.mask_of_value, self.warp
        shape = torch.broadcast_shapes(torch.Size(batch_shape), self.batch_shape)
        super(LanguageModel, new).__init__(shape, self.event_shape, validate_args=False)
        return new

    def mask_of(self, value: Tensor) -> Tensor:
        """Which places of ``value`` are tokens, True up to and including the first end token."""
        if self.mask_of_value is not None:
            if value.shape[-1] != self.mask_of_value.shape[-1]:
                raise ValueError(
                    f"LanguageModel: a value of shape {tuple(value.shape)} does not fit the mask of the observed "
                    f"value, of shape {tuple(self.mask_of_value.shape)}; leave the mask out to score other values"
                )
            return self.mask_of_value.expand(value.shape)
        ends = torch.isin(value, torch.tensor(self.backbone.eos_ids, device=value.device))
        return ends.long().cumsum(-1) - ends.long() == 0

    def log_prob(self, value: Tensor) -> Tensor:
        """Nats per sequence, ``batch_shape`` broadcast with that of ``value``."""
        return self.token_log_probs(value).sum(-1)

    def token_log_probs(self, value: Tensor) -> Tensor:
        """Nats per token, ``(*batch, T)``, 0 at padding; one teacher-forced pass."""
        shape, value = self._rows_of(value)
        mask = self.mask_of(value)
        hidden = self._hidden(value, mask, value.shape[:-2])  # (*batch, T, hidden_size)
        log_p = self.backbone.token_log_prob(self.prompt.role, hidden[mask], value[mask])
        out = torch.zeros(value.shape, dtype=log_p.dtype, device=log_p.device).masked_scatter(mask, log_p)
        return out.expand(*shape, -1)

    def logits(self, value: Tensor) -> Tensor:
        """Next-token logits ``(*batch, T, vocab_size)`` before each token of ``value``, in float32 or better."""
        shape, value = self._rows_of(value)
        hidden = self._hidden(value, self.mask_of(value), value.shape[:-2])
        return self.backbone.logits(self.prompt.role, hidden).expand(*shape, -1, -1)

    @torch.no_grad()
    def sample(self, sample_shape: torch.Size | tuple[int, ...] = ()) -> Tensor:
        """Token ids ``(*sample_shape, *batch_shape, max_length)``, filled with the pad token after the end."""
        shape = torch.Size(sample_shape) + self.batch_shape
        state = DecoderState(self.backbone, self.prompt, self.memory, shape[:-1])
        rows, length = shape.numel(), self.event_shape[0]
        device = self.prompt.last.device
        ends = torch.tensor(self.backbone.eos_ids, device=device)
        out = torch.full((rows, length), self.backbone.pad_id, device=device)
        going = torch.ones(rows, dtype=torch.bool, device=device)
        hidden = state.start(out[:, :0])[:, -1]
        for t in range(length):
            logits = self.backbone.logits(self.prompt.role, hidden)
            token = torch.multinomial((self.warp(logits) if self.warp else logits).softmax(-1), 1)[:, 0]
            out[:, t] = torch.where(going, token, out[:, t])
            going &= ~torch.isin(token, ends)
            if t + 1 == length or not going.any():
                break
            hidden = state.step(out[:, t], t + 1)
        return out.reshape(*shape, length)

    def _rows_of(self, value: Tensor) -> tuple[torch.Size, Tensor]:
        """The shape of the answer, and ``value`` expanded to the rows that differ."""
        if value.dim() < 1 or value.shape[-1] == 0:
            raise ValueError(
                f"LanguageModel: expected token ids (*batch, T) with T >= 1, got shape {tuple(value.shape)}"
            )
        try:
            shape = torch.broadcast_shapes(self.batch_shape, value.shape[:-1])
        except RuntimeError:
            raise ValueError(
                f"LanguageModel: a value of shape {tuple(value.shape)} does not broadcast with batch shape "
                f"{tuple(self.batch_shape)}; expected (*, {len(self.prompt)}, T)"
            ) from None
        rows = torch.broadcast_shapes(self.memory.batch_shape, (len(self.prompt),), value.shape[:-1])
        return shape, value.expand(*rows, value.shape[-1])

    def _hidden(self, value: Tensor, mask: Tensor, lead: torch.Size) -> Tensor:
        state = DecoderState(self.backbone, self.prompt, self.memory, lead)
        ids = value.masked_fill(~mask, self.backbone.pad_id).reshape(-1, value.shape[-1])
        hidden = state.start(ids[:, :-1])  # (rows, T, hidden_size)
        return hidden.reshape(*value.shape, -1)


def warper(temperature: float = 1.0, top_p: float = 1.0) -> Warp | None:
    """Logits divided by ``temperature`` and cut to the smallest set of tokens of mass ``top_p``.

    Temperature 0 is greedy. None where nothing changes.

    Raises:
        ValueError: a negative or infinite temperature, or ``top_p`` outside (0, 1].
    """
    if not 0 <= temperature < math.inf:
        raise ValueError(f"temperature must be finite and not negative, got {temperature}")
    if not 0 < top_p <= 1:
        raise ValueError(f"top_p must be above 0 and at most 1, got {top_p}")
    if temperature == 1 and top_p == 1:
        return None

    def warp(logits: Tensor) -> Tensor:
        if temperature == 0:
            best = logits.argmax(-1, keepdim=True)
            return torch.full_like(logits, -torch.inf).scatter(-1, best, 0.0)
        scaled = logits / temperature
        if top_p == 1:
            return scaled
        ranked, places = scaled.sort(-1, descending=True)
        before = ranked.softmax(-1).cumsum(-1) - ranked.softmax(-1)
        return scaled.masked_fill((before >= top_p).gather(-1, places.argsort(-1)), -torch.inf)

    return warp
