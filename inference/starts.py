"""Several starts, of which the most promising goes on."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Callable
from pathlib import Path

from accelerate import PartialState

from ..models.pretrained import WEIGHTS, write_atomic
from .dataset import Dataset
from .fit import METRICS, STATE, Step
from .held_out import Evaluation
from .settings import FitSettings

log = logging.getLogger(__name__)

FOLDER, SCORES = "starts", "starts.json"


def pick_start(
    make: Callable[[int], Step],
    begin: Callable[[Step, Path], object],
    test: Dataset,
    settings: FitSettings,
    run: Path,
) -> None:
    """Fit for the first ``settings.start_steps`` from several draws of the first weights, and keep the best in ``run``.

    A mixture has local optima that no gradient leads out of (two strategies under one latent, labels that change
    places on a part of the prompts); a start that is bound for one is behind the others long before the end. The
    score is the objective on held-out data with the terms' weights of that moment [short runs of EM before a long one:
    Biernacki, Celeux & Govaert 2003]. It needs no labels. The chosen state lies in ``run`` afterwards as if the
    fit had been stopped there, and the scores in ``starts.json``. A start that was interrupted goes on where it was.

    Args:
        make: model, guide and algorithm with the first weights of a draw.
        begin: fits what was made for the first steps, in a folder of its own, going on with what is there.
        test: held-out data.
        settings: the loop's settings.
        run: the run's folder.
    """
    scores = []
    for draw in range(settings.starts):
        step = make(draw)
        begin(step, run / FOLDER / str(draw))
        held_out = Evaluation(step, test, settings.eval_size, settings.batch_size)
        scores.append(held_out(settings.start_steps / settings.steps)["objective"])
        log.info("start %s of %s: held-out objective %.4f", draw + 1, settings.starts, scores[-1])
    best = max(range(len(scores)), key=scores.__getitem__)
    log.info("going on from start %s", best + 1)
    if PartialState().is_main_process:
        chosen = run / FOLDER / str(best)
        write_atomic(run / SCORES, json.dumps({"scores": scores, "chosen": best}).encode())
        for name in (f"model/{WEIGHTS}", METRICS, STATE):  # the state last: it says that the choice is made
            write_atomic(run / name, (chosen / name).read_bytes())
        shutil.rmtree(run / FOLDER)
    PartialState().wait_for_everyone()
