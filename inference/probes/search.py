"""Which z has the responses that a reward is highest for?"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module

import matplotlib as mpl
import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from ...models import Capability
from ..diagnosis.pictures.style import COLOURS, STYLE, panels
from .averages import averaged
from .chart import Chart, chart_of, coder_of
from .coder import Coder
from .probe import Probe, Reading
from .searches import Evolution, SearchStep, SmoothedGradient
from .space import Space

METHODS: Mapping[str, Callable[[int, int, int, np.random.Generator], SearchStep]] = {
    "evolution": Evolution,
    "gradient": SmoothedGradient,
}

DRAWS = 64
"""From the router at each prompt, whose mean and spread a search starts with."""

Reward = Callable[[str, str], float]


class Search(Probe):
    """Search at test time: for each prompt the z with the largest reward of a response, by decodings alone.

    Beside it stand the mean reward of draws from the router, and the best of as many draws as the search has decodings.
    A continuous latent is searched by evolution or by a smoothed gradient, which start with the router's mean and
    spread; all values of an enumerable one are tried, with as many responses as the decodings allow. With a temperature
    above 0, what either has chosen is judged by fresh responses.

    Args:
        reward: import path of a function of prompt and response, ``module.function``; larger is better.
        method: ``evolution`` or ``gradient``.
        latent: that is searched; the only one where not given. The others stay at the text's.
        texts: the first prompts, at least 1.
        population: points that are tried at once, at least 4.
        rounds: how often, at least 1.
        temperature: of the decodings; 0 is greedy.
        fresh: responses that a choice is judged by, at least 1.
        seed: of the search.

    Raises:
        ValueError: no reward, one that cannot be imported or gives no finite number, or a setting out of range.
    """

    def __init__(
        self,
        reward: str | None,
        method: str = "evolution",
        latent: str | None = None,
        texts: int = 10,
        population: int = 16,
        rounds: int = 10,
        temperature: float = 0.0,
        fresh: int = 8,
        seed: int = 0,
    ) -> None:
        if method not in METHODS:
            raise ValueError(f"probe search: method must be {' or '.join(METHODS)}, got {method}")
        if texts < 1 or population < 4 or rounds < 1 or fresh < 1:
            raise ValueError(
                "probe search: texts, rounds and fresh must be at least 1 and population at least 4, got "
                f"{texts}, {rounds}, {fresh} and {population}"
            )
        self.reward, self.path = imported(reward), reward
        self.method, self.latent, self.texts, self.population = method, latent, texts, population
        self.rounds, self.temperature, self.fresh, self.seed = rounds, temperature, fresh, seed

    def __call__(self, space: Space) -> Reading:
        coder = coder_of(space, "search")
        name = self.latent
        if name is None and len(coder.latents) > 1:
            raise ValueError(
                f"probe search: the run has latents {', '.join(coder.latents)}; give probe.latent=NAME"
            )
        name = name or next(iter(coder.latents))
        index = list(range(min(self.texts, len(space.data.prompts))))
        if name in coder.latents and Capability.ENUMERABLE in coder.latents[name].capabilities:
            found, course = self._every_value(space, coder, name, index)
        else:
            found, course = self._searched(space, chart_of(space, name, "search"), index)
        number = course.shape[1]
        drawn = coder.router(index, number)[name]  # (S, R, *event)
        by_router = self._rewards(space, coder, name, drawn.transpose(0, 1), index)
        best = drawn[by_router.argmax(1), torch.arange(len(index))]
        judged = [self._judged(space, coder, name, z, index) for z in (found, best)]
        (reward, texts), (reward_best, texts_best) = judged
        figures = averaged("search/router", by_router.mean(1))
        figures |= averaged("search/best_of_router", reward_best) | averaged("search/found", reward)
        figures |= averaged("search/gain", reward - reward_best) | {"search/decodings": float(number)}
        rows: list[dict[str, str | float]] = [
            {
                "prompt": space.data.prompts[i],
                "router": float(by_router[i].mean()),
                "best of router": float(reward_best[i]),
                "found": float(reward[i]),
                "z": str(np.round(found[i].tolist(), 3).tolist()),
                "response": texts[i],
                "response of best": texts_best[i],
            }
            for i in index
        ]
        return Reading(figures, rows, _picture(course, by_router))

    def _every_value(
        self, space: Space, coder: Coder, name: str, index: list[int]
    ) -> tuple[Tensor, np.ndarray]:
        """The best value for each prompt ``(R,)``, and the rewards ``(R, S)`` of all decodings in order."""
        size = coder.latents[name].num_values
        times = max(1, self.population * self.rounds // size) if self.temperature > 0 else 1
        tried = torch.arange(size).repeat(len(index), times)  # (R, S)
        rewards = self._rewards(space, coder, name, tried, index)
        return torch.from_numpy(rewards.reshape(len(index), times, size).mean(1).argmax(1)), rewards

    def _searched(self, space: Space, chart: Chart, index: list[int]) -> tuple[Tensor, np.ndarray]:
        """The same of points."""
        start = chart.router(index, DRAWS)
        centre, scale = start.mean(0)[:, None], start.std(0)[:, None]
        step = METHODS[self.method](
            len(index), centre.shape[-1], self.population, np.random.default_rng(self.seed)
        )
        tried, course = [], []
        for _ in range(self.rounds):
            points = step.propose()
            values = chart.values((centre + scale * points).reshape(-1, points.shape[-1]))
            values = values.unflatten(0, points.shape[:2])  # (R, P, *event)
            rewards = self._rewards(space, chart.coder, chart.name, values, index)
            step.learn(points, rewards)
            tried.append(values)
            course.append(rewards)
        rewards = np.concatenate(course, 1)
        best = torch.cat(tried, 1)[torch.arange(len(index)), rewards.argmax(1)]
        return best, rewards

    def _rewards(self, space: Space, coder: Coder, name: str, values: Tensor, index: list[int]) -> np.ndarray:
        """Of a response at each of ``(R, S, *event)`` values, ``(R, S)``."""
        where = np.repeat(index, values.shape[1]).tolist()
        texts = coder.decode({name: values.flatten(0, 1)}, where, self.temperature)
        rewards = [self._reward(space.data.prompts[i], text) for i, text in zip(where, texts, strict=True)]
        return np.array(rewards).reshape(values.shape[:2])

    def _judged(
        self, space: Space, coder: Coder, name: str, z: Tensor, index: list[int]
    ) -> tuple[np.ndarray, list[str]]:
        """Mean reward ``(R,)`` of fresh responses at a value for each prompt, and the first of them."""
        times = self.fresh if self.temperature > 0 else 1
        where = np.repeat(index, times).tolist()
        texts = coder.decode({name: z.repeat_interleave(times, 0)}, where, self.temperature)
        rewards = [self._reward(space.data.prompts[i], text) for i, text in zip(where, texts, strict=True)]
        return np.array(rewards).reshape(len(index), times).mean(1), texts[::times]

    def _reward(self, prompt: str, response: str) -> float:
        reward = self.reward(prompt, response)
        if not isinstance(reward, int | float | np.number) or not np.isfinite(reward):
            raise ValueError(
                f"probe search: reward={self.path} gave {reward!r} for the response {response!r}; expected a finite "
                "number"
            )
        return float(reward)


def imported(path: str | None) -> Reward:
    """The function at an import path.

    Raises:
        ValueError: no path, nothing there, or no function.
    """
    module, _, name = (path or "").rpartition(".")
    if not module:
        raise ValueError(
            f"probe search: reward={path}: expected the import path of a function of prompt and response, "
            "probe.reward=module.function"
        )
    try:
        found = getattr(import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise ValueError(
            f"probe search: reward={path}: {error}; is the folder of the module in PYTHONPATH?"
        ) from None
    if not callable(found):
        raise ValueError(f"probe search: reward={path} is {type(found).__name__}, expected a function")
    function: Reward = found
    return function


def _picture(course: np.ndarray, by_router: np.ndarray) -> Figure:
    """The best reward so far, a mean over the prompts, by decodings."""
    with mpl.rc_context(STYLE):
        figure, (panel,) = panels(1)
        for place, (name, rewards) in enumerate((("search", course), ("draws from the router", by_router))):
            so_far = np.maximum.accumulate(rewards, 1).mean(0)
            panel.plot(np.arange(1, len(so_far) + 1), so_far, color=COLOURS[place], label=name)
        panel.set(xlabel="decodings for each prompt", ylabel="largest reward so far, mean over prompts")
        figure.legend(loc="outside upper left", ncols=2)
    return figure
