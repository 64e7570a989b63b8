"""Pictures as files."""

from __future__ import annotations

import io
from pathlib import Path

import matplotlib as mpl
from matplotlib.figure import Figure

from ..models.pretrained import write_atomic


def write_figure(path: Path, figure: Figure) -> None:
    """The picture as ``.png`` and ``.svg``, its path given without an ending; the same picture gives the same files."""
    for suffix, metadata in (("png", {}), ("svg", {"Date": None})):
        content = io.BytesIO()
        with mpl.rc_context({"svg.hashsalt": path.name}):
            figure.savefig(content, format=suffix, dpi=160, metadata=metadata)
        write_atomic(path.with_name(f"{path.name}.{suffix}"), content.getvalue())
