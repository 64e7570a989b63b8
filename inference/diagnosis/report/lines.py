"""The figures that a reader looks at first, and the bounds of their words."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ...evaluation.position import DECODED
from ...evaluation.use import WEAK
from ..diagnostic import Diagnosis
from ..findings.answers_worse import WORSE
from ..findings.drifted import KEPT
from ..findings.duplicates import MOST
from ..findings.guide_far import FAR
from ..findings.heavy_tails import HEAVY, SHARE
from ..findings.only_nuisance import EARLY
from ..findings.router_uncalibrated import OFF
from ..findings.unstable import AGREED
from ..findings.verdict import BIT, verdict
from .digits import digits
from .words import Judge, above, below, less, neutral, of, of_verdict, over_chance, per_strategy, trusted


@dataclass(frozen=True)
class Line:
    """One figure.

    Attributes:
        name: of the figure; one that ends in ``/`` stands for every figure of that beginning.
        label: what it is.
        unit: of it.
        judge: its word.
        beside: what to hold it against, in words and digits.
        when: whether it is told of a diagnosis.
    """

    name: str
    label: str
    unit: str
    judge: Judge
    beside: Callable[[Diagnosis], str] = lambda _: ""
    when: Callable[[Diagnosis], bool] = lambda _: True


def beside(name: str, called: str) -> Callable[[Diagnosis], str]:
    """Another figure."""

    def told(diagnosis: Diagnosis) -> str:
        value = diagnosis.figure(name)
        return "" if value is None else f"{called} {digits(value)}"

    return told


def ceiling(diagnosis: Diagnosis) -> str:
    """What the verdict holds the information against."""
    found = verdict(diagnosis)
    return "" if found is None else f"of {digits(found.ceiling)}"


def by_posterior(diagnosis: Diagnosis) -> bool:
    """Whether the verdict goes by the posterior rather than by InfoNCE."""
    return diagnosis.subject.enumerable or "information/infonce" not in diagnosis.figures


SEQUENCE = "nats per sequence"

STABLE = above(0.8, AGREED, "stable", "partly", "unstable")

CALIBRATED = below(OFF, 2 * OFF, "calibrated", "nearly", "uncalibrated")

LINES: dict[str, tuple[Line, ...]] = {
    "Law of the base": (
        Line(
            "fidelity/kl_per_token",
            "drift of the marginal, KL(p0 ‖ p)",
            "nats per token",
            below(KEPT, 5 * KEPT, "kept", "nearly kept", "drifted"),
        ),
        Line(
            "skill/accuracy",
            "right answers, z from the router",
            "share",
            less("skill/accuracy_base", above(-WORSE, -3 * WORSE, "as the base", "nearly", "worse")),
            beside("skill/accuracy_base", "base"),
        ),
    ),
    "Use of the latents": (
        Line("use/mutual_information", "information I(z; y|x)", SEQUENCE, of_verdict, ceiling, by_posterior),
        Line(
            "information/infonce",
            "information I(z; y|x), by InfoNCE",
            SEQUENCE,
            of_verdict,
            ceiling,
            lambda diagnosis: not by_posterior(diagnosis),
        ),
        Line(
            "information/infonce",
            "the same by InfoNCE",
            SEQUENCE,
            trusted("information/infonce_trusted"),
            when=by_posterior,
        ),
        Line(
            "information/aggregate",
            "the same by the aggregate posterior",
            SEQUENCE,
            trusted("information/aggregate_trusted"),
        ),
        Line(
            "use/usage",
            "strategies in effect",
            "strategies",
            per_strategy(above(0.7, 0.4, "even", "uneven", "few")),
        ),
        Line("usage/dead", "dead strategies", "strategies", below(0, 0, "none", "", "dead")),
        Line("dimension/active/", "active coordinates", "coordinates", above(1, 1, "active", "", "none")),
    ),
    "Posterior": (
        Line(
            "posterior/gap",
            "gap of the guide, KL(posterior ‖ q)",
            SEQUENCE,
            of("posterior/gap_share", below(FAR / 2, FAR, "tight", "loose", "far")),
        ),
        Line(
            "posterior/iwae_elbo_gap",
            "gap of the guide, IWAE less ELBO",
            SEQUENCE,
            below(FAR * BIT / 2, FAR * BIT, "tight", "loose", "far"),
        ),
        Line(
            "posterior/pareto_k_bad",
            f"data with Pareto k above {HEAVY}",
            "share",
            below(SHARE / 10, SHARE, "light tails", "some heavy tails", "heavy tails"),
        ),
        Line(
            "posterior/ess",
            "effective sample size",
            "share of the draws",
            above(0.5, 0.1, "efficient", "wasteful", "degenerate"),
        ),
        Line("calibration/router_ece", "calibration error of the router", "probability", CALIBRATED),
        Line("calibration/posterior_ece", "calibration error of the guide", "probability", CALIBRATED),
        Line(
            "calibration/sbc_p",
            "simulation-based calibration",
            "p-value of uniform ranks",
            above(0.05, 0.001, "uniform", "doubtful", "not uniform"),
        ),
    ),
    "Effect of a strategy": (
        Line(
            "intervention/self_consistency",
            "strategy read back from its own response",
            "probability",
            over_chance(
                "intervention/self_consistency_chance",
                above(0.8, 0.4, "consistent", "partly", "inconsistent"),
            ),
        ),
        Line(
            "intervention/divergence_least",
            "divergence of the two most alike",
            SEQUENCE,
            above(3 * WEAK * MOST, WEAK * MOST, "apart", "close", "alike"),
        ),
        Line(
            "position/single_token",
            "information that comes with one token",
            "share",
            neutral(below(0.5, EARLY, "spread out", "partly", "one token")),
        ),
        Line(
            "meaning/alignment",
            "one strategy for one z",
            "share",
            above(0.95, 0.8, "one to one", "nearly", "mixed"),
            beside("meaning/alignment_chance", "chance"),
        ),
        Line(
            "meaning/nuisance_ami",
            "nuisance in z",
            "adjusted mutual information",
            below(DECODED / 4, DECODED, "free of it", "some", "carries it"),
        ),
    ),
    "Stability": (
        Line("stability/runs", "agreement between runs", "adjusted mutual information", STABLE),
        Line(
            "stability/halves", "agreement between halves of the data", "adjusted mutual information", STABLE
        ),
        Line("stability/paraphrase", "agreement under paraphrase", "share", STABLE),
        Line(
            "stability/transfer",
            "strategy read on new prompts",
            "share",
            over_chance("stability/transfer_chance", STABLE),
            beside("stability/transfer_chance", "chance"),
        ),
    ),
}
"""By heading, in the order of the report."""
