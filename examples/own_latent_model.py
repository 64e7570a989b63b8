"""A hierarchical latent model of one's own: a family of strategies, a variant within it, then the response.

    p(y|x) = sum over family and variant of p(family|x) p(variant|x,family) p(y|x,family,variant)

Every command takes it as it takes the models of the package. In this folder:

    PYTHONPATH=. stratagem fit --config-dir=conf model=families inference=marginal run=runs/marginal
    PYTHONPATH=. stratagem fit --config-dir=conf model=families inference=elbo_rloo run=runs/elbo_rloo
    PYTHONPATH=. stratagem diagnose run=runs/marginal trust_remote_code=true
    PYTHONPATH=. stratagem diagnose run=runs/elbo_rloo trust_remote_code=true
"""

import pyro
import pyro.distributions as dist
import torch
from stratagem.models import Categorical, KeyValuePrefix, LanguageModel, Memory, PooledRouter, encode_prompt
from torch import nn


class Families(nn.Module):
    def __init__(self, backbone, families=2, variants=2):
        super().__init__()
        self.backbone, self.variants = backbone, variants
        self.latents = {"family": Categorical(families), "variant": Categorical(variants)}
        within = {"family": self.latents["family"], "variant": Categorical(families * variants)}
        self.router = nn.ModuleDict({k: PooledRouter(backbone, v) for k, v in within.items()})
        self.conditioning = nn.ModuleDict({k: KeyValuePrefix(backbone, v) for k, v in within.items()})

    def forward(self, batch):
        prompt = encode_prompt(self.backbone, "decoder", batch.prompt, batch.prompt_mask)
        logits = self.router["variant"].parameters_of(batch).unflatten(-1, (-1, self.variants))
        rows = torch.arange(len(batch), device=logits.device)
        with pyro.plate("data", len(batch), dim=-1):
            family = pyro.sample("family", self.router["family"](batch))
            variant = pyro.sample("variant", dist.Categorical(logits=logits[rows, family]))
            place = family * self.variants + variant
            memory = Memory.cat([self.conditioning["family"](family), self.conditioning["variant"](place)])
            law = LanguageModel(self.backbone, prompt, memory, batch.max_length, batch.response_mask)
            return pyro.sample("y", law, obs=batch.response)
