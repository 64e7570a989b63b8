"""``stratagem evaluate``: fidelity, use, meaning and skill of a run."""

from __future__ import annotations

from pathlib import Path

from omegaconf import DictConfig

from ..evaluation import evaluate
from .load import load_for_figures
from .report import write_evaluation


def run(config: DictConfig) -> None:
    """Evaluate, print, and write ``evaluation.json`` and ``posterior.nc`` into the run's folder."""
    model, guide, data, seed = load_for_figures(config)
    folder = Path(config.run)
    result = evaluate(
        model, guide, data, seed, folder / "data", config.batch_size, config.limit, config.draws
    )
    write_evaluation(folder, model, result)
