"""Tiny random-weight causal LMs and batches that every test file shares."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

os.environ["HF_HUB_OFFLINE"] = "1"

import pyro
import pytest
import torch
from stratagem.guides import AmortizedGuide
from stratagem.inference.commands import main
from stratagem.models import (
    Backbone,
    Batch,
    Categorical,
    Conditioning,
    CrossAttention,
    Example,
    KeyValuePrefix,
    Latent,
    LatentLM,
    LoraExperts,
    ModulatedLora,
    PooledRouter,
    PositionMemory,
    Residual,
    Router,
    Several,
    SlotTokens,
    Tagged,
    Template,
    TensorProduct,
    UniformPrior,
    collate,
)
from stratagem.models.backbone import Lora, Role
from stratagem.models.backbone.scratch import symbol_tokenizer
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM

from .fit_fixtures import Command, Said, own_logging
from .inference_fixtures import LATENTS, Toy


@pytest.fixture(scope="session", autouse=True)
def responses_for_all_fits(tmp_path_factory: pytest.TempPathFactory) -> None:
    os.environ["STRATAGEM_CACHE"] = str(tmp_path_factory.mktemp("cache"))


# On matrices this small, threads only wait for each other (up to 25 times slower).
torch.set_num_threads(1)

CONTEXT = 32

_WIDE = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 24}
_OPT = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "ffn_dim": 24}

ARCHITECTURES: dict[str, dict[str, Any]] = {
    "gpt2": {"n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": CONTEXT, "tie_word_embeddings": True},
    "llama": {**_WIDE, "num_key_value_heads": 4, "tie_word_embeddings": False},
    "llama-grouped": {**_WIDE, "num_key_value_heads": 2, "tie_word_embeddings": True},
    "qwen2": {**_WIDE, "num_key_value_heads": 4, "tie_word_embeddings": True},
    "qwen2-grouped": {**_WIDE, "num_key_value_heads": 1, "tie_word_embeddings": False},
    "mistral": {**_WIDE, "num_key_value_heads": 2},
    "gpt_neox": {**_WIDE, "rotary_pct": 0.5},
    "gemma": {**_WIDE, "num_key_value_heads": 1, "head_dim": 6},
    "opt": {**_OPT, "word_embed_proj_dim": 16},
    "opt-projected": {**_OPT, "word_embed_proj_dim": 8},
    "phi": {**_WIDE, "num_key_value_heads": 4, "partial_rotary_factor": 0.5},
}


@pytest.fixture(autouse=True)
def _fresh_pyro() -> None:
    pyro.set_rng_seed(0)
    pyro.clear_param_store()


@pytest.fixture(params=sorted(ARCHITECTURES))
def architecture(request: pytest.FixtureRequest) -> str:
    """Each architecture in turn, with its variants of heads and embeddings."""
    return request.param


@pytest.fixture
def make_backbone() -> Callable[..., Backbone]:
    """Backbones whose base weights depend on the seed, not on roles nor, but for rounding, on dtype."""

    def make(
        arch: str,
        roles: dict[str, Role] | None = None,
        dtype: torch.dtype = torch.float32,
        vocab: int = 11,
        seed: int = 0,
        **overrides: Any,
    ) -> Backbone:
        tokenizer = symbol_tokenizer([f"s{i}" for i in range(vocab - 4)], CONTEXT)
        special = {
            f"{kind}_token_id": tokenizer.convert_tokens_to_ids(f"<{kind}>") for kind in ("bos", "eos", "pad")
        }
        settings = {"max_position_embeddings": CONTEXT, **ARCHITECTURES[arch], **overrides}
        config = AutoConfig.for_model(arch.partition("-")[0], vocab_size=vocab, **special, **settings)
        lm = AutoModelForCausalLM.from_config(config, dtype=dtype)
        numbers = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for weight in lm.parameters():
                noise = torch.randn(weight.shape, generator=numbers)
                weight.copy_(0.35 * noise if weight.dim() > 1 else weight + 0.2 * noise)
        return Backbone(lm, tokenizer, roles, name=arch)

    return make


@pytest.fixture
def make_batch() -> Callable[..., Batch]:
    """Batches of random tokens, the pad token among them, so that only masks can tell padding."""

    def make(
        backbone: Backbone,
        prompts: Sequence[int] = (3, 1, 5),
        responses: Sequence[int] = (2, 4, 1),
        cut: Sequence[int] = (),
        seed: int = 0,
    ) -> Batch:
        """Rows of the given lengths, the end token of a response counted; rows in ``cut`` have none."""
        numbers = torch.Generator().manual_seed(seed)
        ordinary = [i for i in range(backbone.vocab_size) if i not in backbone.eos_ids]

        def draw(length: int) -> tuple[int, ...]:
            places = torch.randint(len(ordinary), (length,), generator=numbers)
            return tuple(ordinary[i] for i in places.tolist())

        rows = []
        for row, length in enumerate(prompts):
            prompt = draw(length)
            if not responses:
                rows.append(Example(prompt))
                continue
            whole = draw(responses[row])
            rows.append(Example(prompt, whole if row in cut else (*whole[:-1], backbone.eos_ids[0])))
        return collate(rows, backbone.pad_id, index=range(len(rows)))

    return make


@pytest.fixture
def unpad() -> Callable[[Batch], list[Batch]]:
    """Each row of a batch as a batch of its own, without any padding."""

    def split(batch: Batch) -> list[Batch]:
        rows = []
        for row in range(len(batch)):
            prompt = batch.prompt[row][batch.prompt_mask[row]].tolist()
            kept = [] if batch.response is None else batch.response[row][batch.response_mask[row]].tolist()
            rows.append(collate([Example(tuple(prompt), tuple(kept))], pad_id=0))
        return rows

    return split


CONDITIONINGS: dict[str, Callable[..., Conditioning]] = {
    "prefix": partial(KeyValuePrefix, length=2),
    "slots": partial(SlotTokens, length=2),
    "residual": Residual,
    "modulated_lora": partial(ModulatedLora, rank=2),
    "lora_experts": partial(LoraExperts, rank=1),
    "tensor_product": partial(TensorProduct, rank=3, init_scale=0.3),
    "cross_attention": partial(CrossAttention, length=2, width=3, init_scale=0.3),
    "position_memory": partial(PositionMemory, length=3, window=2),
    "several": partial(
        Several,
        parts={
            "memory": partial(KeyValuePrefix, length=1),
            "embedding": partial(Residual, layers="first"),
        },
    ),
}


@pytest.fixture
def make_model() -> Callable[..., LatentLM]:
    """Latent models with a conditioning of :data:`CONDITIONINGS`, slot tokens in the tagged template."""

    def make(
        backbone: Backbone,
        kind: str = "prefix",
        latents: Mapping[str, Latent] | None = None,
        router: Callable[[Backbone, Latent], Router] = UniformPrior,
        **settings: Any,
    ) -> LatentLM:
        conditioning, template = CONDITIONINGS[kind], Tagged if kind == "slots" else Template
        entry = partial(conditioning, **settings)
        model = LatentLM(backbone, latents or {"z": Categorical(3)}, router, entry, template)
        return model.double() if backbone.dtype == torch.float64 else model

    return make


@pytest.fixture
def randomise() -> Callable[..., None]:
    """Draws every trainable weight afresh, so that heads and adapters that start at zero take part."""

    def draw(module: nn.Module, backbone: bool = True) -> None:
        with torch.no_grad():
            for name, weight in module.named_parameters():
                if weight.requires_grad and (backbone or "backbone." not in name):
                    head = "head." in name and weight.dim() == 2
                    weight.normal_(0, 0.3 / weight.shape[1] ** 0.5 if head else 0.3)

    return draw


@pytest.fixture(params=sorted(LATENTS))
def toy(
    request: pytest.FixtureRequest,
    make_backbone: Callable[..., Backbone],
    make_batch: Callable[..., Batch],
    make_model: Callable[..., LatentLM],
    randomise: Callable[..., None],
    unpad: Callable[[Batch], list[Batch]],
) -> Toy:
    backbone = make_backbone("gpt2", dtype=torch.float64, roles={"posterior": Lora(rank=2)})
    model = make_model(backbone, latents=LATENTS[request.param], router=PooledRouter)
    guide = AmortizedGuide(model, pooling="attention").double()
    randomise(nn.ModuleDict({"model": model, "guide": guide}))
    batch = make_batch(backbone)
    return Toy(model, guide, batch, unpad(batch))


@pytest.fixture
def _on_a_terminal() -> Iterator[None]:
    """Tests may run in the background or under nohup, where these are ignored."""
    before = {
        signal.SIGINT: signal.signal(signal.SIGINT, signal.default_int_handler),
        signal.SIGHUP: signal.signal(signal.SIGHUP, signal.SIG_DFL),
    }
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Iterator[Command]:
    """Runs a command in this process."""
    monkeypatch.setattr(sys, "argv", ["stratagem"])

    def run(*words: object) -> Said:
        capfd.readouterr()
        status = 0
        with own_logging():
            try:
                main([str(word) for word in words])
            except SystemExit as stop:
                status = int(stop.code or 0)
        return Said(status, "".join(capfd.readouterr()))

    return run
