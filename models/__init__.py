"""The Pyro models: latents, router, decoder, conditioning, and the LM as a distribution."""

from .backbone import Backbone, Frozen, Full, Lora, load_backbone
from .batch import Batch, Example, collate
from .calibration import calibrate
from .conditioning import Conditioning, KeyValuePrefix, LinearConditioning, SlotTokens
from .generation import Generation, generate
from .language_model import LanguageModel, warper
from .latent_lm import LatentLM
from .latents import Capability, Categorical, Latent, Normal
from .memory import Memory, SoftTokens
from .program import LatentProgram, base_law, is_latent_program
from .prompt import EncodedPrompt, encode_prompt
from .reader import Reader
from .routers import LearnedPrior, PooledRouter, Router, TokenRouter, UniformPrior
from .template import Tagged, Template

__all__ = [
    "Backbone",
    "Batch",
    "Capability",
    "Categorical",
    "Conditioning",
    "EncodedPrompt",
    "Example",
    "Frozen",
    "Full",
    "Generation",
    "KeyValuePrefix",
    "LanguageModel",
    "Latent",
    "LatentLM",
    "LatentProgram",
    "LearnedPrior",
    "LinearConditioning",
    "Lora",
    "Memory",
    "Normal",
    "PooledRouter",
    "Reader",
    "Router",
    "SlotTokens",
    "SoftTokens",
    "Tagged",
    "Template",
    "TokenRouter",
    "UniformPrior",
    "base_law",
    "calibrate",
    "collate",
    "encode_prompt",
    "generate",
    "is_latent_program",
    "load_backbone",
    "warper",
]
