"""What is known before the response, and what after it."""

from __future__ import annotations

import numpy as np
import seaborn as sns
import torch
from matplotlib.figure import Figure
from torch import Tensor

from ..diagnostic import Diagnosis
from .strategies import strategy_names
from .style import COLOURS, INK, WIDE, matrix, panels, styled


@styled
def router(diagnosis: Diagnosis) -> Figure | None:
    """Router against exact posterior: by the router's likeliest strategy, and by the entropy of each datum."""
    seen = diagnosis.subject.seen
    if seen.router is None or seen.posterior is None:
        return None
    figure, (left, right) = panels(2, WIDE, 4.3)
    before, after = seen.router.double(), seen.posterior.double()
    names = strategy_names(diagnosis.subject)
    likeliest = before.argmax(1)
    found = [after[likeliest == k].mean(0) for k in range(len(names))]
    matrix(left, torch.stack(found).nan_to_num(0.0).numpy(), names)
    counts = torch.bincount(likeliest, minlength=len(names)).tolist()
    ticks = left.get_yticks().astype(int)
    left.set_yticks(ticks, [f"{names[k]}\n{counts[k]} data" for k in ticks] if len(names) <= 10 else None)
    left.set(xlabel="strategy after the response: mean p(z|x,y)", ylabel="likeliest before it: p(z|x)")
    left.set_title("what the router expects, and what came")
    known, told = _entropy(before), _entropy(after)
    most = 1.05 * np.log(before.shape[1])
    right.plot([0, most], [0, most], color=INK, linewidth=0.8, linestyle=(0, (4, 3)))
    sns.scatterplot(x=known, y=told, ax=right, color=COLOURS[0], s=16, alpha=0.55, linewidth=0)
    right.set(xlim=(-0.02 * most, most), ylim=(-0.02 * most, most))
    right.set(
        xlabel="entropy of p(z|x), before the response (nats)", ylabel="entropy of p(z|x,y), after it (nats)"
    )
    right.set_title("each datum: what the response tells of z")
    return figure


def _entropy(law: Tensor) -> np.ndarray:
    return -torch.special.xlogy(law, law).sum(1).numpy() + 0.0
