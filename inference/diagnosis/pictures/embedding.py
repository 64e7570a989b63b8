"""Where the data lie in the space of continuous latents."""

from __future__ import annotations

import warnings
from importlib import import_module
from importlib.util import find_spec

import numpy as np
import seaborn as sns
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE

from ..diagnostic import Diagnosis
from .labels import Groups, named_groups
from .style import COLOURS, MARKERS, NARROW, WIDE, panels, styled

NEIGHBOURS = 30
"""Perplexity of t-SNE, or a third of the data where that is less."""


@styled
def embedding(diagnosis: Diagnosis) -> Figure | None:
    """The guide's posterior means in the plane: as they are, or by PCA, t-SNE and, where installed, UMAP.

    Coloured by the user's labels, else by the likeliest value of the first discrete latent, else alike. None where
    no latent is continuous, or with fewer than ten data.
    """
    means = posterior_means(diagnosis)
    if means is None or len(means) < 10:
        return None
    maps = planes(means)
    groups = named_groups(diagnosis.labels) or _discrete(diagnosis)
    figure, axes = panels(len(maps), NARROW if len(maps) == 1 else WIDE, 4.2)
    for panel, (heading, (across, up), points) in zip(axes, maps, strict=True):
        if groups is None:
            sns.scatterplot(
                x=points[:, 0], y=points[:, 1], ax=panel, color=COLOURS[0], s=18, alpha=0.7, linewidth=0
            )
        else:
            scattered(panel, points, groups, named=panel is axes[0])
        panel.set(xlabel=across, ylabel=up)
        panel.set_title(heading)
    if groups is not None:
        figure.legend(loc="outside upper left", ncols=len(groups.names), handletextpad=0.2, columnspacing=1.2)
    return figure


def scattered(panel: Axes, points: np.ndarray, groups: Groups, named: bool = True) -> None:
    """Points ``(N, 2)`` in the colour and the mark of their group, which the panel knows by name where ``named``."""
    for place, name in enumerate(groups.names):
        here = points[groups.place == place]
        sns.scatterplot(
            x=here[:, 0],
            y=here[:, 1],
            ax=panel,
            color=COLOURS[place],
            marker=MARKERS[place],
            s=22,
            alpha=0.75,
            linewidth=0,
            label=name if named else None,
            legend=False,
        )


def posterior_means(diagnosis: Diagnosis) -> np.ndarray | None:
    """``(N, D)``: means of the guide's draws of all continuous latents, side by side; None where there is none."""
    draws = (diagnosis.subject.seen.draws or {}).values()
    means = [site.double().mean(0).flatten(1) for site in draws if site.is_floating_point()]
    return torch.cat(means, 1).numpy() if means else None


def planes(means: np.ndarray) -> list[tuple[str, tuple[str, str], np.ndarray]]:
    """Of ``(N, D)`` points a heading, the names of two axes, and ``(N, 2)`` places, for each map."""
    count, size = means.shape
    if size == 1:
        places = np.random.default_rng(0).uniform(-1, 1, count)
        return [
            ("posterior means", ("z", "(no meaning, spread to be seen)"), np.stack([means[:, 0], places], 1))
        ]
    if size == 2:
        return [("posterior means", ("first coordinate", "second coordinate"), means)]
    pca = PCA(2, random_state=0)
    flat = pca.fit_transform(means)
    spread = np.nan_to_num(pca.explained_variance_ratio_)
    first, second = (f"component {i + 1} ({share:.0%} of the variance)" for i, share in enumerate(spread))
    maps = [("PCA", (first, second), flat)]
    if np.ptp(means, axis=0).any():
        maps.append(("t-SNE", ("first coordinate (no unit)", "second coordinate (no unit)"), tsne(means)))
        if find_spec("umap") is not None:
            maps.append(("UMAP", ("first coordinate (no unit)", "second coordinate (no unit)"), umap(means)))
    return maps


def tsne(means: np.ndarray) -> np.ndarray:
    """``(N, 2)`` places of points that keep their neighbours [van der Maaten & Hinton 2008]."""
    perplexity = min(NEIGHBOURS, (len(means) - 1) / 3)
    return np.asarray(TSNE(2, perplexity=perplexity, init="pca", random_state=0).fit_transform(means))


def umap(means: np.ndarray) -> np.ndarray:
    """The same by UMAP [McInnes et al. 2018], which has to be installed."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return np.asarray(import_module("umap").UMAP(random_state=0, n_jobs=1).fit_transform(means))


def _discrete(diagnosis: Diagnosis) -> Groups | None:
    """The value that the guide draws most often of the first discrete latent."""
    for name, site in (diagnosis.subject.seen.draws or {}).items():
        if not site.is_floating_point() and site.dim() == 2:
            return named_groups([f"{name} = {value}" for value in site.mode(0).values.tolist()])
    return None
