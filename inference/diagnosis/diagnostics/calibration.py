"""Whether router and guide mean the probabilities that they give."""

from __future__ import annotations

import numpy as np

from ...evaluation.statistics import named
from ...randomness import seeded
from ..diagnostic import Readings
from ..own_draws import OwnDraws, own_draws
from ..ranks import LEAST, PER_BIN, histogram, ranks, uniformity
from ..reliability import calibration_error, reliability
from ..subject import Subject


def calibration(subject: Subject) -> Readings:
    """Calibration of the router against the posterior, and of the guide against the model's own z.

    - Router, enumerable z: ``p(z|x)`` as a prediction of z, which given a response of the base is ``p(z|x,y)``.
    - Guide, enumerable z: ``q(z|x,y)`` as a prediction of z, for (z, y) drawn from the model itself. Given y that z
      is ``p(z|x,y)``, which stands for it, as there.
    - Guide, any z: simulation-based calibration on the same draws. ``calibration/sbc_p`` is the least p-value over
      the test quantities times their number [Bonferroni], at most 1; ``calibration/sbc`` the histogram of that
      quantity and ``calibration/sbc/<quantity>`` of each.

    That they are calibrated does not say that they tell anything: a router that is the mean posterior on every prompt
    is calibrated.

    What needs draws of the model itself is left out where the program does not say how y is drawn given its latents
    alone, and the test where there are less than 30 data.
    """
    figures: dict[str, float] = {}
    curves: dict[str, np.ndarray] = {}
    seen = subject.seen
    if seen.router is not None and seen.posterior is not None:
        figures |= named("calibration/router_ece", calibration_error(seen.router, seen.posterior))
        curves["calibration/router"] = reliability(seen.router, seen.posterior)
    own = own_draws(subject)
    if own is None:
        return Readings(figures, curves)
    if own.values.enumerated:
        guide, posterior = own.values.log_q.exp().T, own.values.log_posterior.exp().T
        figures |= named("calibration/posterior_ece", calibration_error(guide, posterior))
        curves["calibration/posterior"] = reliability(guide, posterior)
    if len(own) >= LEAST * PER_BIN:
        counts = _counts(subject, own)
        tested = {name: uniformity(count) for name, count in counts.items()}
        worst = min(tested, key=lambda name: tested[name][0])
        figures["calibration/sbc_p"] = min(1.0, tested[worst][0] * len(tested))
        figures["calibration/sbc_distance"] = tested[worst][1]
        curves |= {"calibration/sbc": counts[worst]}
        curves |= {f"calibration/sbc/{name}": count for name, count in counts.items()}
    return Readings(figures, curves)


def _counts(subject: Subject, own: OwnDraws) -> dict[str, np.ndarray]:
    """The histogram of each test quantity's places."""
    with seeded(subject.seed + 67_867_967, subject.model.backbone.device):
        return {name: histogram(places) for name, places in ranks(own).items()}
