"""Families of latents; one file each."""

from .categorical import Categorical
from .latent import Capability, Latent
from .normal import Normal

__all__ = ["Capability", "Categorical", "Latent", "Normal"]
