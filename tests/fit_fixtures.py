"""Small bases, data and runs for the tests of fitting, saving and the command line."""

from __future__ import annotations

import logging
import os
import random
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch
from stratagem.guides import AmortizedGuide
from stratagem.inference.dataset import Dataset, sample_base
from stratagem.inference.expectations import Enumerate
from stratagem.inference.fit import Step
from stratagem.inference.gradients import Exact
from stratagem.inference.inference import Inference
from stratagem.inference.objectives import MarginalLikelihood
from stratagem.inference.terms import ForwardKL, MutualInformation
from stratagem.models import Backbone, Categorical, KeyValuePrefix, LatentLM, PooledRouter
from stratagem.models.backbone import Role
from stratagem.models.backbone.scratch import new_causal_lm, symbol_tokenizer
from stratagem.models.text import decode, encode
from stratagem.tasks import Sorting

CONTEXT = 48
WORDS = ("a", "b", "c", "d", "e", "f")
PROMPT = "sort 3 1 4 1 5 :"
THREE = ("latents.z.K=3", "conditioning.init_scale=3")  # strategies far apart


@dataclass
class Said:
    """What a command left behind: its exit status and its words."""

    status: int
    out: str

    @property
    def lines(self) -> list[str]:
        return self.out.strip().splitlines()


Command = Callable[..., Said]


def tiny_backbone(
    roles: Mapping[str, Role] | None = None,
    words: Sequence[str] = WORDS,
    seed: int = 0,
    dtype: torch.dtype = torch.float32,
    name: str = "tiny",
) -> Backbone:
    """A Llama of 2 layers, 16 wide, whose random weights make a law that is neither flat nor sharp."""
    tokenizer = symbol_tokenizer(words, CONTEXT)
    lm = new_causal_lm(tokenizer, hidden=16, layers=2, heads=2, context=CONTEXT).to(dtype)
    numbers = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in lm.parameters():
            if weight.dim() > 1:
                weight.copy_(0.35 * torch.randn(weight.shape, generator=numbers))
    return Backbone(lm, tokenizer, roles, name)


def save_tiny_base(folder: Path, words: Sequence[str] = Sorting().vocabulary, seed: int = 0) -> Path:
    """The same in a folder in Hugging Face format, over the symbols of the sorting task."""
    tiny_backbone(words=words, seed=seed).save_base(folder)
    return folder


def tiny_prompts(num: int, words: Sequence[str] = WORDS, seed: int = 0) -> list[str]:
    """Distinct prompts of 2 to 4 words."""
    rng = random.Random(seed)
    found: dict[str, None] = {}
    while len(found) < num:
        found[" ".join(rng.choices(words, k=rng.randint(2, 4)))] = None
    return list(found)


def tiny_data(backbone: Backbone, num: int, seed: int = 0, length: int = 6) -> Dataset:
    """Prompts with responses drawn from the base."""
    prompts = tiny_prompts(num, seed=seed)
    examples = [encode(backbone, prompt) for prompt in prompts]
    ids = sample_base(backbone, examples, length, seed)
    return Dataset(
        [replace(example, response=row) for example, row in zip(examples, ids, strict=True)],
        prompts,
        [decode(backbone, row) for row in ids],
        backbone.pad_id,
    )


def marginal(**terms: float) -> Inference:
    """The first recipe: exact marginal, information, forward KL; weights by name, 1 where not given."""
    return Inference(
        MarginalLikelihood(),
        Enumerate(),
        Exact(),
        {
            "information": MutualInformation(terms.get("information", 1.0)),
            "guide": ForwardKL(terms.get("guide", 1.0)),
        },
    )


def tiny_step(backbone: Backbone, K: int = 3, init_scale: float = 1.0, seed: int = 0) -> Step:
    """Model and guide under the first recipe, the same weights for the same seed."""
    torch.manual_seed(seed)
    entry = partial(KeyValuePrefix, length=2, init_scale=init_scale)
    model = LatentLM(backbone, {"z": Categorical(K)}, PooledRouter, entry)
    step = Step(model, AmortizedGuide(model), marginal())
    return step.double() if backbone.dtype == torch.float64 else step


def tiny_fit(base: Path, run: Path, *more: str) -> list[str]:
    """The words of a command line that fits a tiny base in about a second."""
    return [
        "fit",
        f"lm={base}",
        f"run={run}",
        "device=cpu",
        "conditioning.length=2",
        "data.num_train=48",
        "data.responses_per_prompt=1",
        "data.num_test=16",
        "data.max_new_tokens=8",
        "fit.steps=12",
        "fit.batch_size=8",
        "fit.eval_every=4",
        "fit.progress=false",
        *more,
    ]


@contextmanager
def stratagem_process(words: Sequence[str], **settings: str) -> Iterator[subprocess.Popen[str]]:
    """The installed command in a process of its own, on one thread; killed at the end if it still runs."""
    environment = os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"} | settings
    command = [str(Path(sys.executable).with_name("stratagem")), *words]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment
    ) as process:
        try:
            yield process
        finally:
            process.kill()


@contextmanager
def own_logging() -> Iterator[None]:
    """Undoes what a command's logging configuration does to the root logger, and closes its files."""
    root = logging.getLogger()
    before, level = list(root.handlers), root.level
    try:
        yield
    finally:
        for handler in root.handlers:
            if handler not in before:
                handler.close()
        root.handlers[:], root.level = before, level
