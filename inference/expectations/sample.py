"""E_q as a mean over draws."""

from __future__ import annotations

import pyro
import torch
from pyro import poutine

from ...models import Batch
from ..log_quantities import LogQuantities
from .expectation import Expectation, Program, read


class Sample(Expectation):
    """S draws from the guide, in one vectorised run that shares the prompts' encoding.

    Args:
        num_particles: S, at least 1.
    """

    def __init__(self, num_particles: int = 1) -> None:
        if num_particles < 1:
            raise ValueError(f"expectation sample: num_particles must be at least 1, got {num_particles}")
        self.num_particles = num_particles

    def __call__(self, model: Program, guide: Program, batch: Batch) -> LogQuantities:
        with pyro.plate("particles", self.num_particles, dim=-2):
            guide_trace = poutine.trace(guide).get_trace(batch)
            model_trace = poutine.trace(poutine.replay(model, trace=guide_trace)).get_trace(batch)
        shape = torch.Size((self.num_particles, len(batch)))
        return read(model_trace, guide_trace, shape, enumerated=False)
