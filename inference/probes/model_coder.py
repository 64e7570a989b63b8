"""A fitted model and its guide, as probes ask them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pyro
import torch
from pyro import poutine
from torch import Tensor, nn

from ...models import Example, LatentProgram, collate, do, generate
from ...models.backbone import BASE
from ...models.generation import in_order
from ...models.text import encode
from ..data import Data
from ..dataset import Dataset
from ..evaluation.posteriors import PARTICLES, Posteriors
from ..labels import labels_of
from .coder import Coder


class ModelCoder(Coder):
    """Decodes by the model, encodes by the guide.

    Args:
        model: the latent model.
        guide: its guide.
        test: prompts and responses.
        data: where they come from.
        seen: what model and guide say of them.
        batch_size: rows at a time.
    """

    def __init__(
        self,
        model: LatentProgram,
        guide: nn.Module,
        test: Dataset,
        data: Data,
        seen: Posteriors,
        batch_size: int,
    ) -> None:
        self.model, self.guide, self.test, self.data, self.size = model, guide, test, data, batch_size
        self.latents = dict(model.latents)
        self.draws = {n: site for n, site in (seen.draws or {}).items() if site.is_floating_point()}
        self.own = self._likeliest(seen) | {
            name: self.latents[name].nearest(site.mean(0)) for name, site in self.draws.items()
        }

    def _likeliest(self, seen: Posteriors) -> dict[str, Tensor]:
        if seen.amortized is None:
            return {n: site.mode(0).values for n, site in (seen.draws or {}).items() if n not in self.draws}
        out, z = {}, torch.arange(seen.amortized.shape[1])
        for name, latent in in_order(self.model, self.test.batch([0]).to(self.model.backbone.device)).items():
            alone = torch.zeros(len(seen.amortized), latent.num_values, dtype=seen.amortized.dtype)
            out[name] = alone.index_add(1, z % latent.num_values, seen.amortized).argmax(1)
            z = z // latent.num_values
        return out

    def decode(self, z: Mapping[str, Tensor], index: Sequence[int], temperature: float = 0.0) -> list[str]:
        out: list[str] = []
        for start in range(0, len(index), self.size):
            part = list(index[start : start + self.size])
            given = {
                n: z[n][start : start + self.size] if n in z else own[part] for n, own in self.own.items()
            }
            prompts = [self.test.examples[i] for i in part]
            with do(**given):
                found = generate(
                    self.model,
                    prompts,
                    max_new_tokens=self.data.max_new_tokens,
                    temperature=temperature,
                )
            out += [generation.text for generation in found]
        return out

    @torch.no_grad()
    def encode(self, index: Sequence[int], responses: Sequence[str]) -> dict[str, Tensor]:
        examples = [self._example(i, text) for i, text in zip(index, responses, strict=True)]
        parts = []
        for start in range(0, len(examples), self.size):
            batch = collate(examples[start : start + self.size], self.test.pad_id)
            with pyro.plate("particles", PARTICLES, dim=-2):
                trace = poutine.trace(self.guide).get_trace(batch.to(self.model.backbone.device))
            parts.append({name: trace.nodes[name]["value"].mean(0).cpu() for name in self.draws})
        return {name: torch.cat([part[name] for part in parts]) for name in self.draws}

    @torch.no_grad()
    def router(self, index: Sequence[int], draws: int) -> dict[str, Tensor]:
        parts = []
        for start in range(0, len(index), self.size):
            batch = self.test.batch(index[start : start + self.size]).to(self.model.backbone.device)
            with pyro.plate("draws", draws, dim=-2):
                trace = poutine.trace(self.model).get_trace(batch)  # the response is given, and not scored
            parts.append({name: trace.nodes[name]["value"].cpu() for name in self.latents})
        return {name: torch.cat([part[name] for part in parts], 1) for name in self.latents}

    def named(self, label: str, index: Sequence[int], responses: Sequence[str]) -> list[str] | None:
        if self.data.task is None or label not in ("strategy", "nuisance"):
            return None
        prompts = [self.test.prompts[i] for i in index]
        return labels_of(Dataset([], prompts, list(responses), self.test.pad_id), self.data, label)

    def tokens(self, text: str) -> list[int]:
        return list(self.model.backbone.tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])

    @torch.no_grad()
    def hidden(self, bins: int) -> list[np.ndarray]:
        backbone = self.model.backbone
        parts = []
        for batch in self.test.batches(self.size):
            here = batch.to(backbone.device)
            assert here.response is not None
            assert here.response_mask is not None
            ids = torch.cat([here.prompt, here.response], 1)
            mask = torch.cat([here.prompt_mask, here.response_mask], 1)
            layers = [backbone.embed(ids, BASE), *backbone.hidden_layers(BASE, ids, mask)]
            weight = _stretches(here.prompt.shape[1], here.response_mask, bins)  # (B, 1 + bins, T)
            parts.append([(weight @ layer.float()).cpu().numpy() for layer in layers])
        return [np.concatenate(layer) for layer in zip(*parts, strict=True)]

    def _example(self, i: int, response: str) -> Example:
        """The datum's prompt with another response, the end token alone where that is blank."""
        given = self.test.examples[i]
        if not response.strip():
            return Example(given.prompt, self.model.backbone.eos_ids[:1])
        return Example(given.prompt, encode(self.model.backbone, self.test.prompts[i], response).response)


def _stretches(prompt: int, response_mask: Tensor, bins: int) -> Tensor:
    """Weights ``(B, 1 + bins, T)`` of the prompt's last place, and of the places of each stretch of the response."""
    out = torch.zeros(
        len(response_mask), 1 + bins, prompt + response_mask.shape[1], device=response_mask.device
    )
    out[:, 0, prompt - 1] = 1.0
    for row, length in zip(out, response_mask.sum(1).tolist(), strict=True):
        for b in range(bins):
            first = b * length // bins
            last = max(first + 1, (b + 1) * length // bins)
            row[1 + b, prompt + first : prompt + last] = 1 / (last - first)
    return out
