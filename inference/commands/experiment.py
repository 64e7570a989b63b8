"""``stratagem experiment``: a grid of fits, and the table of their figures."""

from __future__ import annotations

import logging
from pathlib import Path

from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.utils import instantiate
from omegaconf import DictConfig

from ..build import node
from ..experiments import Experiment, check_folder, choose, read_outcomes, run_cells, write_tables
from .main import COMMANDS

log = logging.getLogger(__name__)

GROUP = "experiment"

SHARED = ("device", "trust_remote_code")
"""Settings that every command of every cell is given, where the command line has them."""


def run(config: DictConfig) -> None:
    """Run the cells that have not ended; print the tables, and write them to the folder.

    Raises:
        ValueError: a setting that cannot be, or, when all others have ended, cells that failed.
    """
    experiment = make_experiment(config)
    hydra = HydraConfig.get()
    if config.run is None:
        raise ValueError("run=null: expected a folder")
    if type(config.jobs) is not int or config.jobs < 1:
        raise ValueError(f"jobs={config.jobs}: expected a whole number, at least 1: the cells at a time")
    folder = Path(config.run)
    shared = [word for word in hydra.overrides.task if word.partition("=")[0] in SHARED]
    cells = experiment.cells(shared)
    chosen = cells if config.only is None else choose(cells, node(config, "only"))
    check_folder(folder, hydra.runtime.choices[GROUP], cells)
    options = [
        f"--config-dir={source.path}"
        for source in hydra.runtime.config_sources
        if source.provider == "command-line"
    ]
    failures = run_cells(chosen, folder, config.jobs, options, config.progress)
    for name, reason in failures.items():
        log.error("%s failed: %s", name, reason)
    outcomes = read_outcomes(cells, folder)
    if any(outcome.figures for outcome in outcomes):
        print(write_tables(folder, experiment.summary.tables(outcomes), outcomes), flush=True)
        log.info("written to %s", folder / "table.md")
    if failures:
        raise ValueError(
            f"{len(failures)} of {len(chosen)} cells failed; the same command tries these again, and no others"
        )


def make_experiment(config: DictConfig) -> Experiment:
    """The experiment of a config, on the seeds and with the settings that the command line names.

    Raises:
        ValueError: none chosen, or one that cannot be.
    """
    if config.get(GROUP) is None:
        known = GlobalHydra.instance().config_loader().get_group_options(GROUP)
        raise ValueError(f"no experiment given; stratagem experiment NAME, with one of {', '.join(known)}")
    settings = node(config, GROUP)
    if config.seeds is not None:
        settings["seeds"] = node(config, "seeds")
    given = node(config, "settings")
    if not isinstance(given, list):
        raise ValueError(
            f"settings={given}: expected a list, as in settings=['lm=path/to/lm','fit.steps=200']"
        )
    settings["common"] = [*(settings.get("common") or ()), *given]
    experiment: Experiment = instantiate(settings, _convert_="all")
    for command in experiment.then or ():
        if command[0] not in COMMANDS:
            raise ValueError(f"then: no command {command[0]}; there are {', '.join(COMMANDS)}")
    return experiment
