"""One strategy as an adapter in PEFT's format."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from shutil import copytree
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor

from .backbone import Frozen, logits_of, moved, read_adapter, write_lora, write_prefix
from .batch import Batch, Example, collate
from .decoder_state import DecoderState
from .generation import values_of
from .language_model import LanguageModel
from .latent_lm import LatentLM
from .text import encode


@torch.no_grad()
def export_adapter(model: LatentLM, z: Any, folder: str | Path, prompt: str | None = None) -> float:
    """Write ``p(y|x,z)`` of one z as an adapter that plain PEFT loads: a prefix or a LoRA.

    A PEFT adapter acts on all that it is given, while here the prompt never sees z. The two are one law where the
    prompt has one token, as texts without a prompt have; or where the adapter is a prefix that holds the prompt, all
    but the last token, from which the reader then goes on. After a longer prompt of its own an adapter is a law near
    ``p(y|x,z)``: :func:`divergence` tells how near.

    Args:
        model: the latent model, its decoder frozen.
        z: the value, as in :func:`.generate`.
        folder: where to.
        prompt: that the prefix holds; none where not given.

    Returns:
        The largest difference of logits between the model and what PEFT makes of the folder, over a response drawn
        after ``prompt`` (the begin token where not given).

    Raises:
        ValueError: a conditioning that no PEFT adapter can be, a decoder with weights of its own, a z that is not
            there, or an LM whose logits PEFT does not give again.
    """
    backbone, folder = model.backbone, Path(folder)
    if not isinstance(backbone.roles["decoder"], Frozen):
        raise ValueError(
            "export: the decoder's own weights were trained (roles.decoder), which an adapter beside the base does not "
            "hold; fit with role@roles.decoder=frozen"
        )
    wrong = {name: c.strength for name, c in model.conditionings.items() if c.strength != 1}
    if wrong:
        raise ValueError(f"export: adapters act at strength 1, the model has {wrong}; set_strength(1)")
    values = _one_value(model, z)
    first = backbone.eos_ids[0] if backbone.bos_id == -1 else backbone.bos_id
    example = Example((first,)) if prompt is None else encode(backbone, prompt)
    law = model.decoder(collate([example], backbone.pad_id).to(backbone.device), values)
    with TemporaryDirectory() as aside:
        _write(law, Path(aside))
        difference = _difference(law, read_adapter(backbone, Path(aside)))
        copytree(aside, folder, dirs_exist_ok=True)
    return difference


@torch.no_grad()
def divergence(model: LatentLM, z: Any, folder: str | Path, batches: Sequence[Batch]) -> Tensor:
    """``KL(p(y|x,z) || adapter)`` of each datum in nats per token, by next-token laws along responses from p(y|x,z).

    Args:
        model: the latent model.
        z: the value that was exported.
        folder: of the adapter.
        batches: prompts, one datum each.
    """
    adapted = read_adapter(model.backbone, Path(folder))
    values = _one_value(model, z)
    out = []
    for batch in batches:
        law = model.decoder(batch, values)
        response = law.expand(torch.Size((1, 1))).sample()  # (1, 1, T)
        mask = law.mask_of(response)[0, 0]
        own = law.logits(response)[0, 0].log_softmax(-1)  # (T, vocab_size)
        ids = torch.cat([batch.prompt[batch.prompt_mask][None], response[0, :, :-1]], 1)
        theirs = logits_of(adapted, ids)[0, -len(own) :].log_softmax(-1)
        out.append((own.exp() * (own - theirs)).sum(-1)[mask].mean())
    return torch.stack(out).clamp(min=0)


def _one_value(model: LatentLM, z: Any) -> dict[str, Tensor]:
    values = None if z == "all" else values_of(model.latents, z)
    if values is None:
        raise ValueError(f"export: expected one value of z, got {z}; pass z=VALUE")
    return {name: value.to(model.backbone.device) for name, value in values.items()}


def _difference(law: LanguageModel, adapted: Any) -> float:
    response = law.expand(torch.Size((1, 1))).sample()  # (1, 1, T)
    own = law.logits(response)[0]  # (1, T, vocab_size)
    theirs = logits_of(adapted, torch.cat([law.prompt.last[:, None], response[0, :, :-1]], 1))
    difference = float((own - theirs).abs().max())
    if difference > max(1e-3, 8 * torch.finfo(law.backbone.dtype).eps) * float(own.abs().max()):
        raise ValueError(
            f"export: what PEFT makes of the adapter differs from the model by up to {difference:.3g} in logits; "
            f"{type(law.backbone.lm).__name__} tells positions or attends in a way that an adapter does not keep"
        )
    return difference


def _write(law: LanguageModel, folder: Path) -> None:
    memory = law.memory
    if memory.places is not None or memory.window is not None:
        raise ValueError(
            "export: a memory that grows with the response is no prefix; conditionings that can be exported are "
            "prefix, slot, modulated_lora and lora_experts"
        )
    if memory.edits:
        if memory.key_values is not None or memory.tokens is not None or law.prompt.past is not None:
            raise ValueError(
                "export: a LoRA adapter holds no prompt, memory or soft tokens beside it; leave prompt= out, or fit "
                "with template=native and one conditioning"
            )
        write_lora(law.backbone, memory.edits, folder)
        return
    weights = [law.prompt.span.bias, memory.bias, None if memory.tokens is None else memory.tokens.bias]
    if any(bias is not None and bias.any() for bias in weights):
        raise ValueError(
            "export: the template has soft tokens that weigh less in attention than a token of the text, which a "
            "prefix has no place for; fit with template=native"
        )
    past = DecoderState(law.backbone, law.prompt, memory, torch.Size((1,))).context()
    start = int(law.prompt.start.position)
    write_prefix(law.backbone, moved(law.backbone, past, past.length - start), folder)
