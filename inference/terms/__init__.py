"""Weighted terms beside the objective; one a file."""

from .aggregate_kl import AggregateKL
from .aggregate_mmd import AggregateMMD
from .base_fidelity import BaseFidelity
from .density_gap import DensityGap
from .dip import DIP
from .distillation import Distillation
from .excess_reconstruction import ExcessReconstruction
from .forward_chi_square import ForwardChiSquare
from .forward_kl import ForwardKL
from .latent_jsd import LatentJSD
from .minibatch_information import MinibatchInformation
from .mutual_information import MutualInformation
from .normalised_reconstruction import NormalisedReconstruction
from .posterior_entropy import PosteriorEntropy
from .posterior_regularisation import PosteriorRegularisation
from .posterior_variance import PosteriorVariance
from .router_support import RouterSupport
from .router_to_prior import RouterToPrior
from .sequence_divergence import SequenceDivergence
from .sleep import Sleep
from .term import Term
from .total_correlation import TotalCorrelation
from .var_grad import VarGrad
from .variational_information import VariationalInformation

__all__ = [
    "DIP",
    "AggregateKL",
    "AggregateMMD",
    "BaseFidelity",
    "DensityGap",
    "Distillation",
    "ExcessReconstruction",
    "ForwardChiSquare",
    "ForwardKL",
    "LatentJSD",
    "MinibatchInformation",
    "MutualInformation",
    "NormalisedReconstruction",
    "PosteriorEntropy",
    "PosteriorRegularisation",
    "PosteriorVariance",
    "RouterSupport",
    "RouterToPrior",
    "SequenceDivergence",
    "Sleep",
    "Term",
    "TotalCorrelation",
    "VarGrad",
    "VariationalInformation",
]
