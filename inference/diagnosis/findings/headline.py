"""A diagnosis in one line."""

from __future__ import annotations

from collections.abc import Sequence

from ..finding import Finding
from .evidence import listed

HEALTHY = "Healthy: no fault was found in the use of the latents, the posterior or the base law."


def headline(findings: Sequence[Finding]) -> str:
    """The heaviest finding, and the names of the others: ``Collapsed: z tells ... Also: base law drifted.``

    Args:
        findings: of :func:`..diagnose.findings`, the heaviest first; none of a healthy subject.
    """
    if not findings:
        return HEALTHY
    first, *others = findings
    line = f"{first.name[:1].upper()}{first.name[1:]}: {first.seen}"
    return f"{line} Also: {listed([other.name for other in others])}." if others else line
