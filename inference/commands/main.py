"""From the words of the command line to a command's Hydra program."""

from __future__ import annotations

import logging
import os
import re
import sys
import warnings
from collections.abc import Callable, Sequence
from hashlib import sha256
from importlib import import_module
from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.types import Quote, QuotedString
from hydra.errors import CompactHydraException, InstantiationException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from ..heap import keep_heap

COMMANDS = {
    "fit": "factorise a language model, evaluate it and write a run folder",
    "pretrain": "train a small base on the mixture of a task",
    "generate": "responses under a chosen strategy of a run",
    "infer": "which strategy made each response of a file",
    "evaluate": "fidelity, use, meaning and skill of a run",
    "diagnose": "what is wrong with a run, in words, numbers and pictures, and what to change",
    "prune": "the number of strategies of a run: unused ones dropped, those that are one merged",
    "position": "how early in the response the latent of a run can be read, and what it carries",
    "probe": "what the latent space of a run says of the texts",
    "export": "a strategy of a run as an adapter that plain PEFT loads",
    "compare": "the runs in a folder side by side: stratagem compare DIR",
    "experiment": "a grid of fits and the table of their figures: stratagem experiment NAME",
}

USAGE = """stratagem <command> [key=value ...] [--help] [--multirun] [--config-dir DIR]

commands
{commands}

`stratagem <command> --help` lists its settings and the groups they come from."""

TEXTS = (
    *("prompt", "run", "path", "out", "lm", "labels", "paraphrases"),
    *("data.separator", "data.prompt_column", "data.response_column", "data.column"),
)
"""Settings whose value is a text; labels in brackets are a list."""

BARE = {"compare": "run", "experiment": "experiment"}
"""Of commands that take a word without a key, the setting that it is the value of."""

LONGEST = 200
"""Letters of a folder's name; file systems allow 255 bytes."""

log = logging.getLogger("stratagem")


def folder_name(words: str) -> str:
    """The words that tell a run of a sweep from the others as a path, whatever their length."""
    parts = [
        part if len(part) <= LONGEST else f"{part[:LONGEST]}-{sha256(part.encode()).hexdigest()[:8]}"
        for part in words.split("/")
    ]
    return "/".join(parts)


OmegaConf.register_new_resolver("folder_name", folder_name, replace=True)


def main(arguments: list[str] | None = None) -> None:
    """Entry point of the ``stratagem`` command."""
    words = sys.argv[1:] if arguments is None else arguments
    if not words or words[0] in ("-h", "--help", "help"):
        print(_usage())
        return
    if words[0] not in COMMANDS:
        print(f"stratagem: no command {words[0]!r}\n\n{_usage()}", file=sys.stderr)
        raise SystemExit(2)
    command, settings = words[0], _keyed(words[1:], BARE.get(words[0]))
    sys.argv = [f"stratagem {command}", *_settings(settings)]
    os.environ.setdefault("HYDRA_FULL_ERROR", "0")
    # threads that spin while they wait slow a small model tenfold on a busy machine; read when torch is imported
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")
    keep_heap()
    program = import_module(f".{command}", __package__)
    hydra.main(version_base="1.3", config_path="pkg://stratagem.configs", config_name=command)(
        _reporting(program.run)
    )()


def _keyed(words: Sequence[str], key: str | None) -> list[str]:
    """The words with ``key`` put before the first one that is neither setting nor option, nor an option's value."""
    for place, word in enumerate(words):
        plain = not word.startswith("-") and ("=" not in word or Path(word).is_dir())
        before = words[place - 1] if place else ""
        if key and plain and not (before.startswith("-") and "=" not in before):
            return [*words[:place], f"{key}={word}", *words[place + 1 :]]
    return list(words)


def _settings(words: Sequence[str]) -> list[str]:
    """The words as Hydra's grammar takes them: options first, and texts quoted, whatever commas they have."""
    words = sorted(words, key=lambda word: "=" in word and not word.startswith("-"))
    return words if {"-m", "--multirun"} & set(words) else [_quoted(word) for word in words]


def _quoted(word: str) -> str:
    key, _, text = word.partition("=")
    listed = key == "labels" and text.startswith("[")
    if key not in TEXTS or listed or text == "null" or re.fullmatch(r"'.*'|\".*\"", text, re.DOTALL):
        return word
    return f"{key}={QuotedString(text, Quote.single).with_quotes()}"


def _usage() -> str:
    return USAGE.format(commands="\n".join(f"  {name:11} {what}" for name, what in COMMANDS.items()))


def _reporting(run: Callable[[DictConfig], object]) -> Callable[[DictConfig], object]:
    """A program whose user errors are a line in the log and exit status 1, not a traceback."""

    def reporting(config: DictConfig) -> object:
        _quiet()
        try:
            return run(config)
        except KeyboardInterrupt as interrupt:
            log.warning("%s", interrupt or "interrupted")
            raise SystemExit(130) from None
        except (ValueError, OSError, InstantiationException) as error:
            log.debug("in full", exc_info=True)
            log.error("%s", _innermost(error))
            if HydraConfig.get().mode == RunMode.MULTIRUN:  # the other jobs of a sweep go on
                raise CompactHydraException(str(_innermost(error))) from None
            raise SystemExit(1) from None

    return reporting


def _innermost(error: BaseException) -> BaseException:
    """What went wrong in the call that Hydra made, without Hydra's frame around it."""
    while isinstance(error, InstantiationException) and error.__cause__ is not None:
        error = error.__cause__
    return error


def _quiet() -> None:
    from ...models.backbone.loading import quiet

    quiet()
    warnings.filterwarnings("ignore", category=FutureWarning, module="arviz")
    logging.getLogger("matplotlib").setLevel(logging.WARNING)
