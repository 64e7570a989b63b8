"""Numbers as they stand in tables."""

from __future__ import annotations

import math

from markupsafe import Markup, escape

DECIMALS = 4


def digits(value: float) -> str:
    """Four decimals, none for a whole number, and an exponent where these would show nothing."""
    if not math.isfinite(value):
        return {"inf": "∞", "-inf": "−∞"}.get(str(value), "–")
    if value == int(value):
        return f"{int(value)}".replace("-", "−")
    text = f"{value:.{DECIMALS}f}" if abs(value) >= 0.5 * 10**-DECIMALS else f"{value:.0e}"
    return text.replace("-", "−")


def aligned(shown: str) -> Markup:
    """Digits with room for the decimals that a whole number does not have."""
    room = Markup('<span class="room">.{}</span>').format("0" * DECIMALS) if shown.isdecimal() else ""
    return escape(shown) + room
