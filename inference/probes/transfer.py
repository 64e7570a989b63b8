"""Can one attribute of a text be changed, and the rest left as it is?"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from .averages import averaged
from .chart import chart_of
from .distance import distance_of
from .probe import Probe, Reading
from .recognition import frequent, recognised
from .space import Space
from .subspace import codes, matrix_subspace


class Transfer(Probe):
    """Attribute transfer by matrix subspace projection: ``z' = z + M^T (y' - M z)`` [Li et al. 2020].

    M, of orthonormal rows, is fitted to the codes of all labels together, so that the subspaces of two labels are
    orthogonal, or of each alone where they have more values than z has coordinates; y' is the mean of ``M z`` over the
    texts of the value that is wanted. One half of the texts is fitted on, and the others are changed, each to every
    other value.

    - success: the share whose decoding has the value that is wanted, and the share that has it at z itself
      (``unmoved``);
    - kept: the share whose decoding has the value of another label that the one at z itself has;
    - moved: the distance between the two decodings.

    Args:
        latent: that is moved; the only continuous one where not given. The others stay at the text's.
        values: of a label at most, the most frequent ones; at least 2.
        texts: that are changed at most, at least 1.
        encoder: a local folder or a name on the hub, for distances of embeddings; of tokens where not given.
        temperature: of the decodings; 0 is greedy.
        seed: of the halves.

    Raises:
        ValueError: a smaller number; when it is asked, a label of more values than z has coordinates and one, or a half
            without a value.
    """

    def __init__(
        self,
        latent: str | None = None,
        values: int = 6,
        texts: int = 50,
        encoder: str | None = None,
        temperature: float = 0.0,
        seed: int = 0,
    ) -> None:
        if values < 2 or texts < 1:
            raise ValueError(
                f"probe transfer: values must be at least 2 and texts at least 1, got {values} and {texts}"
            )
        self.latent, self.values, self.texts = latent, values, texts
        self.encoder, self.temperature, self.seed = encoder, temperature, seed

    def __call__(self, space: Space) -> Reading:
        chart = chart_of(space, self.latent, "transfer")
        words = {label: np.array(found) for label, found in space.known().items()}
        values = {label: frequent(space.labels[label], self.values) for label in words}
        used = np.all([np.isin(words[label], values[label]) for label in words], 0)
        order = np.random.default_rng(self.seed).permutation(np.flatnonzero(used))
        fitted, changed = np.sort(order[: len(order) // 2]), np.sort(order[len(order) // 2 :])[: self.texts]
        subspaces = _subspaces(chart.points[fitted], {n: w[fitted] for n, w in words.items()}, values)
        plain = chart.decode(chart.points[changed], changed.tolist(), self.temperature)
        before = {n: recognised(space, chart, n, changed.tolist(), plain) for n in words}
        distance = distance_of(chart.coder, self.encoder)
        figures: dict[str, float] = {}
        rows: list[dict[str, str | float]] = []
        for label, M in subspaces.items():
            within = chart.points[fitted] @ M.T
            targets = {b: within[words[label][fitted] == b].mean(0) for b in values[label]}
            asked = [
                (i, b) for i in range(len(changed)) for b in values[label] if b != words[label][changed[i]]
            ]
            place, wanted = np.array([i for i, _ in asked]), np.array([b for _, b in asked])
            z = chart.points[changed[place]]
            moved = z + (np.stack([targets[b] for b in wanted]) - z @ M.T) @ M
            texts = chart.decode(moved, changed[place].tolist(), self.temperature)
            after = {n: recognised(space, chart, n, changed[place].tolist(), texts) for n in words}
            figures |= averaged(f"transfer/{label}/success", after[label] == wanted, place)
            figures |= averaged(f"transfer/{label}/unmoved", before[label][place] == wanted, place)
            for other in words:
                if other != label:
                    figures |= averaged(
                        f"transfer/{label}/kept_{other}", after[other] == before[other][place], place
                    )
            stayed = [plain[i] for i in place]
            figures |= averaged(f"transfer/{label}/moved", distance(stayed, texts), place)
            rows += [
                {
                    "label": label,
                    "from": str(words[label][changed[i]]),
                    "to": b,
                    "became": str(after[label][k]),
                    "response": texts[k],
                    "before": plain[i],
                    "prompt": space.data.prompts[changed[i]],
                }
                for k, (i, b) in enumerate(asked)
            ]
        return Reading(figures, rows)


def _subspaces(
    z: np.ndarray, words: Mapping[str, np.ndarray], values: Mapping[str, list[str]]
) -> dict[str, np.ndarray]:
    """Of each label the ``(K - 1, D)`` rows of M that are its own."""
    for label, found in values.items():
        missing = set(found) - set(words[label])
        if missing:
            raise ValueError(
                f"probe transfer: label {label}: no text of the half that is fitted on has {min(missing)}; give more "
                "data, fewer values, or leave the label out"
            )
        if len(found) - 1 > z.shape[1]:
            raise ValueError(
                f"probe transfer: label {label} has {len(found)} values, which take {len(found) - 1} coordinates, and "
                f"z has {z.shape[1]}; give probe.values={z.shape[1] + 1} or fewer, or leave the label out"
            )
    y = {label: codes(list(words[label]), found) for label, found in values.items()}
    sizes = np.cumsum([part.shape[1] for part in y.values()])
    if sizes[-1] > z.shape[1]:
        return {label: matrix_subspace(z, part) for label, part in y.items()}
    M = matrix_subspace(z, np.concatenate(list(y.values()), 1))
    return dict(zip(y, np.split(M, sizes[:-1]), strict=True))
