"""How an expectation is differentiated; one estimator a file."""

from .baseline import Baseline
from .doubly_reparameterised import DoublyReparameterised
from .exact import Exact
from .gradient import Gradient
from .gumbel_softmax import GumbelSoftmax
from .held import Held
from .leave_one_out import LeaveOneOut
from .nvil import NVIL
from .pathwise import Pathwise
from .rebar import Rebar
from .score_function import ScoreFunction
from .sticking_the_landing import StickingTheLanding
from .tail_adaptive import TailAdaptive

__all__ = [
    "NVIL",
    "Baseline",
    "DoublyReparameterised",
    "Exact",
    "Gradient",
    "GumbelSoftmax",
    "Held",
    "LeaveOneOut",
    "Pathwise",
    "Rebar",
    "ScoreFunction",
    "StickingTheLanding",
    "TailAdaptive",
]
