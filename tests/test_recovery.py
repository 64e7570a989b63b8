"""The strategies of every task are found again, by the default recipe and without labels."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = "from stratagem.inference.commands import main; main()"

BARS = {
    "sorting": 0.95,
    "addition": 0.95,
    "equations": 0.90,
    "grid": 0.90,
    "base_conversion": 0.90,
    "expressions": 0.90,
}
"""Least alignment of sampled outputs; lower where the prompt decides which strategies are open."""


@pytest.mark.slow
@pytest.mark.parametrize("task", BARS)
def test_the_latents_are_the_strategies(tmp_path: Path, task: str) -> None:
    words = ["fit", f"run={tmp_path}", f"task@data.task={task}", "fit.progress=false"]
    subprocess.run([sys.executable, "-c", PROGRAM, *words], check=True)
    figures = json.loads((tmp_path / "evaluation.json").read_text())
    assert figures["meaning/alignment"] >= BARS[task]
    assert figures["meaning/alignment_chance"] < 0.5
    assert figures["fidelity/kl_per_token"] <= 0.01
    assert abs(figures["meaning/nuisance_ami"]) <= 0.02
    assert figures["skill/accuracy"] >= figures["skill/accuracy_base"] - 0.02
