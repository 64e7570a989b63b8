"""Features in which the strategy of a response is small beside its prompt and its surface."""

from __future__ import annotations

import numpy as np
import torch
from stratagem.inference.partitions.spaces import Sample
from torch import Tensor

RESPONSES = 4


def scene(
    prompts: int = 150, parts: int = 3, surface: float = 3.0, prompt: float = 3.0, seed: int = 0
) -> tuple[Sample, Tensor]:
    """Features in which prompt and surface are larger than the part, and the part."""
    rng = np.random.default_rng(seed)
    z = rng.integers(parts, size=(prompts, RESPONSES))
    mark = rng.integers(2, size=(prompts, RESPONSES))
    axes = np.linalg.qr(rng.normal(size=(24, 24)))[0]
    x = prompt * rng.normal(size=(prompts, 1, 10)) @ axes[:10]
    x = x + np.eye(parts)[z] @ axes[10 : 10 + parts] * 1.5
    x = x + surface * mark[..., None] * axes[20] + 0.1 * rng.normal(size=(prompts, RESPONSES, 24))
    said = torch.from_numpy(z + parts * np.arange(prompts)[:, None]).flatten()
    return sample_of(x, said), torch.from_numpy(z).flatten()


def sample_of(x: np.ndarray, said: Tensor) -> Sample:
    """Of features ``(prompts, RESPONSES, 24)`` in two layers."""
    begin = torch.arange(0, len(said), RESPONSES)[:, None]
    one, two = torch.triu_indices(RESPONSES, RESPONSES, 1)
    pairs = torch.stack([(begin + one).flatten(), (begin + two).flatten()], 1)
    return Sample(torch.from_numpy(x).float().flatten(0, 1), pairs, said, (12, 12), RESPONSES)
