"""Latent programs whose laws are written down, on a backbone that lends its tokens, for the tests of the diagnosis."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import pyro
import pyro.distributions as dist
import torch
from pyro.distributions import TorchDistribution
from stratagem.inference.dataset import Dataset
from stratagem.inference.diagnosis import Subject
from stratagem.inference.evaluation import posteriors
from stratagem.models import Backbone, Batch, Categorical, Example, LanguageModel, Latent, Normal
from stratagem.models.language_model import Warp
from stratagem.models.text import decode, encode, trim
from stratagem.tasks import Task
from torch import Tensor, nn

from .fit_fixtures import tiny_backbone

WORDS = tuple("abcdefghijkl")
LENGTH = 8
"""Words of a response, before its end token."""


class TokenLaw(LanguageModel):
    """A mixture of M laws of independent tokens.

    Args:
        backbone: whose tokens they are.
        log_p: ``(M, *batch, B, T, V)`` log-probabilities of each token.
        log_w: ``(M, *batch, B)`` log-weights.
        mask: ``(B, T)`` of the observed value.
        warp: of the tokens that are drawn.
    """

    def __init__(
        self,
        backbone: Backbone,
        log_p: Tensor,
        log_w: Tensor,
        mask: Tensor | None = None,
        warp: Warp | None = None,
    ) -> None:
        self.backbone, self.log_p, self.log_w = backbone, log_p, log_w
        self.mask_of_value, self.warp = mask, warp
        shape = torch.broadcast_shapes(log_p.shape[1:-2], log_w.shape[1:])
        TorchDistribution.__init__(self, shape, torch.Size((log_p.shape[-2],)), validate_args=False)

    def expand(self, batch_shape: torch.Size, _instance: LanguageModel | None = None) -> LanguageModel:
        assert _instance is None
        shape = torch.broadcast_shapes(batch_shape, self.batch_shape)
        modes, (length, vocabulary) = len(self.log_w), self.log_p.shape[-2:]
        more = (1,) * (len(shape) - len(self.batch_shape))
        log_p = self.log_p.reshape(modes, *more, *self.log_p.shape[1:])
        log_w = self.log_w.reshape(modes, *more, *self.log_w.shape[1:])
        return TokenLaw(
            self.backbone,
            log_p.expand(modes, *shape, length, vocabulary),
            log_w.expand(modes, *shape),
            self.mask_of_value,
            self.warp,
        )

    def token_log_probs(self, value: Tensor) -> Tensor:
        length = value.shape[-1]
        shape = torch.broadcast_shapes(self.batch_shape, value.shape[:-1])
        rows = value.expand(*shape, length)
        log_p = self.log_p[..., :length, :].expand(len(self.log_w), *shape, length, -1)
        each = log_p.gather(-1, rows.expand(len(self.log_w), *shape, length)[..., None])[..., 0]
        each = each.masked_fill(~self.mask_of(rows), 0.0)
        joint = torch.cat([torch.zeros_like(each[..., :1]), each.cumsum(-1)], -1)
        return (self.log_w.log_softmax(0)[..., None] + joint).logsumexp(0).diff(dim=-1)

    @torch.no_grad()
    def sample(self, sample_shape: torch.Size | tuple[int, ...] = ()) -> Tensor:
        shape = torch.Size(sample_shape) + self.batch_shape
        log_w = self.log_w.expand(len(self.log_w), *shape)
        ids = []
        for log_p in self.log_p.expand(len(self.log_w), *shape, *self.log_p.shape[-2:]).unbind(-2):
            logits = (log_w[..., None] + log_p).logsumexp(0)
            ids.append(dist.Categorical(logits=self.warp(logits) if self.warp else logits).sample())
            log_w = log_w + log_p.gather(-1, ids[-1].expand(log_w.shape)[..., None])[..., 0]
        drawn = torch.stack(ids, -1)
        ends = torch.isin(drawn, torch.tensor(self.backbone.eos_ids)).long()
        return drawn.masked_fill(ends.cumsum(-1) - ends > 0, self.backbone.pad_id)


Laws = tuple[Tensor, Tensor]
"""``(M, *batch, B, T, V)`` log-probabilities of tokens, and ``(M, *batch, B)`` log-weights."""

Speak = Callable[["Program", Batch, Mapping[str, Tensor]], Laws]
Route = Callable[["Program", Batch, Mapping[str, Tensor]], Tensor]
"""Parameters of a site's law, ``(*batch, B, num_parameters)``, from the prompts and the sites before it."""


def reference(_: Program, batch: Batch, __: Mapping[str, Tensor]) -> Tensor:
    """Zeros: the reference law of any latent."""
    return torch.zeros(len(batch), 1)


@dataclass(eq=False)
class Site:
    """A latent and its law."""

    latent: Latent
    route: Route = reference

    def law(self, program: Program, batch: Batch, z: Mapping[str, Tensor]) -> TorchDistribution:
        found = self.route(program, batch, z)
        return self.latent.law(found.expand(*found.shape[:-1], self.latent.num_parameters))

    @property
    def points(self) -> Tensor:
        """``(G, *event)``: every value, or a grid that stands for the values of a standard normal."""
        if isinstance(self.latent, Categorical):
            return torch.arange(self.latent.K)
        assert isinstance(self.latent, Normal)
        axis = torch.linspace(-3, 3, 15)
        return torch.cartesian_prod(*[axis] * self.latent.D).reshape(-1, self.latent.D)


class Program(nn.Module):
    """``z_i ~ p(z_i|x,z_<i)``, ``y ~ p(y|x,z)``; the base is the marginal of it, or of another.

    Args:
        sites: by name, in order.
        speak: the law of a response.
        base: the program whose marginal is the base law; this one where not given.
        words: of the backbone.
    """

    latents: Mapping[str, Latent]
    backbone: Backbone

    def __init__(
        self,
        sites: Mapping[str, Site],
        speak: Speak,
        base: Program | None = None,
        words: Sequence[str] = WORDS,
    ) -> None:
        super().__init__()
        self.backbone = tiny_backbone(words=words)
        self.sites, self.speak, self.other = sites, speak, [base]
        self.latents = {name: site.latent for name, site in sites.items()}

    def key(self, batch: Batch, modulus: int) -> Tensor:
        """``(B,)``: a number from 0 that the prompt has, at random."""
        return (batch.prompt * batch.prompt_mask * 7).sum(1) // 3 % modulus

    def tokens(self, words: Tensor) -> Tensor:
        """Log-probabilities ``(*, T + 1, V)`` of T words of probabilities ``(*, T, W)``, and then the end token."""
        first = self.backbone.tokenizer.convert_tokens_to_ids(WORDS[0])
        end = nn.functional.one_hot(torch.tensor(self.backbone.eos_ids[0]), self.backbone.vocab_size)
        padded = nn.functional.pad(words, (first, self.backbone.vocab_size - first - words.shape[-1]))
        whole = torch.cat([padded, end.to(padded).expand(*padded.shape[:-2], 1, -1)], -2)
        return whole.clamp(min=1e-12).log()

    def grid(self) -> dict[str, Tensor]:
        """Points of each site, ``(G_i, 1, ..., 1, *event)``, that broadcast to ``(G_n, ..., G_1, 1)``."""
        return {
            name: site.points.reshape(len(site.points), *(1,) * (i + 1), *site.points.shape[1:])
            for i, (name, site) in enumerate(self.sites.items())
        }

    def log_prior(self, batch: Batch) -> Tensor:
        """``log p(z|x)`` on the grid, ``(G_n, ..., G_1, B)``, a normal's normalised over its points."""
        out, z = torch.zeros(len(batch)), self.grid()
        for i, (name, site) in enumerate(self.sites.items()):
            found = site.law(self, batch, z).log_prob(z[name])
            out = out + found.log_softmax(-2 - i)
        return out

    def decoder(self, batch: Batch, z: Mapping[str, Tensor], warp: Warp | None = None) -> TokenLaw:
        """``p(y|x,z)``."""
        return TokenLaw(self.backbone, *self.speak(self, batch, z), batch.response_mask, warp)

    def log_joint(self, batch: Batch) -> Tensor:
        """``log p(z, y|x)`` on the grid, ``(G_n, ..., G_1, B)``."""
        return self.log_prior(batch) + self.decoder(batch, self.grid()).log_prob(batch.response)

    def base(self, batch: Batch, warp: Warp | None = None) -> TokenLaw:
        """The base law."""
        whole = self.other[0] or self
        log_prior = whole.log_prior(batch)
        log_p, log_w = whole.speak(whole, batch, whole.grid())
        log_p = log_p.expand(len(log_w), *log_prior.shape, *log_p.shape[-2:]).flatten(0, -4)
        return TokenLaw(self.backbone, log_p, (log_w + log_prior).flatten(0, -2), batch.response_mask, warp)

    def forward(self, batch: Batch) -> Tensor:
        z: dict[str, Tensor] = {}
        with pyro.plate("data", len(batch), dim=-1):
            for name, site in self.sites.items():
                z[name] = pyro.sample(name, site.law(self, batch, z))
            return pyro.sample("y", self.decoder(batch, z), obs=batch.response)


class Bayes(nn.Module):
    """The posterior of a program on its grid; a normal site by the moments of its grid, given the strategies before it.

    Args:
        program: the program.
        flat: share of the uniform law that a categorical site's posterior is mixed with.
        narrow: factor on the standard deviations of normal sites.
        blind: whether normal sites keep their prior.
        half: whether they leave out all values whose first coordinate is negative.
    """

    def __init__(
        self,
        program: Program,
        flat: float = 0.0,
        narrow: float = 1.0,
        blind: bool = False,
        half: bool = False,
    ) -> None:
        super().__init__()
        self.program, self.flat, self.narrow, self.blind, self.half = [program], flat, narrow, blind, half

    def forward(self, batch: Batch) -> None:
        program = self.program[0]
        table = program.log_joint(batch)
        data, chosen = torch.arange(len(batch)), {}
        with pyro.plate("data", len(batch), dim=-1):
            for i, (name, site) in enumerate(program.sites.items()):
                kept = [len(program.sites) - 1 - j for j in (i, *reversed(chosen))]
                gone = [axis for axis in range(table.dim() - 1) if axis not in kept]
                log_q = table.logsumexp(gone) if gone else table  # (G_i, earlier strategies, B)
                log_q = log_q.movedim(0, -1)[(*reversed(chosen.values()), data)].log_softmax(-1)
                if isinstance(site.latent, Categorical):
                    q = (1 - self.flat) * log_q.exp() + self.flat / site.latent.K
                    chosen[i] = pyro.sample(name, dist.Categorical(q))
                else:
                    pyro.sample(name, self._moments(log_q.exp(), site))

    def _moments(self, q: Tensor, site: Site) -> TorchDistribution:
        if self.half:
            q = q * (site.points[:, 0] > 0)
            q = q / q.sum(-1, keepdim=True)
        mean = q @ site.points
        deviation = (q @ site.points**2 - mean**2).clamp(min=1e-4).sqrt()
        if self.blind:
            mean, deviation = torch.zeros_like(mean), torch.ones_like(deviation)
        return dist.Normal(mean, self.narrow * deviation).to_event(1)


def prompts(num: int, seed: int = 0) -> list[str]:
    """Distinct prompts of three words."""
    rng, found = random.Random(seed), dict[str, None]()
    while len(found) < num:
        found[" ".join(rng.choices(WORDS, k=3))] = None
    return list(found)


def subject_of(
    program: Program,
    guide: nn.Module | None = None,
    num: int = 120,
    seed: int = 0,
    task: Task | None = None,
    length: int = LENGTH + 1,
) -> Subject:
    """A program and its posterior, or another guide, on responses that are drawn from its base."""
    backbone = program.backbone
    texts = prompts(num, seed) if task is None else task.prompts(num, "test", seed)
    asked = Dataset([encode(backbone, prompt) for prompt in texts], texts, [""] * num, backbone.pad_id)
    torch.manual_seed(seed)
    with torch.no_grad():
        ids = [row for batch in asked.batches(64) for row in program.base(batch).sample().tolist()]
    examples = [
        Example(example.prompt, trim(backbone, row)) for example, row in zip(asked.examples, ids, strict=True)
    ]
    data = Dataset(examples, texts, [decode(backbone, e.response) for e in examples], backbone.pad_id)
    guide = guide or Bayes(program)
    return Subject(program, guide, data, posteriors(program, guide, data), length, seed, task=task)
