"""Pictures as files."""

from __future__ import annotations

import io
from pathlib import Path

from matplotlib.figure import Figure

from ..models.pretrained import write_atomic


def write_figure(path: Path, figure: Figure) -> None:
    """The picture as ``.png`` and ``.svg``, its path given without an ending."""
    for suffix in ("png", "svg"):
        content = io.BytesIO()
        figure.savefig(content, format=suffix, dpi=160)
        write_atomic(path.with_name(f"{path.name}.{suffix}"), content.getvalue())
