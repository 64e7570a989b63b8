"""A figure as a part of the page, in the page's colours."""

from __future__ import annotations

import io
import re

import matplotlib as mpl
from markupsafe import Markup, escape
from matplotlib.figure import Figure

from ..pictures.style import COLOURS, INK, LINE

THEMED = {INK: "var(--ink)", LINE: "var(--line)", "stroke: #ffffff": "stroke: var(--page)"} | {
    colour: f"var(--c{place})" for place, colour in enumerate(COLOURS)
}
"""Colours of the pictures, and what stands for them on the page; white letters stay white."""


def inline_svg(figure: Figure, name: str, label: str) -> Markup:
    """An ``<svg>`` element with a transparent ground, its colours variables of the page and its letters the page's.

    The same for the same figure.

    Args:
        figure: the picture.
        name: letters, digits and underscores; keeps the ids apart from those of other pictures.
        label: what is read out in its place.
    """
    content = io.StringIO()
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": name}):
        figure.savefig(content, format="svg", transparent=True, metadata={"Date": None})
    svg = re.sub(r"<(metadata|style)\b.*?</\1>", "", content.getvalue(), flags=re.DOTALL)
    svg = re.sub(r"<[^>]+>", lambda tag: _themed(tag[0], name), svg[svg.index("<svg") :])
    width, height = figure.get_size_inches() * 96
    head = f'<svg role="img" aria-label="{escape(label)}" width="{width:.0f}" height="{height:.0f}"'
    return Markup(re.sub(r'^<svg\b(.*?) width="[^"]*" height="[^"]*"', lambda rest: head + rest[1], svg))


def _themed(tag: str, name: str) -> str:
    """A tag with its ids, references and colours replaced, and its font left to the page."""
    tag = re.sub(r'\bid="|\burl\(#|\bhref="#', rf"\g<0>{name}-", tag)
    for colour, variable in THEMED.items():
        tag = tag.replace(colour, variable)
    return re.sub(r"font-family: [^;\"]*;? ?", "", tag)
