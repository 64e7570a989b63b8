"""Covariance matrix adaptation with a diagonal matrix."""

from __future__ import annotations

import numpy as np

from .search_step import SearchStep


class Evolution(SearchStep):
    """sep-CMA-ES [Ros & Hansen 2008]: the mean of the better half, a step size by the path of the means, and a variance
    of each coordinate.

    Args:
        problems: B.
        size: D.
        population: P, at least 4.
        rng: of the draws.
    """

    def __init__(self, problems: int, size: int, population: int, rng: np.random.Generator) -> None:
        self.rng, self.shape = rng, (problems, population, size)
        half = population // 2
        weights = np.log(half + 0.5) - np.log(np.arange(1, half + 1))
        self.weights = weights / weights.sum()
        self.mass = mass = 1 / float((self.weights**2).sum())
        self.c_sigma = (mass + 2) / (size + mass + 5)
        self.damping = 1 + 2 * max(0.0, np.sqrt((mass - 1) / (size + 1)) - 1) + self.c_sigma
        self.c_path = (4 + mass / size) / (size + 4 + 2 * mass / size)
        faster = (size + 2) / 3
        self.c_one = min(1.0, faster * 2 / ((size + 1.3) ** 2 + mass))
        self.c_mean = min(1 - self.c_one, faster * 2 * (mass - 2 + 1 / mass) / ((size + 2) ** 2 + mass))
        self.usual = np.sqrt(size) * (1 - 1 / (4 * size) + 1 / (21 * size**2))  # E|N(0, I)|
        self.mean, self.variance = np.zeros((problems, size)), np.ones((problems, size))
        self.path, self.path_sigma = np.zeros((problems, size)), np.zeros((problems, size))
        self.sigma = np.ones((problems, 1))
        self.round = 0

    def propose(self) -> np.ndarray:
        spread = (self.sigma * np.sqrt(self.variance))[:, None]
        return np.asarray(self.mean[:, None] + spread * self.rng.normal(size=self.shape))

    def learn(self, points: np.ndarray, rewards: np.ndarray) -> None:
        self.round += 1
        best = (-rewards).argsort(1, kind="stable")[:, : len(self.weights)]
        steps = (np.take_along_axis(points, best[..., None], 1) - self.mean[:, None]) / self.sigma[..., None]
        step = (self.weights[:, None] * steps).sum(1)
        self.mean = self.mean + self.sigma * step
        gain = np.sqrt(self.c_sigma * (2 - self.c_sigma) * self.mass)
        self.path_sigma = (1 - self.c_sigma) * self.path_sigma + gain * step / np.sqrt(self.variance)
        length = np.linalg.norm(self.path_sigma, axis=1, keepdims=True)
        begun = np.sqrt(1 - (1 - self.c_sigma) ** (2 * self.round))
        slow = length / begun < (1.4 + 2 / (self.shape[2] + 1)) * self.usual
        gain = np.sqrt(self.c_path * (2 - self.c_path) * self.mass)
        self.path = (1 - self.c_path) * self.path + slow * gain * step
        self.variance = (
            (1 - self.c_one - self.c_mean) * self.variance
            + self.c_one * (self.path**2 + ~slow * self.c_path * (2 - self.c_path) * self.variance)
            + self.c_mean * (self.weights[:, None] * steps**2).sum(1)
        )
        self.sigma = self.sigma * np.exp(self.c_sigma / self.damping * (length / self.usual - 1)).clip(
            0.1, 10
        )
