"""Whether z stays as it is where the prompt is put in other words."""

from __future__ import annotations

from dataclasses import replace

import torch

from ....models.text import encode
from ...dataset import Dataset
from ...evaluation.statistics import mean_se, named
from ...evaluation.values import Values
from ..subject import Subject
from .forcing import given
from .scoring import log_laws


def paraphrased(subject: Subject, chosen: Values) -> dict[str, float]:
    """One less the total variation distance between ``p(z|x,y)`` and ``p(z|x',y)``, x' being x in other words.

    By chance: the same between the posteriors of different prompts. Empty without paraphrases of the data's prompts,
    and where z is not enumerable.
    """
    prompts, words = subject.data.prompts, subject.paraphrases
    where = [n for n, prompt in enumerate(prompts) if prompt in words]
    if not where or subject.seen.posterior is None:
        return {}
    examples = [
        replace(encode(subject.model.backbone, words[prompts[n]]), response=subject.data.examples[n].response)
        for n in where
    ]
    data = Dataset(
        examples,
        [words[prompts[n]] for n in where],
        [subject.data.responses[n] for n in where],
        subject.data.pad_id,
    )
    at = given(chosen, subject.forced)
    log_lik, log_prior = log_laws(subject.model, data, at, subject.batch_size)
    posterior = (log_lik + log_prior).softmax(0).T  # (n, P)
    agreement = 1 - torch.cdist(subject.seen.posterior[where].double(), posterior, p=1) / 2  # (n, n)
    same = agreement.diagonal()
    out = named("stability/paraphrase", mean_se(same))
    if len(where) > 1:
        others = float((agreement.sum() - same.sum()) / (len(where) * (len(where) - 1)))
        out["stability/paraphrase_chance"] = others
    return out
