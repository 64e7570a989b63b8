"""How often each value of z is used."""

from __future__ import annotations

from ...evaluation.statistics import mean_se, named
from ..diagnostic import Readings
from ..mixtures import jackknife, mean_log_table
from ..subject import Subject

DEAD = 0.1
"""Share of 1/P below which a value is dead, as ``stratagem prune`` has it."""


def usage(subject: Subject) -> Readings:
    """Shares of the joint values in the mean posterior ``E p(z|x,y)`` on responses of the base, and its entropy.

    The entropy and its error are the jackknife's, since that of a mean over few data is too low. Nothing where z is
    not enumerable.
    """
    posterior = subject.seen.posterior
    if posterior is None or len(posterior) < 2:
        return Readings()
    values = posterior.shape[1]
    shares = posterior.double().mean(0)
    entropy = jackknife((-1, mean_log_table(posterior, posterior)))
    figures = named("usage/entropy", (entropy.value, entropy.error))
    for k in range(values):
        figures |= named(f"usage/share/{k}", mean_se(posterior[:, k]))
    figures |= {
        "usage/least": float(shares.min()),
        "usage/dead": float((shares < DEAD / values).sum()),
    }
    return Readings(figures, {"usage/share": shares.numpy()})
