"""What a fit is told beside model, guide, data and algorithm."""

from __future__ import annotations

from dataclasses import dataclass, field

from .trackers import check_trackers


@dataclass
class FitSettings:
    """The loop of a fit.

    Attributes:
        steps: optimizer steps, at least 1.
        batch_size: data of a step, over all processes and accumulations.
        accumulate: parts that the batch of a step is computed in, one after the other; what an algorithm takes over the
            minibatch, a mean posterior say, is over a part, and over the data of one process.
        eval_every: steps between evaluations on held-out data, each followed by a checkpoint.
        eval_size: held-out data of these evaluations.
        patience: evaluations without a better objective before the fit stops, the weights of the best one being
            kept; 0 to never stop early and keep the last.
        start_cost: nats per sequence that a strategy costs beside the base at the start; 0 leaves the first
            conditioning as it was drawn.
        revive: share of the largest entropy of a strategy's responses, below which the strategy with the smallest is
            started again beside the one with the largest, at the evaluations of the first half of the fit; so is one
            that is not used; 0 never.
        starts: draws of the first weights that are fitted for ``start_steps`` each, of which the best goes on; 1 for
            one alone.
        start_steps: steps after which they are compared; a fit of no more steps has one start.
        draw: number of the first one, so that two fits of one seed, on the same data, can start apart.
        prune: afterwards drop the strategies that are unused, merge those that are one, and make the end of the fit
            again, in a folder of its own.
        mixed_precision: ``no`` or ``bf16``, in which the LM's networks run; laws of the latents and objectives do not.
        progress: show a progress bar where the output is a terminal.
        trackers: experiment trackers that accelerate knows and that get the figures as well, by name.
    """

    steps: int = 800
    batch_size: int = 32
    accumulate: int = 1
    eval_every: int = 100
    eval_size: int = 200
    patience: int = 0
    start_cost: float = 0.5
    revive: float = 0.2
    starts: int = 1
    start_steps: int = 300
    draw: int = 0
    prune: bool = False
    mixed_precision: str = "no"
    progress: bool = True
    trackers: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size", "accumulate", "eval_every", "eval_size", "starts", "start_steps"):
            if getattr(self, name) < 1:
                raise ValueError(f"fit.{name} must be at least 1, got {getattr(self, name)}")
        for name in ("draw", "patience"):
            if getattr(self, name) < 0:
                raise ValueError(f"fit.{name} must be at least 0, got {getattr(self, name)}")
        if self.batch_size % self.accumulate:
            raise ValueError(
                f"fit.batch_size={self.batch_size} must be a multiple of fit.accumulate={self.accumulate}"
            )
        if not 0 <= self.start_cost < float("inf"):
            raise ValueError(f"fit.start_cost must be finite and not negative, got {self.start_cost}")
        if not 0 <= self.revive < 1:
            raise ValueError(f"fit.revive must be at least 0 and below 1, got {self.revive}")
        if self.mixed_precision not in ("no", "bf16"):
            raise ValueError(f"fit.mixed_precision must be no or bf16, got {self.mixed_precision}")
        check_trackers(self.trackers)
