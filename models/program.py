"""What a latent model is: a Pyro program on an LM, a user's own or :class:`LatentLM`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol, TypeGuard

from .backbone import BASE, Backbone
from .batch import Batch
from .language_model import LanguageModel, Warp
from .latents import Latent
from .prompt import encode_prompt


class LatentProgram(Protocol):
    """A module whose forward is a Pyro program with one plate, ``data`` at dimension -1, and one response ``y``."""

    @property
    def backbone(self) -> Backbone:
        """The LM."""

    @property
    def latents(self) -> Mapping[str, Latent]:
        """Families of the latent sites by name."""

    def __call__(self, batch: Batch) -> Any:
        """Run the program; ``y`` is observed where the batch has a response."""


def is_latent_program(model: Any) -> TypeGuard[LatentProgram]:
    """Whether a model says what a :class:`LatentProgram` has to say."""
    return callable(model) and hasattr(model, "backbone") and hasattr(model, "latents")


def base_law(model: Any, batch: Batch, warp: Warp | None = None) -> LanguageModel:
    """``p0(y|x)``: the model's own ``base(batch)`` where it has one, else the law of its backbone alone.

    Raises:
        ValueError: a model with neither.
    """
    own, backbone = getattr(model, "base", None), getattr(model, "backbone", None)
    if own is not None:
        law: LanguageModel = own(batch) if warp is None else own(batch, warp)
        return law
    if backbone is None:
        raise ValueError(
            "the base law needs a model with a method base(batch), or with a backbone, as LatentLM has; got "
            f"{type(model).__name__}: add one of them"
        )
    return law_of_backbone(backbone, batch, warp)


def law_of_backbone(backbone: Backbone, batch: Batch, warp: Warp | None = None) -> LanguageModel:
    """The law of an LM without latents."""
    prompt = encode_prompt(backbone, BASE, batch.prompt, batch.prompt_mask)
    return LanguageModel(backbone, prompt, None, batch.max_length, batch.response_mask, warp)
