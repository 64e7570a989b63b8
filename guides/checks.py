"""What guides ask of a model."""

from __future__ import annotations

from torch import nn

from ..models import VampPrior


def check_router_and_decoder(model: nn.Module) -> None:
    """Refuse a program whose p(z|x) and p(y|x,z) cannot be asked apart.

    Raises:
        ValueError: it has no ``router`` or no ``decoder``.
    """
    if missing := [part for part in ("router", "decoder") if not hasattr(model, part)]:
        raise ValueError(
            f"guide: {type(model).__name__} has no {' and no '.join(missing)}, which this guide asks for p(z|x) and "
            "p(y|x,z); use guide=amortized, or guide=autoregressive for latents that depend on each other"
        )


def check_no_vamp(model: nn.Module) -> None:
    """Refuse a prior made of the laws that a guide goes on to change.

    Raises:
        ValueError: a router is a :class:`VampPrior`.
    """
    if any(isinstance(router, VampPrior) for router in getattr(model, "routers", {}).values()):
        raise ValueError(
            "guide: router=vamp makes p(z) of the laws of the guide's head, which it changes by flows or steps. "
            "Use guide=amortized or guide=encoder"
        )
