"""Reading z off a response, whatever the prompt."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from sklearn.linear_model import RidgeClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from ....models import BackboneReader
from ....models.backbone import BASE
from ...dataset import Dataset
from ..subject import Subject

RIDGE = 0.03
"""Penalty for each response that a reader is fitted on, of standardised features."""


@dataclass(frozen=True)
class Pooled:
    """Hidden states of the base, the mean over the tokens of a response, less their mean over the P of a prompt.

    Attributes:
        forced: of responses under each of P values to each of N prompts, ``(P, N, size)``.
        own: of the data's responses to the prompts, ``(N, size)``, less the same mean.
    """

    forced: np.ndarray
    own: np.ndarray

    def read(self, fitted: np.ndarray, asked: np.ndarray) -> np.ndarray:
        """``(P, n)``: z read off the forced responses to prompts at ``asked``, fitted on those at ``fitted``."""
        reader = self._fit(fitted)
        rows = self.forced[:, asked]
        return reader.predict(rows.reshape(-1, rows.shape[-1])).reshape(rows.shape[:2])

    def read_own(self, fitted: np.ndarray) -> np.ndarray:
        """``(N,)``: z read off the data's responses, fitted on the forced ones to prompts at ``fitted``."""
        found: np.ndarray = self._fit(fitted).predict(self.own)
        return found

    def _fit(self, places: np.ndarray) -> RidgeClassifier:
        rows = self.forced[:, places].reshape(-1, self.forced.shape[-1])
        z = np.repeat(np.arange(len(self.forced)), len(places))
        return make_pipeline(StandardScaler(), RidgeClassifier(RIDGE * len(rows))).fit(rows, z)


def pooled(subject: Subject, forced: Sequence[Dataset]) -> Pooled:
    """Features of responses under each of P values, and of the data's."""
    reader = BackboneReader(subject.model.backbone, BASE, 1, "mean", 0, True).to(
        subject.model.backbone.device
    )
    device = subject.model.backbone.device
    rows = torch.stack([data.pooled(reader, device) for data in forced]).double().numpy()
    own = subject.data.pooled(reader, device).double().numpy()
    centre = rows.mean(0)
    return Pooled(rows - centre, own - centre)
