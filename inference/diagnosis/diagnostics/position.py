"""How early in the response z can be read."""

from __future__ import annotations

from ...evaluation.position import curves, prefix_posterior
from ...evaluation.statistics import named, ratio_se
from ...log_quantities import xlogp
from ..diagnostic import Readings
from ..subject import Subject


def position(subject: Subject) -> Readings:
    """The curves and figures of ``stratagem position``, and the share of the information that one token brings.

    That token is of each response the one with which the posterior moves farthest from the router: all of it comes with
    one token where z is a mark, whose place may differ from response to response. Says nothing where z is not
    enumerable, and nothing of one token where z is collapsed.
    """
    if not subject.enumerable:
        return Readings()
    log_p = prefix_posterior(subject.model, subject.guide, subject.data, subject.batch_size)
    found = curves(log_p, subject.model.backbone, subject.data, subject.task)
    figures = found.figures | {"position/information_se": float(found.columns["information_se"][-1])}
    if "position/information_half" in figures:
        information = xlogp(log_p, log_p - log_p[..., :1]).sum(0)  # (N, T + 1)
        most = information.diff(dim=1).amax(1)
        figures |= named("position/single_token", ratio_se(most, information[:, -1]))
    return Readings(figures, {f"position/{name}": column.numpy() for name, column in found.columns.items()})
