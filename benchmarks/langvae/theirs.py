"""LangVAE's side, run by the Python of its own environment; by its own trainer, as its README does."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from langvae import LangVAE
from langvae.data_conversion.tokenization import TokenizedDataSet
from langvae.decoders.sentence import SentenceDecoder
from langvae.encoders import SentenceEncoder
from langvae.pipelines import LanguageTrainingPipeline
from langvae.trainers import CyclicalScheduleKLThresholdTrainerConfig
from pythae.models.vae import VAEConfig
from pythae.trainers.training_callbacks import TrainingCallback
from rounds import Rounds
from torch import Tensor

END = "<|endoftext|>"


def build(lm: str, encoder: str, latent: int, length: int, keep: bool) -> LangVAE:
    """The model of LangVAE's README; ``keep`` is its ``caching`` of what the frozen encoder says."""
    decoder = SentenceDecoder(lm, latent, length)
    reader = SentenceEncoder(encoder, latent, decoder.tokenizer, caching=keep)
    return LangVAE(VAEConfig(latent_dim=latent), reader, decoder)


class Timed(TrainingCallback):
    """Tells the steps of its trainer to the rounds."""

    def __init__(self, rounds: Rounds) -> None:
        self.rounds = rounds

    def on_train_step_begin(self, *_: object, **__: object) -> None:
        self.rounds.begin()

    def on_train_step_end(self, *_: object, **__: object) -> None:
        self.rounds.end()


class Forced:
    """A causal LM that reads other tokens than it is given, for a decoder that would feed back its own argmax.

    LangVAE has no pass over given tokens. Under this its decoder runs as it is, with its own memory, while the LM
    reads ``next_token(step, logits before)`` at each step; what it says is kept in :attr:`log_p`.

    Args:
        lm: the LM.
        next_token: ids ``(B,)`` to read, of a step and the log-probabilities ``(B, V)`` of the one before.
    """

    def __init__(self, lm: torch.nn.Module, next_token: Callable[[int, Tensor], Tensor]) -> None:
        self.lm, self.next_token = lm, next_token
        self.log_p: list[Tensor] = []

    def __getattr__(self, name: str) -> object:
        return getattr(self.lm, name)

    def to(self, *_: object) -> Forced:
        return self

    def __call__(self, input_ids: Tensor, **settings: object) -> object:
        if self.log_p:
            input_ids = self.next_token(len(self.log_p) - 1, self.log_p[-1])[:, None]
        said = self.lm(input_ids=input_ids, **settings)
        self.log_p.append(said.logits[:, -1].float().log_softmax(-1))
        return said


def told(model: LangVAE, z: Tensor, length: int, next_token: Callable[[int, Tensor], Tensor]) -> list[Tensor]:
    """Log-probabilities ``(B, V)`` of each of ``length`` tokens, where the LM reads what it is told."""
    own = model.decoder.decoder
    model.decoder._decoder[0] = Forced(own, next_token)
    try:
        model.decoder(z, max_len=length)
        return model.decoder.decoder.log_p
    finally:
        model.decoder._decoder[0] = own


def log_lik(model: LangVAE, z: Tensor, ids: Tensor, mask: Tensor) -> Tensor:
    """``log p(y|z)`` of tokens ``(B, T)``, by its decoder fed with them: nats, ``(B,)``."""
    log_p = told(model, z, ids.shape[1], lambda step, _: ids[:, step])
    each = torch.stack([p.gather(1, ids[:, t : t + 1])[:, 0] for t, p in enumerate(log_p)], 1)
    return (each * mask).sum(1)


def sampled(model: LangVAE, z: Tensor, length: int) -> Tensor:
    """Token ids ``(B, T)`` drawn from its decoder, each given those before."""
    drawn: list[Tensor] = []

    def draw(_: int, log_p: Tensor) -> Tensor:
        drawn.append(torch.multinomial(log_p.exp(), 1)[:, 0])
        return drawn[-1]

    draw(0, told(model, z, length, draw)[-1])
    return torch.stack(drawn, 1)


def texts_of(model: LangVAE, ids: Tensor) -> list[str]:
    """Of token ids, up to the first end token."""
    tokenizer = model.decoder.tokenizer
    ends = (ids == tokenizer.eos_token_id).long().cumsum(1)
    return [tokenizer.decode(row[end == 0].tolist()).strip() for row, end in zip(ids, ends, strict=True)]


def in_parts(texts: list[str], size: int) -> list[list[int]]:
    """Places of texts, of about one length in each part."""
    order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
    return [order[i : i + size] for i in range(0, len(order), size)]


def train(model: LangVAE, texts: list[str], epochs: int, folder: Path) -> LangVAE:
    """Its README's training, over the texts by falling length; the model that it keeps."""
    data = TokenizedDataSet(
        sorted((text + END for text in texts), key=len, reverse=True),
        model.decoder.tokenizer,
        model.decoder.max_len,
        caching=True,
    )
    settings = CyclicalScheduleKLThresholdTrainerConfig(
        output_dir=str(folder / "out"),
        num_epochs=epochs,
        learning_rate=1e-3,
        per_device_train_batch_size=50,
        optimizer_cls="AdamW",
        scheduler_cls="ReduceLROnPlateau",
        scheduler_params={"patience": 5, "factor": 0.5},
        max_beta=1.0,
        n_cycles=max(1, round(0.8 * epochs)),
        target_kl=2.0,
        keep_best_on_train=True,
    )
    pipeline = LanguageTrainingPipeline(training_config=settings, model=model)
    pipeline(train_data=data)
    kept = pipeline.trainer._best_model
    assert isinstance(kept, LangVAE)
    return kept.eval()


def quality(
    folder: Path, encoder: str, budget: float, latent: int, longest: int, draws: int, number: int
) -> None:
    """Train for a budget of CPU seconds, then write what the figures are made of: ``theirs.npz``, ``theirs.json``."""
    given = json.loads((folder / "texts.json").read_text())
    lm, texts, test = str(folder / "lm"), given["train"], given["test"]
    some = [i for part in in_parts(texts, 50)[::16] for i in part]
    begun = time.process_time()
    train(build(lm, encoder, latent, longest, True), [texts[i] for i in some], 1, folder)
    once = time.process_time() - begun
    epochs = max(1, round(budget / (once * len(texts) / len(some))))
    torch.manual_seed(0)
    begun = time.process_time()
    model = train(build(lm, encoder, latent, longest, True), texts, epochs, folder)
    spent = time.process_time() - begun
    print(f"LangVAE: {epochs} epochs, {spent:.0f} CPU seconds", flush=True)
    with torch.no_grad():
        measure(model, test, folder, longest, draws, number, {"seconds": spent, "epochs": epochs})


def measure(
    model: LangVAE,
    test: list[str],
    folder: Path,
    longest: int,
    draws: int,
    number: int,
    about: dict[str, float],
) -> None:
    """Write the arrays and texts that the figures are made of."""
    tokenizer = model.decoder.tokenizer
    rows = tokenizer([text + END for text in test])["input_ids"]
    end, latent = tokenizer.eos_token_id, model.decoder.latent_size
    normal = torch.distributions.Normal(torch.zeros(latent), torch.ones(latent))
    arrays = {name: np.zeros((draws, len(test))) for name in ("log_lik", "log_prior", "log_q")}
    arrays |= {name: np.zeros((len(test), latent)) for name in ("z", "mean", "scale")}
    said = [""] * len(test)
    for part in in_parts(test, 8):
        width = max(len(rows[i]) for i in part)
        ids = torch.tensor([[*rows[i], *[end] * (width - len(rows[i]))] for i in part])
        mask = torch.arange(width) < torch.tensor([[len(rows[i])] for i in part])
        found = model.encoder(ids)
        law = torch.distributions.Normal(found.embedding, (0.5 * found.log_covariance).exp())
        z = law.sample((draws,))
        flat = log_lik(model, z.flatten(0, 1), ids.repeat(draws, 1), mask.repeat(draws, 1))
        arrays["log_lik"][:, part] = flat.view(draws, -1)
        arrays["log_prior"][:, part] = normal.log_prob(z).sum(-1)
        arrays["log_q"][:, part] = law.log_prob(z).sum(-1)
        arrays["z"][part], arrays["mean"][part], arrays["scale"][part] = z[0], law.loc, law.scale
        best = model.decoder(law.loc, max_len=longest)["reconstruction"].argmax(-1)
        for i, text in zip(part, texts_of(model, best), strict=True):
            said[i] = text
    np.savez(folder / "theirs.npz", **arrays)
    z = normal.sample((number,))
    argmax = model.decoder(z, max_len=longest)["reconstruction"].argmax(-1)
    texts = {"reconstructions": said, "argmax": texts_of(model, argmax)}
    texts["sampled"] = texts_of(model, sampled(model, z, longest))
    (folder / "theirs.json").write_text(json.dumps(texts | about))


def speed(folder: Path, length: int, keep: bool) -> None:
    """Steps of its trainer on the texts of a folder, round by round."""
    model = build(str(folder / "gpt2"), str(folder / "bert"), 64, length, keep)
    texts = [text + END for text in json.loads((folder / "texts.json").read_text())["texts"]]
    data = TokenizedDataSet(texts, model.decoder.tokenizer, length, caching=True)
    settings = CyclicalScheduleKLThresholdTrainerConfig(
        output_dir=str(folder / "out"),
        num_epochs=1000,
        learning_rate=1e-3,
        per_device_train_batch_size=50,
        optimizer_cls="AdamW",
        max_beta=1.0,
        n_cycles=800,
        target_kl=2.0,
        keep_best_on_train=True,
    )
    pipeline = LanguageTrainingPipeline(training_config=settings, model=model)
    pipeline(train_data=data, callbacks=[Timed(Rounds())])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    of_speed = commands.add_parser("speed")
    of_speed.add_argument("folder", type=Path)
    of_speed.add_argument("length", type=int)
    of_speed.add_argument("--fresh", action="store_true", help="run the encoder at each step")
    of_quality = commands.add_parser("quality")
    of_quality.add_argument("folder", type=Path)
    of_quality.add_argument("encoder")
    of_quality.add_argument("--budget", type=float, required=True, help="CPU seconds of the training")
    for name in ("latent", "longest", "draws", "number"):
        of_quality.add_argument(f"--{name}", type=int, required=True)
    args = parser.parse_args()
    torch.set_num_threads(2)
    if args.command == "speed":
        speed(args.folder, args.length, not args.fresh)
    else:
        quality(args.folder, args.encoder, args.budget, args.latent, args.longest, args.draws, args.number)


if __name__ == "__main__":
    main()
