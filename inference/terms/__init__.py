"""Weighted terms beside the objective; one a file."""

from .forward_kl import ForwardKL
from .mutual_information import MutualInformation
from .term import Term
from .variational_information import VariationalInformation

__all__ = ["ForwardKL", "MutualInformation", "Term", "VariationalInformation"]
