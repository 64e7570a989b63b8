"""Token ids of a split, batches of it by step, and what frozen roles compute for it once."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from ..models import Backbone, Batch, Example, LanguageModel, Reader, annotate, collate, encode_prompt
from ..models.backbone import BASE
from ..models.pretrained import write_atomic
from ..models.text import check_length, decode, encode, shorten, trim
from ..tasks import Split
from .data import Data
from .randomness import seeded
from .response_cache import fetch, keep

log = logging.getLogger(__name__)

APART: dict[Split, int] = {"train": 1_000_003, "test": 2_000_003}
"""Added to the seed where all data have one prompt: what is drawn for a split is then told from others by its seed."""


@dataclass
class Dataset:
    """Examples in order, with their texts.

    Attributes:
        examples: token ids.
        prompts: texts of the prompts.
        responses: texts of the responses.
        pad_id: filler of padded places.
        features: ``(N, ...)`` tensors of what frozen roles computed, by the reader's name.
    """

    examples: list[Example]
    prompts: list[str]
    responses: list[str]
    pad_id: int
    features: dict[str, Tensor] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.examples)

    def batch(self, index: Sequence[int]) -> Batch:
        """The batch of the data at ``index``."""
        batch = collate([self.examples[i] for i in index], self.pad_id, index)
        return replace(batch, features={k: v[list(index)] for k, v in self.features.items()})

    def batches(self, size: int) -> Iterator[Batch]:
        """All data in order."""
        for start in range(0, len(self), size):
            yield self.batch(range(start, min(start + size, len(self))))

    def index_at(self, step: int, size: int, seed: int) -> list[int]:
        """The ``size`` data of a step: a new order each epoch, a function of step and seed alone."""
        chosen: list[int] = []
        place = step * size
        while len(chosen) < size:
            epoch, offset = divmod(place + len(chosen), len(self))
            order = torch.randperm(
                len(self), generator=torch.Generator().manual_seed(seed * 1_000_003 + epoch)
            )
            chosen += order[offset : offset + size - len(chosen)].tolist()
        return chosen

    def keep_features(self, modules: Mapping[str, nn.Module], device: torch.device, size: int = 64) -> None:
        """Compute once what the frozen readers in ``modules`` would pool anew at every step."""
        for reader in readers(modules):
            if reader.name is not None:
                self.features[reader.name] = self.pooled(reader, device, size)

    @torch.no_grad()
    def pooled(self, reader: Reader, device: torch.device, size: int = 64) -> Tensor:
        """What a reader pools of each datum, ``(N, reader size)``; as it was kept, where it was.

        What it reads alike is read once, and what is of one length together.
        """
        if reader.name in self.features:
            return self.features[reader.name]
        read = [reader.reads(example) for example in self.examples]
        place = {example: i for i, example in enumerate(read)}
        order = sorted(place, key=lambda example: len(example.prompt) + len(example.response))
        parts = [
            reader.features(
                self.batch([place[example] for example in order[start : start + size]]).to(device)
            )
            for start in range(0, len(order), size)
        ]
        row = {example: n for n, example in enumerate(order)}
        return torch.cat([part.cpu() for part in parts])[[row[example] for example in read]]


def readers(modules: Mapping[str, nn.Module]) -> list[Reader]:
    """The readers in ``modules``, each once."""
    return [m for m in nn.ModuleDict(modules).modules() if isinstance(m, Reader)]


@torch.no_grad()
def standardise(
    modules: Mapping[str, nn.Module], data: Dataset, device: torch.device, size: int = 512
) -> None:
    """Standardise the inputs of every reader's head over the first ``size`` data."""
    parts = [
        data.batch(range(i, min(i + 64, size, len(data)))).to(device)
        for i in range(0, min(size, len(data)), 64)
    ]
    for reader in readers(modules):
        reader.standardise(torch.cat([reader.features(batch) for batch in parts]))


def make_dataset(
    backbone: Backbone, data: Data, split: Split, seed: int, cache: Path, shared: Path | None = None
) -> Dataset:
    """The examples of a split; responses that the base is to give are sampled once and kept in ``cache``.

    Args:
        backbone: the LM.
        data: prompts, and responses where they are given.
        split: which part.
        seed: of the draws.
        cache: folder of this run.
        shared: folder of all runs, looked into before anything is sampled.

    Raises:
        ValueError: an example that is empty, or too long where ``data.truncate`` is off.
    """
    texts = data.texts(split, seed)
    examples, cut = [], 0
    given = texts.annotations or [None] * len(texts.prompts)
    for prompt, response, labels in zip(texts.prompts, texts.responses, given, strict=True):
        example = encode(backbone, prompt, response)
        reserve = data.max_new_tokens if response is None else 0
        if data.truncate:
            shorter = truncate(backbone, example, reserve)
            cut += shorter != example
            example = shorter
        try:
            check_length(backbone, example, reserve)
            if response is not None and labels is not None:
                example = annotate(backbone, example, response, labels, data.annotations)
        except ValueError as error:
            raise ValueError(f"prompt {shorten(prompt)!r}: {error}") from None
        examples.append(example)
    if cut:
        log.warning(
            "%s of %s %s examples were cut to the context of %s tokens",
            cut,
            len(examples),
            split,
            backbone.context,
        )
    missing = [i for i, response in enumerate(texts.responses) if response is None]
    if missing:
        asked = [examples[i] for i in missing]
        own = seed + APART[split] if len(set(asked)) == 1 else seed
        path = cache_path(cache, split, backbone, asked, data.max_new_tokens, own)
        fetch(path, shared)
        sampled = sample_base(backbone, asked, data.max_new_tokens, own, path)
        keep(path, shared)
        for i, ids in zip(missing, sampled, strict=True):
            examples[i] = replace(examples[i], response=ids)
    responses = [decode(backbone, example.response) for example in examples]
    return Dataset(examples, texts.prompts, responses, backbone.pad_id)


def truncate(backbone: Backbone, example: Example, reserve: int) -> Example:
    """Cut to the context: the response at its tail, to at most half of it, then the prompt at its head."""
    half = backbone.context // 2
    response = example.response
    if len(example.prompt) + len(response) > backbone.context:
        response = response[: max(half, backbone.context - len(example.prompt))]
    room = backbone.context - max(reserve, len(response))
    if len(example.prompt) <= room:
        return replace(example, response=response)
    starts = example.prompt[:1] if example.prompt[0] == backbone.bos_id else ()
    return Example((*starts, *example.prompt[len(example.prompt) - room + len(starts) :]), response)


def sample_base(
    backbone: Backbone, examples: Sequence[Example], max_new_tokens: int, seed: int, cache: Path | None = None
) -> list[tuple[int, ...]]:
    """Responses ``y ~ p0(y|x)`` to each prompt, end tokens included; the same for the same seed.

    Args:
        backbone: the LM.
        examples: the prompts.
        max_new_tokens: a response that is longer is cut there.
        seed: of the draws; the global generator is left as it was.
        cache: a file to keep them in, and to read them from when it is there.
    """
    if cache is not None and cache.is_file():
        return [tuple(json.loads(line)["response_ids"]) for line in cache.read_text().splitlines()]
    out: list[tuple[int, ...]] = []
    with seeded(seed, backbone.device), torch.no_grad():
        for start in range(0, len(examples), 256):
            batch = collate([Example(e.prompt) for e in examples[start : start + 256]], backbone.pad_id)
            batch = batch.to(backbone.device)
            prompt = encode_prompt(backbone, BASE, batch.prompt, batch.prompt_mask)
            ids = LanguageModel(backbone, prompt, max_length=max_new_tokens).sample()
            out += [trim(backbone, row) for row in ids.tolist()]
    if cache is not None:
        lines = (
            json.dumps(
                {
                    "prompt": backbone.tokenizer.decode(e.prompt),
                    "response": decode(backbone, ids),
                    "response_ids": ids,
                }
            )
            for e, ids in zip(examples, out, strict=True)
        )
        write_atomic(cache, "".join(line + "\n" for line in lines).encode())
    return out


def cache_path(
    folder: Path, name: str, backbone: Backbone, examples: Sequence[Example], max_new_tokens: int, seed: int
) -> Path:
    """A file for what :func:`sample_base` gives for this LM, these prompts, this length and this seed."""
    law = [backbone.fingerprint, str(backbone.dtype), backbone.eos_ids]
    about = [*law, [e.prompt for e in examples], max_new_tokens, seed]
    return folder / f"{name}-{hashlib.sha256(json.dumps(about).encode()).hexdigest()[:12]}.jsonl"
