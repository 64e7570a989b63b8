"""Families of latents; one file each."""

from .binary_code import BinaryCode
from .categorical import Categorical
from .dirichlet import Dirichlet
from .finite import Finite
from .finite_scalars import FiniteScalars
from .latent import Capability, Latent
from .logistic_normal import LogisticNormal
from .multivariate_normal import MultivariateNormal
from .normal import Normal
from .relaxed_categorical import RelaxedCategorical
from .von_mises_fisher import VonMisesFisher

__all__ = [
    "BinaryCode",
    "Capability",
    "Categorical",
    "Dirichlet",
    "Finite",
    "FiniteScalars",
    "Latent",
    "LogisticNormal",
    "MultivariateNormal",
    "Normal",
    "RelaxedCategorical",
    "VonMisesFisher",
]
