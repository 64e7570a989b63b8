"""The cost of an objective's step against the same arithmetic written by hand in plain PyTorch.

Each row is one algorithm of ``configs/inference`` on the bundled base, 8 strategies or 8 draws: forward and backward
of a batch, ours through the Pyro programs and ``Inference``, by hand with Hugging Face's own cache, masks and
forward, and with the formula spelt out. The prompts are encoded once on both sides, and both take the frozen
readers' pooled states from the same kept tensors. Before anything is timed it is checked that both give the same
bound and the same gradients from the same random numbers.

Times are medians over runs that alternate in one process, the first of each pair changing; the bar is a ratio of 1.05.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from hydra import compose, initialize_config_module
from stratagem.guides import AmortizedGuide
from stratagem.inference.build import build_plan
from stratagem.inference.dataset import make_dataset
from stratagem.inference.fit import Step
from stratagem.models import Batch, KeyValuePrefix, LatentLM
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, one_hot
from transformers import DynamicCache

NUM = 8
"""Strategies, and draws."""
SHARE = 0.3
"""Of the fit, at which the weights of terms are read: none of them is zero there."""
BAR = 1.05

CASES: dict[str, tuple[str, ...]] = {
    "elbo": (),
    "marginal": (),
    "elbo_pathwise": ("latent@latents.z=normal", f"inference.expectation.num_particles={NUM}"),
    "iwae": ("latent@latents.z=normal", f"inference.expectation.num_particles={NUM}"),
    "iwae_dreg": ("latent@latents.z=normal", f"inference.expectation.num_particles={NUM}"),
    "elbo_rloo": (f"inference.expectation.num_particles={NUM}",),
    "iwae_vimco": (f"inference.expectation.num_particles={NUM}",),
}


class ByHand:
    """What a careful user would write for one algorithm, on the very parameters of our model and guide."""

    def __init__(self, step: Step) -> None:
        model, guide = step.model, step.guide
        assert isinstance(model, LatentLM)
        assert isinstance(guide, AmortizedGuide)
        conditioning = model.conditionings["z"]
        assert isinstance(conditioning, KeyValuePrefix)
        self.lm, self.conditioning = model.backbone.lm, conditioning
        self.router, self.posterior = model.routers["z"].reader, guide.readers["z"]
        config = self.lm.config
        self.layers, self.heads = config.num_hidden_layers, config.num_key_value_heads

    def read(self, reader: nn.Module, batch: Batch) -> Tensor:
        return reader.head((batch.features[reader.name] - reader.centre) / reader.scale)

    def log_lik(self, features: Tensor, batch: Batch) -> Tensor:
        """``log p(y|x,z)`` ``(P, B)`` of features ``(P, B or 1, F)``."""
        assert batch.response is not None
        assert batch.response_mask is not None
        lead = (features.shape[0], len(batch))
        flat = features @ self.conditioning.weight + self.conditioning.shift  # (P, B or 1, numbers)
        length = self.conditioning.length
        prefix = flat.unflatten(-1, (self.layers, 2, self.heads, length, -1))
        positions = (batch.prompt_mask.long().cumsum(-1) - 1).clamp(0)
        past = DynamicCache(config=self.lm.config)
        with torch.no_grad():
            self.lm.base_model(
                input_ids=batch.prompt[:, :-1],
                attention_mask=batch.prompt_mask[:, :-1].long(),
                position_ids=positions[:, :-1],
                past_key_values=past,
                use_cache=True,
            )
        layers = []
        for i, layer in enumerate(past.layers):
            both = [
                torch.cat(
                    [prefix[..., i, j, :, :, :].expand(*lead, -1, -1, -1), kept.expand(*lead, -1, -1, -1)], -2
                )
                for j, kept in enumerate((layer.keys, layer.values))
            ]
            layers.append(tuple(t.flatten(0, 1) for t in both))
        ids = torch.cat([batch.prompt[:, -1:], batch.response[:, :-1]], 1)
        prompt_mask = batch.prompt_mask[:, :-1].long()
        mask = torch.cat([prompt_mask.new_ones(len(batch), length), prompt_mask, torch.ones_like(ids)], 1)
        places = positions[:, -1:] + torch.arange(ids.shape[1])
        hidden = self.lm.base_model(
            input_ids=ids.repeat(lead[0], 1),
            attention_mask=mask.repeat(lead[0], 1),
            position_ids=places.repeat(lead[0], 1),
            past_key_values=DynamicCache(layers, config=self.lm.config),
            use_cache=True,
        ).last_hidden_state
        seen = batch.response_mask.repeat(lead[0], 1)
        targets = batch.response.repeat(lead[0], 1)[seen]
        logits = self.lm.lm_head(hidden[seen])
        log_p = torch.zeros(seen.shape).masked_scatter(
            seen, -cross_entropy(logits, targets, reduction="none")
        )
        return log_p.sum(-1).reshape(lead)

    def every(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """``log_lik``, ``log_prior`` and ``log_q`` of all K strategies, ``(K, B)``."""
        log_prior = self.read(self.router, batch).log_softmax(-1).T
        log_q = self.read(self.posterior, batch).log_softmax(-1).T
        return self.log_lik(torch.eye(NUM)[:, None], batch), log_prior, log_q

    def drawn(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """The same of S draws of a strategy from q, ``(S, B)``."""
        log_prior = self.read(self.router, batch).log_softmax(-1)
        log_q = self.read(self.posterior, batch).log_softmax(-1)
        probabilities = log_q.detach().exp().expand(NUM, -1, -1).flatten(0, 1)
        z = torch.multinomial(probabilities, 1, True).reshape(NUM, len(batch))
        log_lik = self.log_lik(one_hot(z, log_q.shape[-1]).float(), batch)
        prior, posterior = (
            t.expand(NUM, -1, -1).gather(-1, z[..., None])[..., 0] for t in (log_prior, log_q)
        )
        return log_lik, prior, posterior

    def gaussian(self, batch: Batch, landed: bool = False) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The same of S reparameterised draws, and the draws as the decoder read them."""
        prior, posterior = (
            (loc, log_scale.clamp(-10, 5).exp())
            for loc, log_scale in (self.read(r, batch).chunk(2, -1) for r in (self.router, self.posterior))
        )
        shape = (NUM, *posterior[0].shape)
        eps = torch.normal(torch.zeros(shape), torch.ones(shape))
        z = posterior[0] + posterior[1] * eps
        held = tuple(t.detach() for t in posterior) if landed else posterior
        log_prior, log_q = (torch.distributions.Normal(*law).log_prob(z).sum(-1) for law in (prior, held))
        return self.log_lik(z, batch), log_prior, log_q, z

    def elbo(self, batch: Batch) -> tuple[Tensor, Tensor]:
        log_lik, log_prior, log_q = self.every(batch)
        bound = (log_q.exp() * (log_lik + log_prior - log_q)).sum(0)
        return bound, bound

    def marginal(self, batch: Batch) -> tuple[Tensor, Tensor]:
        log_lik, log_prior, log_q = self.every(batch)
        log_joint = log_lik + log_prior
        bound = log_joint.logsumexp(0)
        held = log_prior.detach()
        log_post = (log_lik + held).log_softmax(0)
        post, target = log_post.exp(), log_joint.detach().log_softmax(0)
        q = log_q.detach()
        information = (post * (log_post - held)).sum(0)
        readable = (post * (log_q - held)).sum(0)
        consistency = (q.exp() * (q - log_post)).sum(0)
        forward = (target.exp() * (target - log_q)).sum(0)
        return bound, bound + 0.25 * information + 0.75 * readable - 0.5 * consistency - forward

    def elbo_pathwise(self, batch: Batch) -> tuple[Tensor, Tensor]:
        log_lik, log_prior, log_q, _ = self.gaussian(batch)
        bound = (log_lik + log_prior - log_q).mean(0)
        return bound, bound

    def iwae(self, batch: Batch) -> tuple[Tensor, Tensor]:
        log_lik, log_prior, log_q, _ = self.gaussian(batch)
        bound = (log_lik + log_prior - log_q).logsumexp(0) - torch.tensor(float(NUM)).log()
        return bound, bound

    def iwae_dreg(self, batch: Batch) -> tuple[Tensor, Tensor]:
        log_lik, log_prior, log_q, z = self.gaussian(batch, landed=True)
        log_w = log_lik + log_prior - log_q
        weight = log_w.detach().softmax(0)
        z.register_hook(lambda g: weight[..., None] * g)
        return log_w.logsumexp(0) - torch.tensor(float(NUM)).log(), (weight * log_w).sum(0)

    def elbo_rloo(self, batch: Batch) -> tuple[Tensor, Tensor]:
        log_lik, log_prior, log_q = self.drawn(batch)
        log_w = log_lik + log_prior - log_q
        others = (log_w.sum(0) - log_w) / (NUM - 1)
        bound = log_w.mean(0)
        return bound, bound + ((log_w - others).detach() * log_q).mean(0)

    def iwae_vimco(self, batch: Batch) -> tuple[Tensor, Tensor]:
        log_lik, log_prior, log_q = self.drawn(batch)
        log_w = log_lik + log_prior - log_q
        bound = log_w.logsumexp(0) - torch.tensor(float(NUM)).log()
        others = (log_w.sum(0) - log_w) / (NUM - 1)
        replaced = torch.where(torch.eye(NUM, dtype=torch.bool)[..., None], others[:, None], log_w)
        without = replaced.logsumexp(1) - torch.tensor(float(NUM)).log()
        return bound, bound + ((bound - without).detach() * log_q).sum(0)


Side = Callable[[], tuple[Tensor, Tensor]]
"""Gives the bound ``(B,)`` and the scalar that is differentiated."""


def sides(name: str, more: Sequence[str], folder: Path) -> tuple[Step, dict[str, Side]]:
    """Ours and by hand, on one batch of the bundled base's task."""
    with initialize_config_module("stratagem.configs", version_base="1.3"):
        words = [
            f"inference={name}",
            "data.num_train=64",
            "data.num_test=8",
            "device=cpu",
            f"run={folder}",
            *more,
        ]
        config = compose(
            "fit", words if "latent@latents.z=normal" in more else [*words, f"latents.z.K={NUM}"]
        )
    plan = build_plan(config, folder)
    data = make_dataset(plan.backbone, plan.data, "train", 0, folder)
    data.keep_features(plan.step.all_parts, plan.backbone.device)
    batch = data.batch(range(config.fit.batch_size))
    torch.manual_seed(1)
    with torch.no_grad():  # heads start at zero, where every strategy looks alike
        for parameter in (*plan.step.guide.parameters(), *plan.step.model.routers.parameters()):
            if parameter.requires_grad:
                parameter.normal_(0, 0.02)
    hand = ByHand(plan.step)

    def ours() -> tuple[Tensor, Tensor]:
        loss = plan.step(batch, SHARE)
        return loss.bound, loss.surrogate

    def by_hand() -> tuple[Tensor, Tensor]:
        bound, differentiated = getattr(hand, name)(batch)
        return bound.detach(), -differentiated.mean()

    return plan.step, {"ours": ours, "by hand": by_hand}


def run(step: Step, side: Side) -> tuple[Tensor, dict[str, Tensor]]:
    """Forward and backward from the same random numbers; bound and gradients."""
    step.zero_grad(set_to_none=True)
    torch.manual_seed(2)
    bound, scalar = side()
    scalar.backward()
    return bound, {n: p.grad for n, p in step.named_parameters() if p.grad is not None}


def check(step: Step, both: dict[str, Side]) -> None:
    """Bounds to 1e-4 nats, gradients to 1e-3 of the largest.

    Raises:
        AssertionError: they differ.
    """
    (ours, gradients), (hand, expected) = (run(step, side) for side in both.values())
    torch.testing.assert_close(ours, hand, rtol=1e-5, atol=1e-4)
    assert gradients.keys() == expected.keys()
    for name, gradient in expected.items():
        assert gradient.abs().max() > 0
        torch.testing.assert_close(gradients[name], gradient, rtol=0, atol=1e-3 * float(gradient.abs().max()))


def main(argv: Sequence[str] | None = None) -> int:
    """Print the table; 1 where the bar is missed, else 0."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--alternations", type=int, default=15, help="timed steps of each side")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="of torch")
    args = parser.parse_args(argv)
    torch.set_num_threads(args.threads)
    print(
        f"torch {torch.__version__}, {args.threads} threads, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}\n"
    )
    print("| inference | ours | by hand | ratio | bar |")
    print("|---|---|---|---|---|")
    met = True
    for name, more in CASES.items():
        with TemporaryDirectory() as folder:
            step, both = sides(name, more, Path(folder))
        check(step, both)
        times: dict[str, list[float]] = {side: [] for side in both}
        for turn in range(args.alternations):
            for side in list(both)[:: 1 if turn % 2 else -1]:
                begun = time.perf_counter()
                run(step, both[side])
                times[side].append(time.perf_counter() - begun)
        ours, hand = (statistics.median(times[side]) for side in both)
        met &= ours <= BAR * hand
        cells = [
            name,
            f"{ours:.3f} s",
            f"{hand:.3f} s",
            f"{ours / hand:.3f}",
            f"{BAR} ({'met' if ours <= BAR * hand else 'missed'})",
        ]
        print(f"| {' | '.join(cells)} |", flush=True)
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
