"""A causal LM as a Pyro distribution over token sequences."""

from __future__ import annotations

import math
import weakref
from collections.abc import Callable
from dataclasses import dataclass

import torch
from pyro.distributions import TorchDistribution
from torch import Tensor
from torch.distributions import constraints

from .backbone import Backbone
from .decoder_state import DecoderState
from .memory import Memory
from .prompt import EncodedPrompt

Warp = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class _Pass:
    """The hidden states of one teacher-forced pass, and what they are those of."""

    value: Tensor
    version: int
    graded: bool
    hidden: Tensor

    def serves(self, value: Tensor) -> bool:
        same = value is self.value and value._version == self.version
        return same and (self.graded or not torch.is_grad_enabled())


class LanguageModel(TorchDistribution):
    """``p(y | x, memory) = prod_t p(y_t | x, memory, y_<t)`` over sequences that end in EOS or at ``max_length``.

    A value is token ids ``(*batch_shape, T)`` padded on the right. Its tokens are those up to and including
    the first end token; a sequence of full length without one is a truncated response, whose probability is
    that of its tokens. With ``max_length`` fixed these probabilities sum to one.

    The batch shape is the memory's broadcast with ``(B,)``, so that an enumerated z of shape ``(K, 1)`` or
    particles ``(S, B)`` cost one pass of the responses and share the prompts.

    The law keeps the hidden states of the last value, until a backward has run through them, so that whatever is
    asked of one value costs one pass.

    Args:
        backbone: the LM.
        prompt: ``B`` encoded prompts; their role is the network that speaks.
        memory: what z adds to the context; nothing for the law of the role itself.
        max_length: ``T``, the tokens of a sample; fewer where the context leaves fewer after the longest prompt.
        mask: ``(B, T)`` tells the tokens of an observed value from its padding, for values that were cut
            without an end token; without it the first end token decides.
        warp: changes next-token logits ``(rows, vocab_size)`` before sampling (temperature, top-p); it has no
            part in ``log_prob``.
        inputs: ``(B, T)`` ids that the decoder reads of an observed value; the value itself where not given.
            What it predicts, and the mask, are the value's.

    Raises:
        ValueError: a prompt that fills the context; in ``log_prob``, a value too long for what the prompt leaves of
            it, or whose shape does not end in ``(B, T)`` or not in that of the mask.
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
        inputs: Tensor | None = None,
    ) -> None:
        self.backbone, self.prompt, self.memory = backbone, prompt, memory or Memory()
        self.mask_of_value, self.warp, self.inputs = mask, warp, inputs
        self._last: _Pass | None = None
        batch_shape = torch.broadcast_shapes(self.memory.batch_shape, (len(prompt),))
        room = backbone.context - 1 - int(prompt.start.position.max())
        if room < 1:
            raise ValueError(
                f"LanguageModel: a prompt of {backbone.context - room} tokens leaves no room for a response in the "
                f"context of {backbone.context} tokens of {backbone.name}; shorten it"
            )
        super().__init__(batch_shape, torch.Size((min(max_length, room),)), validate_args=False)

    @property
    def support(self) -> constraints.Constraint:
        return constraints.independent(constraints.integer_interval(0, self.backbone.vocab_size - 1), 1)

    def expand(self, batch_shape: torch.Size, _instance: LanguageModel | None = None) -> LanguageModel:
        new = self._get_checked_instance(LanguageModel, _instance)
        new.backbone, new.prompt, new.memory = self.backbone, self.prompt, self.memory
        new.mask_of_value, new.warp, new.inputs = self.mask_of_value, self.warp, self.inputs
        new._last = None
        shape = torch.broadcast_shapes(torch.Size(batch_shape), self.batch_shape)
        super(LanguageModel, new).__init__(shape, self.event_shape, validate_args=False)
        return new

    def reading(self, inputs: Tensor) -> LanguageModel:
        """The same law, whose decoder reads ``inputs`` of an observed value and predicts the value."""
        new = self.expand(self.batch_shape)
        new.inputs = inputs
        return new

    def warped(self, warp: Warp | None) -> LanguageModel:
        """The same law, whose samples are drawn from warped logits."""
        new = self.expand(self.batch_shape)
        new.warp = warp
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
        """Nats per token, ``(*batch, T)``, 0 at padding."""
        shape, rows = self._rows_of(value)
        mask = self.mask_of(rows)
        hidden = self._hidden(value, rows)  # (*rows, T, hidden_size)
        log_p = self.backbone.token_log_prob(self.prompt.role, hidden[mask], rows[mask])
        out = torch.zeros(rows.shape, dtype=log_p.dtype, device=log_p.device).masked_scatter(mask, log_p)
        return out.expand(*shape, -1)

    def hidden(self, value: Tensor) -> Tensor:
        """Last hidden states ``(*batch, T, hidden_size)`` before each token of ``value``."""
        shape, rows = self._rows_of(value)
        return self._hidden(value, rows).expand(*shape, -1, -1)

    def logits_of(self, hidden: Tensor) -> Tensor:
        """Next-token logits ``(*, vocab_size)`` of hidden states ``(*, hidden_size)``, in float32 or better."""
        return self.backbone.logits(self.prompt.role, hidden)

    def logits(self, value: Tensor) -> Tensor:
        """Next-token logits ``(*batch, T, vocab_size)`` before each token of ``value``, in float32 or better."""
        shape, rows = self._rows_of(value)
        return self.logits_of(self._hidden(value, rows)).expand(*shape, -1, -1)

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
            logits = self.logits_of(hidden)
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

    def _hidden(self, value: Tensor, rows: Tensor) -> Tensor:
        """Of ``rows``, to which ``value`` has been expanded; kept by the value."""
        if value.is_inference():
            return self._run(rows)
        if self._last is None or not self._last.serves(value):
            self._last = None
            hidden = self._run(rows)
            self._last = _Pass(value, value._version, torch.is_grad_enabled(), hidden)
            if hidden.requires_grad:
                law = weakref.ref(self)
                hidden.register_hook(lambda _: _forget(law()))
        return self._last.hidden

    def _run(self, rows: Tensor) -> Tensor:
        read, mask = rows, self.mask_of(rows)
        if self.inputs is not None:
            if self.inputs.shape[-1] != rows.shape[-1]:
                raise ValueError(
                    f"LanguageModel: a value of shape {tuple(rows.shape)} does not fit the inputs, of shape "
                    f"{tuple(self.inputs.shape)}; leave the inputs out to score other values"
                )
            read = self.inputs.expand(rows.shape)
        self._check_room(mask)
        state = DecoderState(self.backbone, self.prompt, self.memory, rows.shape[:-2])
        ids = read.masked_fill(~mask, self.backbone.pad_id).reshape(-1, rows.shape[-1])
        hidden = state.start(ids[:, :-1])  # (prod(rows), T, hidden_size)
        return hidden.reshape(*rows.shape, -1)

    def _check_room(self, mask: Tensor) -> None:
        ends = self.prompt.start.position[:, 0] + 1 + mask.sum(-1)  # (*rows)
        if (ends > self.backbone.context).any():
            raise ValueError(
                f"LanguageModel: prompt and response have {int(ends.max())} tokens together, more than the context of "
                f"{self.backbone.context} tokens of {self.backbone.name}; shorten them"
            )


def _forget(law: LanguageModel | None) -> None:
    """Let go of hidden states whose graph a backward has run through, and perhaps freed."""
    if law is not None:
        law._last = None


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
