"""What is compared; one objective a file."""

from .autogen import AutoGen
from .capacity import Capacity
from .ciwae import CIWAE
from .elbo import ELBO
from .em import EM
from .f_divergence import FDivergence
from .free_bits import FreeBits
from .free_bits_per_dimension import FreeBitsPerDimension
from .info_vae import InfoVAE
from .iwae import IWAE
from .kl_threshold import KLThreshold
from .marginal import MarginalLikelihood
from .miwae import MIWAE
from .objective import Objective
from .piwae import PIWAE
from .renyi import Renyi

__all__ = [
    "CIWAE",
    "ELBO",
    "EM",
    "IWAE",
    "MIWAE",
    "PIWAE",
    "AutoGen",
    "Capacity",
    "FDivergence",
    "FreeBits",
    "FreeBitsPerDimension",
    "InfoVAE",
    "KLThreshold",
    "MarginalLikelihood",
    "Objective",
    "Renyi",
]
