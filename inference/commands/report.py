"""Writing and printing an evaluation."""

from __future__ import annotations

import json
import logging
from pathlib import Path

from ...models import LatentProgram
from ...models.pretrained import write_atomic
from ..evaluation import Evaluation
from ..inference_data import POSTERIOR, from_posteriors, write_inference_data
from ..run_folder import CONFIG_FILE

log = logging.getLogger(__name__)


def write_evaluation(folder: Path, model: LatentProgram, result: Evaluation) -> None:
    """``evaluation.json`` and ``posterior.nc`` in the run's folder, and the figures on the screen."""
    write_atomic(folder / "evaluation.json", json.dumps(result.figures, indent=2).encode())
    config = folder / CONFIG_FILE
    attributes = {"config": config.read_text()} if config.is_file() else {}
    write_inference_data(folder / POSTERIOR, from_posteriors(model, result.on_base, result.data, attributes))
    log.info("the latents are %s\n%s", result.verdict, table(result.figures))


def table(figures: dict[str, float]) -> str:
    """Figures in lines, each with its standard error where it has one."""
    lines = []
    for name, value in figures.items():
        if name.endswith("_se"):
            continue
        error = figures.get(f"{name}_se")
        lines.append(f"  {name:36}{value:10.4f}" + ("" if error is None else f"  ± {error:.4f}"))
    return "\n".join(lines)
