"""The Pyro models: latents, router, decoder, conditioning, and the LM as a distribution."""

from .annotated_lm import AnnotatedLM
from .annotations import annotate
from .backbone import Backbone, Frozen, Full, Lora, TextEncoder, load_backbone
from .batch import Batch, Example, collate
from .calibration import calibrate
from .carry import Carry
from .chain import Chain, LayeredLM, SegmentedLM
from .conditioning import (
    Conditioning,
    CrossAttention,
    KeyValuePrefix,
    LinearConditioning,
    LoraExperts,
    ModulatedLora,
    PositionMemory,
    Residual,
    Several,
    SlotTokens,
    TensorProduct,
)
from .export import export_adapter
from .generation import Generation, generate
from .intervention import do
from .language_model import LanguageModel, warper
from .latent_lm import LatentLM
from .latents import (
    BinaryCode,
    Capability,
    Categorical,
    Dirichlet,
    Finite,
    FiniteScalars,
    Latent,
    LogisticNormal,
    MultivariateNormal,
    Normal,
    RelaxedCategorical,
    VonMisesFisher,
)
from .memory import Memory, SoftTokens
from .program import LatentProgram, base_law, is_latent_program
from .prompt import EncodedPrompt, encode_prompt
from .reader import BackboneReader, EncoderReader, Reader
from .routers import (
    GroupedRouter,
    LearnedPrior,
    MixturePrior,
    PooledRouter,
    Router,
    TokenRouter,
    UniformPrior,
    VampPrior,
)
from .template import Tagged, Template

__all__ = [
    "AnnotatedLM",
    "Backbone",
    "BackboneReader",
    "Batch",
    "BinaryCode",
    "Capability",
    "Carry",
    "Categorical",
    "Chain",
    "Conditioning",
    "CrossAttention",
    "Dirichlet",
    "EncodedPrompt",
    "EncoderReader",
    "Example",
    "Finite",
    "FiniteScalars",
    "Frozen",
    "Full",
    "Generation",
    "GroupedRouter",
    "KeyValuePrefix",
    "LanguageModel",
    "Latent",
    "LatentLM",
    "LatentProgram",
    "LayeredLM",
    "LearnedPrior",
    "LinearConditioning",
    "LogisticNormal",
    "Lora",
    "LoraExperts",
    "Memory",
    "MixturePrior",
    "ModulatedLora",
    "MultivariateNormal",
    "Normal",
    "PooledRouter",
    "PositionMemory",
    "Reader",
    "RelaxedCategorical",
    "Residual",
    "Router",
    "SegmentedLM",
    "Several",
    "SlotTokens",
    "SoftTokens",
    "Tagged",
    "Template",
    "TensorProduct",
    "TextEncoder",
    "TokenRouter",
    "UniformPrior",
    "VampPrior",
    "VonMisesFisher",
    "annotate",
    "base_law",
    "calibrate",
    "collate",
    "do",
    "encode_prompt",
    "export_adapter",
    "generate",
    "is_latent_program",
    "load_backbone",
    "warper",
]
