"""Parameter groups, and the learning rate over the steps."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import nn
from torch.optim import AdamW
from torch.optim.lr_scheduler import LambdaLR

PARTS = ("conditioning", "router", "posterior", "backbone", "other")


@dataclass
class Optim:
    """AdamW with warm-up and cosine decay.

    Attributes:
        lr: peak learning rate of each part: ``conditioning`` (how z and annotations enter, and the template),
            ``router`` and ``posterior`` (their heads), ``backbone`` (adapters and copies of the LM), ``other`` (the
            rest of a user's own program).
        weight_decay: of AdamW, on the backbone's part alone.
        betas: of AdamW.
        warmup: steps of linear rise.
        floor: share of the peak at the end of the cosine.
        clip: largest norm of the gradient; 0 for no clipping.
    """

    lr: dict[str, float] = field(default_factory=dict)
    weight_decay: float = 0.0
    betas: tuple[float, float] = (0.9, 0.95)
    warmup: int = 20
    floor: float = 0.02
    clip: float = 1.0

    def __post_init__(self) -> None:
        unknown = sorted(set(self.lr) - set(PARTS))
        if unknown:
            raise ValueError(f"optim.lr: unknown part {unknown[0]}; the parts are {', '.join(PARTS)}")
        wrong = [f"{part}={lr}" for part, lr in self.lr.items() if not 0 <= lr < math.inf]
        if wrong or self.warmup < 0 or not 0 <= self.floor <= 1 or self.clip < 0:
            raise ValueError(
                "optim: learning rates, warmup and clip must not be negative and floor must be in [0, 1]; got "
                f"{', '.join(wrong) or f'warmup={self.warmup} floor={self.floor} clip={self.clip}'}"
            )

    def optimizer(self, modules: Mapping[str, nn.Module]) -> AdamW:
        """AdamW over the trainable parameters, a group for each part."""
        groups: dict[str, list[nn.Parameter]] = {part: [] for part in PARTS}
        for name, parameter in nn.ModuleDict(modules).named_parameters():
            if parameter.requires_grad:
                groups[part_of(name)].append(parameter)
        return AdamW(
            [
                {
                    "params": parameters,
                    "lr": self.lr.get(part, 1e-3),
                    "weight_decay": self.weight_decay if part == "backbone" else 0.0,
                    "part": part,
                }
                for part, parameters in groups.items()
                if parameters
            ],
            betas=(self.betas[0], self.betas[1]),
        )

    def schedule(self, optimizer: AdamW, steps: int, done: int) -> LambdaLR:
        """Warm-up, then cosine from the peak to the floor at the last of ``steps``; ``done`` are behind."""
        for group in optimizer.param_groups:
            group.setdefault("initial_lr", group["lr"])

        def factor(step: int) -> float:
            if step < self.warmup:
                return (step + 1) / self.warmup
            share = (step - self.warmup) / max(1, steps - self.warmup)
            return self.floor + (1 - self.floor) * 0.5 * (1 + math.cos(math.pi * min(1.0, share)))

        return LambdaLR(optimizer, factor, last_epoch=done - 1)


def part_of(name: str) -> str:
    """The part that a parameter ``<module>.<path>`` belongs to."""
    if ".backbone." in name:
        return "backbone"
    if name.startswith("guide."):
        return "posterior"
    if ".routers." in name or ".router." in name:
        return "router"
    if any(f".{part}." in name for part in ("conditionings", "conditioning", "template", "annotation")):
        return "conditioning"
    return "other"
