"""Log-probabilities of generated responses under given values of the latents."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pyro
import torch
from pyro import poutine
from torch import Tensor

from ....models import Batch, Example, Generation, LatentProgram
from ...dataset import Dataset
from ...expectations.expectation import observed_sites, site_log_prob
from ..subject import Subject


def as_data(subject: Subject, generations: Sequence[Generation]) -> Dataset:
    """The first prompts of the subject with generated responses, as many as there are.

    Texts are made tokens again; a response that has as many as it may have was cut there, and has no end token. Where
    a tokenizer would write a text in other tokens than were drawn, those count that it writes.
    """
    backbone, examples = subject.model.backbone, []
    for generation, own in zip(generations, subject.data.examples, strict=False):
        room = min(subject.max_new_tokens, backbone.context - len(own.prompt))
        written = backbone.tokenizer(generation.text, add_special_tokens=False, verbose=False)["input_ids"]
        ids = (*written, backbone.tokenizer.eos_token_id)[:room]
        examples.append(Example(own.prompt, ids))
    texts = [generation.text for generation in generations]
    return Dataset(examples, subject.data.prompts[: len(texts)], texts, subject.data.pad_id)


@torch.no_grad()
def log_laws(
    model: LatentProgram, data: Dataset, given: Sequence[Mapping[str, Any]], batch_size: int
) -> tuple[Tensor, Tensor]:
    """``log p(y|x,z)`` and ``log p(z|x)`` of each of P values of the latents, ``(P, N)`` each, on the CPU.

    Args:
        model: the latent model.
        data: N prompts and responses.
        given: of each value the latents by name.
        batch_size: data at a time, each under all values at once.
    """
    parts = [_of_batch(model, batch.to(model.backbone.device), given) for batch in data.batches(batch_size)]
    log_lik, log_prior = (torch.cat(rows, 1) for rows in zip(*parts, strict=True))
    return log_lik, log_prior


def _of_batch(
    model: LatentProgram, batch: Batch, given: Sequence[Mapping[str, Any]]
) -> tuple[Tensor, Tensor]:
    shape = torch.Size((len(given), len(batch)))
    at = {
        name: torch.stack([torch.as_tensor(z[name]) for z in given])[:, None].to(batch.prompt.device)
        for name in model.latents
    }  # (P, 1, *event)
    with pyro.plate("values", len(given), dim=-2):
        trace = poutine.trace(poutine.condition(model, data=at)).get_trace(batch)
    log_p = {
        name: site_log_prob(name, site["fn"], site["value"], shape).double().cpu()
        for name, site in observed_sites(trace).items()
    }
    zeros = torch.zeros(shape, dtype=torch.float64)
    log_prior = sum((log_p[name] for name in at), zeros)
    log_lik = sum((rows for name, rows in log_p.items() if name not in at), zeros)
    return log_lik, log_prior
