"""``stratagem evaluate``: fidelity, use, meaning and skill of a run."""

from __future__ import annotations

from pathlib import Path

from omegaconf import DictConfig

from ...models.spec import build
from ..build import node
from ..evaluation import evaluate
from ..run_folder import read_config
from .load import load_latent_lm
from .report import write_evaluation


def run(config: DictConfig) -> None:
    """Evaluate, print, and write ``evaluation.json`` and ``posterior.nc`` into the run's folder."""
    model, guide = load_latent_lm(config)
    folder = Path(config.run)
    fitted = read_config(folder)
    seed = fitted.seed if config.seed is None else config.seed
    data = build(node(fitted, "data"), config.trust_remote_code)
    result = evaluate(model, guide, data, seed, folder / "data", config.batch_size, config.limit)
    write_evaluation(folder, model, result)
