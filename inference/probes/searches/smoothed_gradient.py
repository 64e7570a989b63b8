"""Ascent of a smoothed reward by the score function."""

from __future__ import annotations

import numpy as np

from .search_step import SearchStep


class SmoothedGradient(SearchStep):
    """Gradient ascent of ``E r(m + w e)``, e standard normal, in m; the reward is never differentiated.

    The gradient is the score function's, ``mean_i (r_i - mean of the other rewards) e_i / w`` [Wierstra et al. 2014;
    Kool et al. 2019], over the standard deviation of the P rewards, so that a step does not depend on
    their unit; none where all rewards are the same.

    Args:
        problems: B.
        size: D.
        population: P, at least 2.
        rng: of the draws.
        width: w.
        rate: of a step, in units of w squared.
    """

    def __init__(
        self,
        problems: int,
        size: int,
        population: int,
        rng: np.random.Generator,
        width: float = 0.5,
        rate: float = 1.0,
    ) -> None:
        self.rng, self.shape, self.width, self.rate = rng, (problems, population, size), width, rate
        self.mean = np.zeros((problems, size))

    def propose(self) -> np.ndarray:
        return np.asarray(self.mean[:, None] + self.width * self.rng.normal(size=self.shape))

    def learn(self, points: np.ndarray, rewards: np.ndarray) -> None:
        count = rewards.shape[1]
        advantage = (rewards - rewards.mean(1, keepdims=True)) * count / (count - 1)
        spread = rewards.std(1, keepdims=True)
        advantage = np.where(spread > 0, advantage / np.where(spread > 0, spread, 1), 0)
        noise = (points - self.mean[:, None]) / self.width
        gradient = (advantage[..., None] * noise).mean(1) / self.width
        self.mean = self.mean + self.rate * self.width**2 * gradient
