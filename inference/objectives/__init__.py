"""What is compared; one objective a file."""

from .elbo import ELBO
from .marginal import MarginalLikelihood
from .objective import Objective

__all__ = ["ELBO", "MarginalLikelihood", "Objective"]
