"""Is the marginal still p0?"""

from __future__ import annotations

from .posteriors import Posteriors
from .statistics import mean_se, named, ratio_se


def fidelity(on_base: Posteriors) -> dict[str, float]:
    """``KL(p0 || p) = E_{y ~ p0}[log p0(y|x) - log p(y|x)]``, nats per token and per sequence.

    ``exact`` is 1 where z was summed over; where it is 0 the figure is an upper bound in the mean, since
    importance weighting puts ``log p`` too low. ``log_marginal`` is the mean of ``log p(y|x)`` itself.

    Args:
        on_base: of responses drawn from the base.
    """
    gap = on_base.log_base - on_base.log_marginal
    return {
        **named("fidelity/kl_per_token", ratio_se(gap, on_base.lengths)),
        **named("fidelity/kl_per_sequence", mean_se(gap)),
        **named("fidelity/log_marginal", mean_se(on_base.log_marginal)),
        "fidelity/exact": float(on_base.exact),
    }
