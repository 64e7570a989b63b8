"""One pre-trained causal LM that router, decoder and posterior share."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from transformers.pytorch_utils import Conv1D

from .cache import KeyValues, SharedCache
from .edit import Edit, edited
from .frozen_head import FrozenHead
from .roles import Frozen, Full, Lora, Role, activate_adapter, adapted_layers
from .segment import Span, attention_mask

ROLES = ("router", "decoder", "posterior")
BASE = "base"

_LOGITS_BUDGET = 2**22
"""Logits held at once by a likelihood; beyond it they are made and reduced in chunks."""


class Backbone(nn.Module):
    """A causal LM in three roles, with one copy of the base weights unless a role is :class:`Full`.

    The base law ``p0`` is role ``"base"``: always reachable, never trained. The network stays in evaluation
    mode, since a likelihood with dropout would not be a function of its arguments.

    Args:
        lm: the causal LM; its weights are frozen here.
        tokenizer: its tokenizer, with an EOS token.
        roles: how much of the base ``router``, ``decoder`` and ``posterior`` may change; frozen where absent.
        name: what the LM was loaded from, for messages and checkpoints.
        revision: of a model on the hub.

    Raises:
        ValueError: no EOS token, an unknown role, attention by places in memory, or logits that are no linear function
            of the last hidden state.
    """

    def __init__(
        self,
        lm: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        roles: Mapping[str, Role] | None = None,
        name: str = "",
        revision: str | None = None,
    ) -> None:
        super().__init__()
        unknown = set(roles or {}) - set(ROLES)
        if unknown:
            raise ValueError(f"backbone: unknown roles {sorted(unknown)}; the roles are {', '.join(ROLES)}")
        if tokenizer.eos_token_id is None:
            raise ValueError(
                f"backbone {name}: the tokenizer has no EOS token, so that a response would have no end; "
                "set one with tokenizer.add_special_tokens and save the tokenizer beside the model"
            )
        self.name, self.revision, self.tokenizer = name, revision, tokenizer
        self.fingerprint = _fingerprint(lm)
        lm.requires_grad_(False)
        self.networks = nn.ModuleDict({BASE: lm})
        self.roles = {role: (roles or {}).get(role) or Frozen() for role in ROLES}
        for kind in (Full, Lora, Frozen):
            for role, how in self.roles.items():
                if type(how) is kind and (network := how.attach(role, lm)) is not lm:
                    self.networks[role] = network
        self._adapters = [role for role, how in self.roles.items() if isinstance(how, Lora)]
        self._adapted = adapted_layers(lm)
        self.low_precision = False
        self.eval()
        self._check_places()
        self._check_head()

    @property
    def lm(self) -> PreTrainedModel:
        """The base, with the adapters of the other roles on it."""
        return self.networks[BASE]

    @property
    def config(self) -> Any:
        """Of the network that reads text, where there are others."""
        return self.lm.config.get_text_config()

    @property
    def device(self) -> torch.device:
        return self.lm.device

    @property
    def dtype(self) -> torch.dtype:
        return self.lm.dtype

    @property
    def hidden_size(self) -> int:
        return self.lm.get_output_embeddings().in_features

    @property
    def layer_sizes(self) -> tuple[int, ...]:
        """Widths of the hidden states after each layer; the last may be projected for the output embedding."""
        return (self.config.hidden_size,) * (self.num_layers - 1) + (self.hidden_size,)

    @property
    def embedding_size(self) -> int:
        return self.lm.get_input_embeddings().weight.shape[1]

    @property
    def vocab_size(self) -> int:
        return self.lm.get_output_embeddings().out_features

    @property
    def num_layers(self) -> int:
        return int(self.config.num_hidden_layers)

    @property
    def context(self) -> int:
        """Tokens that prompt and response may have together.

        A sliding attention window counts as the limit: beyond it a token would no longer see z.
        """
        config = self.config
        limits = [getattr(config, "max_position_embeddings", None) or 2**31]
        if getattr(config, "use_sliding_window", True) and getattr(config, "sliding_window", None):
            limits.append(config.sliding_window)
        return min(limits)

    @property
    def eos_ids(self) -> tuple[int, ...]:
        """Tokens that end a response: the tokenizer's EOS and whatever the generation config adds."""
        listed = getattr(self.lm.generation_config, "eos_token_id", None)
        extra = [] if listed is None else [listed] if isinstance(listed, int) else listed
        return tuple(sorted({self.tokenizer.eos_token_id, *extra}))

    @property
    def pad_id(self) -> int:
        """The filler of padded places, which masks hide: the EOS token where the LM knows no pad token."""
        pad = self.tokenizer.pad_token_id
        known = pad is not None and pad < self.lm.get_input_embeddings().weight.shape[0]
        return pad if known else self.tokenizer.eos_token_id

    @property
    def bos_id(self) -> int:
        """The token that begins a text; -1, which no token has, where there is none."""
        bos = self.tokenizer.bos_token_id
        return -1 if bos is None else bos

    def is_frozen(self, role: str) -> bool:
        """Whether the role runs the base law, so that what it computes is the same at every step."""
        return role == BASE or isinstance(self.roles[role], Frozen)

    def train(self, mode: bool = True) -> Self:
        super().train(mode)
        self.networks.eval()
        return self

    @property
    def num_base_parameters(self) -> int:
        """Parameters of the base, tied ones once."""
        return sum(p.numel() for p in self.lm.parameters())

    def save_base(self, folder: str | Path) -> None:
        """The base and its tokenizer in Hugging Face format."""
        self.lm.save_pretrained(folder)
        self.tokenizer.save_pretrained(folder)

    def network(self, role: str) -> PreTrainedModel:
        """The network of ``role``, its adapter active and every other off; the base law's for ``"base"``."""
        if role in self.networks and role != BASE:
            return self.networks[role]
        if self._adapters:
            activate_adapter(self._adapted, role if role in self._adapters else None, self._adapters)
        return self.lm

    def layers(self, role: str) -> nn.ModuleList:
        """The layers of the network of ``role``.

        Raises:
            ValueError: an architecture that does not keep them in one list.
        """
        for module in self.network(role).base_model.modules():
            if isinstance(module, nn.ModuleList) and len(module) == self.num_layers:
                return module
        raise ValueError(
            f"backbone {self.name}: {type(self.lm).__name__} has no list of its {self.num_layers} layers"
        )

    def linear_maps(self, layer: int) -> dict[str, tuple[int, int, float]]:
        """Of each linear map in a layer by name: its inputs, outputs, and the standard deviation of its weights."""
        found = {}
        for name, module in self.layers(BASE)[layer].named_modules():
            if isinstance(module, nn.Linear | Conv1D) and "lora_" not in name:
                weight = module.weight.T if isinstance(module, Conv1D) else module.weight
                found[name.removesuffix(".base_layer")] = (
                    weight.shape[1],
                    weight.shape[0],
                    float(weight.float().std()),
                )
        return found

    def embed(self, ids: Tensor, role: str) -> Tensor:
        """Input embeddings ``(*ids.shape, embedding_size)``."""
        return self.network(role).get_input_embeddings()(ids)

    def run(
        self,
        role: str,
        embeddings: Tensor,
        queries: Span,
        keys: Span,
        cache: SharedCache | None,
        edits: Sequence[Edit] = (),
    ) -> Tensor:
        """Last hidden states ``(rows, T, hidden_size)`` of a stretch of input after the past in ``cache``.

        Args:
            role: whose network.
            embeddings: ``(rows, T, embedding_size)``; ``rows`` is a multiple of the spans' batch size, the
                spans being the same for each multiple.
            queries: the stretch itself, ``(B, T)``.
            keys: the past and the stretch, ``(B, past + T)``.
            cache: the past, which grows by the stretch; None where there is none.
            edits: of the stretch's own rows.
        """
        with edited(self.layers(role), edits):
            return self._run(role, embeddings, queries, keys, cache, every_layer=False).last_hidden_state

    def _run(
        self,
        role: str,
        embeddings: Tensor,
        queries: Span,
        keys: Span,
        cache: SharedCache | None,
        every_layer: bool,
    ) -> Any:
        network = self.network(role)
        times = embeddings.shape[0] // queries.position.shape[0]
        mask = attention_mask(queries, keys, self.dtype)
        with self._precision():
            return network.base_model(
                inputs_embeds=embeddings,
                attention_mask=mask.repeat(times, 1, 1, 1),  # (rows, 1, T, past + T)
                position_ids=queries.position.repeat(times, 1),  # (rows, T)
                past_key_values=cache,
                use_cache=cache is not None,
                output_hidden_states=every_layer,
            )

    def _precision(self) -> AbstractContextManager[Any]:
        return torch.autocast(self.device.type, torch.bfloat16) if self.low_precision else nullcontext()

    def encode(self, role: str, embeddings: Tensor, span: Span) -> KeyValues:
        """Keys and values of a stretch with no past, for others to attend to."""
        cache = SharedCache([], embeddings.shape[:1], self.num_layers)
        self.run(role, embeddings, span, span, cache)
        return cache.key_values()

    def hidden(self, role: str, ids: Tensor, mask: Tensor) -> Tensor:
        """Last hidden states ``(B, T, hidden_size)`` of padded tokens; no gradient where the role is frozen."""
        return self.hidden_layers(role, ids, mask, every_layer=False)[0]

    def hidden_layers(
        self, role: str, ids: Tensor, mask: Tensor, every_layer: bool = True
    ) -> tuple[Tensor, ...]:
        """Hidden states ``(B, T, width)`` after each layer, or the last alone, of padded tokens ``(B, T)``."""
        span = Span.of_tokens(mask)
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.is_frozen(role)):
            out = self._run(role, self.embed(ids, role), span, span, None, every_layer)
        return tuple(out.hidden_states[1:]) if every_layer else (out.last_hidden_state,)

    def logits(self, role: str, hidden: Tensor) -> Tensor:
        """Next-token logits in float32 or better, ``(*, vocab_size)``, from last hidden states ``(*, hidden_size)``."""
        network = self.network(role)
        with self._precision():
            out = network.get_output_embeddings()(hidden)
        out = out.to(torch.promote_types(out.dtype, torch.float32))
        cap = getattr(self.config, "final_logit_softcapping", None)
        return out if cap is None else cap * torch.tanh(out / cap)

    def token_log_prob(self, role: str, hidden: Tensor, tokens: Tensor) -> Tensor:
        """``log p(token)`` in nats, ``(n,)``, of ``tokens`` ``(n,)`` after hidden states ``(n, hidden_size)``.

        Logits exist for a chunk of rows at a time, in the backward too, so that memory does not grow with
        ``n * vocab_size``: a head that is trained makes them twice.
        """

        def chunk(h: Tensor, t: Tensor) -> Tensor:
            return -cross_entropy(self.logits(role, h), t, reduction="none")

        size = max(1, _LOGITS_BUDGET // self.vocab_size)
        if len(tokens) <= size:
            return chunk(hidden, tokens)
        if (head := self._frozen_head(role)) is not None:
            with self._precision():
                return FrozenHead.apply(hidden, tokens, head.weight, head.bias, size)
        pieces = zip(hidden.split(size), tokens.split(size), strict=True)
        return torch.cat([checkpoint(chunk, h, t, use_reentrant=False) for h, t in pieces])

    def _frozen_head(self, role: str) -> nn.Linear | None:
        """The output embedding of a role, where it is all that makes the logits and is not trained."""
        network = self.network(role)
        head = network.get_output_embeddings()
        capped = getattr(self.config, "final_logit_softcapping", None) is not None
        plain = type(head) is nn.Linear and not any(p.requires_grad for p in head.parameters())
        return head if plain and not capped else None

    @torch.no_grad()
    def embedding_scale(self) -> float:
        """Root mean square of the base's input embeddings."""
        words = self.embed(torch.arange(self.vocab_size, device=self.device), BASE)
        return float(words.float().square().mean().sqrt())

    @torch.no_grad()
    def hidden_scale(self, ids: Sequence[int]) -> list[float]:
        """Root mean square of the hidden states that enter each layer, on ``ids``."""
        tokens = torch.tensor([list(ids)], device=self.device)
        span = Span.of_tokens(torch.ones_like(tokens, dtype=torch.bool))
        out = self._run(BASE, self.embed(tokens, BASE), span, span, None, every_layer=True)
        return [float(layer.float().square().mean().sqrt()) for layer in out.hidden_states[:-1]]

    @torch.no_grad()
    def key_value_scale(self, ids: Sequence[int]) -> list[tuple[tuple[int, int], float, float]]:
        """Of each layer: its (heads, head_dim) and the root mean square of its keys and values on ``ids``."""
        tokens = torch.tensor([list(ids)], device=self.device)
        past = self.encode(
            BASE, self.embed(tokens, BASE), Span.of_tokens(torch.ones_like(tokens, dtype=torch.bool))
        )
        return [
            (
                (k.shape[-3], k.shape[-1]),
                float(k.float().square().mean().sqrt()),
                float(v.float().square().mean().sqrt()),
            )
            for k, v in zip(past.keys, past.values, strict=True)
        ]

    def _check_places(self) -> None:
        """Refuse attention that goes by places in memory, where padding and memories have places too."""
        config = self.config
        biased = getattr(config, "alibi", False) or getattr(
            getattr(config, "attn_config", None), "alibi", False
        )
        if biased or config.model_type == "bloom" or hasattr(config, "attention_types"):
            raise ValueError(
                f"backbone {self.name}: {type(self.lm).__name__} attends by places in memory, so that padding or a "
                "memory before the text would change what its tokens see; use an LM that tells positions by rotations "
                "or by embeddings"
            )

    @torch.no_grad()
    def _check_head(self) -> None:
        ids = torch.tensor([[self.eos_ids[0], self.vocab_size // 2]], device=self.device)
        mask = torch.ones_like(ids, dtype=torch.bool)
        ours = self.logits(BASE, self.hidden(BASE, ids, mask))
        theirs = self.network(BASE)(input_ids=ids, attention_mask=mask.long()).logits.to(ours.dtype)
        if not torch.allclose(ours, theirs, atol=1e-3 * float(theirs.abs().max()) + 1e-5, rtol=1e-3):
            raise ValueError(
                f"backbone {self.name}: {type(self.lm).__name__} makes its logits from its last hidden state in a "
                "way that is not known here (largest difference "
                f"{float((ours - theirs).abs().max()):.3g}); use an architecture whose logits are its output "
                "embedding of the last hidden state"
            )


@contextmanager
def low_precision(module: nn.Module, enabled: bool) -> Iterator[None]:
    """Networks of all backbones in a module run in bfloat16 autocast, forward and back; what reads them does not."""
    backbones = [part for part in module.modules() if isinstance(part, Backbone)]
    for backbone in backbones:
        backbone.low_precision = enabled
    try:
        yield
    finally:
        for backbone in backbones:
            backbone.low_precision = False


def _fingerprint(lm: PreTrainedModel) -> str:
    """A digest of the weights' names, shapes and a few numbers of each, to tell one base from another."""
    digest = hashlib.sha256(type(lm).__name__.encode())
    for name, weight in sorted(lm.named_parameters()):
        flat = weight.detach().reshape(-1)
        picked = flat[:: max(1, flat.numel() // 64)][:64].double().cpu()
        digest.update(
            f"{name}{tuple(weight.shape)}".encode() + picked.to(torch.bfloat16).float().numpy().tobytes()
        )
    return digest.hexdigest()[:16]
