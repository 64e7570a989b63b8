"""Values of continuous latents, for figures that need finitely many: clusters of the guide's posterior means."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from sklearn.cluster import KMeans
from torch import Tensor
from torch.nn.functional import one_hot

STARTS = 10


@dataclass(frozen=True)
class Clusters:
    """K clusters of N data.

    Attributes:
        posterior: 1 at the cluster of each datum and 0 elsewhere, ``(N, K)``.
        values: the centre of each cluster as a value of the latents, by site.
    """

    posterior: Tensor
    values: list[dict[str, Tensor]]


def clusters(draws: Mapping[str, Tensor], K: int) -> Clusters:
    """K-means [Lloyd 1982] of the means of the draws, all sites side by side, the best of 10 starts.

    The same, numbers of the clusters included, whatever the order of the data.

    Args:
        draws: of continuous latents by site, ``(S, N, *event)``.
        K: clusters; of fewer different data, one each.
    """
    means = {name: site.mean(0) for name, site in draws.items()}
    points = torch.cat([mean.flatten(1) for mean in means.values()], 1).double().numpy()  # (N, D)
    order = np.lexsort(points.T)
    different = len(np.unique(points, axis=0))
    found = KMeans(min(K, different), n_init=STARTS, random_state=0).fit(points[order])
    labels = torch.empty(len(points), dtype=torch.long)
    labels[torch.from_numpy(order)] = torch.from_numpy(found.labels_).long()
    centres = torch.from_numpy(found.cluster_centers_)
    sites = centres.split([mean[0].numel() for mean in means.values()], 1)
    by_site = {
        name: part.to(mean).reshape(-1, *mean.shape[1:])
        for (name, mean), part in zip(means.items(), sites, strict=True)
    }
    values = [{name: site[k] for name, site in by_site.items()} for k in range(len(centres))]
    return Clusters(one_hot(labels, len(centres)).float(), values)
