"""What can be wrong, a fault a file."""

from ..finding import Check
from .answers_worse import answers_worse
from .collapsed import collapsed
from .dead import dead
from .drifted import drifted
from .duplicates import duplicates
from .guide_far import guide_far
from .headline import headline
from .heavy_tails import heavy_tails
from .only_nuisance import only_nuisance
from .permuted import permuted
from .router_uncalibrated import router_uncalibrated
from .too_few import too_few
from .unstable import unstable
from .unused_latent import unused_latent
from .weakly_used import weakly_used

CHECKS: tuple[Check, ...] = (
    collapsed,
    too_few,
    drifted,
    weakly_used,
    answers_worse,
    permuted,
    unused_latent,
    only_nuisance,
    unstable,
    duplicates,
    dead,
    guide_far,
    heavy_tails,
    router_uncalibrated,
)
"""The heaviest first; what another finding makes moot is not said."""

__all__ = ["CHECKS", "headline"]
