"""Responses of the base kept for other runs: another algorithm on the same prompts need not sample them anew."""

from __future__ import annotations

import logging
import os
from pathlib import Path

from ..models.pretrained import write_atomic

log = logging.getLogger(__name__)

VARIABLE = "STRATAGEM_CACHE"
"""Environment variable that names the folder; empty: nothing is kept."""


def response_cache() -> Path | None:
    """The folder: ``$STRATAGEM_CACHE``, else ``stratagem`` in ``$XDG_CACHE_HOME`` or ``~/.cache``; None: not wanted."""
    named = os.environ.get(VARIABLE)
    if named is not None:
        return Path(named).expanduser() if named else None
    home = os.environ.get("XDG_CACHE_HOME")
    return (Path(home) if home else Path("~/.cache").expanduser()) / "stratagem"


def fetch(path: Path, cache: Path | None) -> None:
    """Copy a file of this name from the cache to ``path``, where it is there and ``path`` is not."""
    if cache is not None and not path.is_file():
        try:
            write_atomic(path, (cache / path.name).read_bytes())
        except FileNotFoundError:
            return
        except OSError as error:
            log.warning("responses of the base are sampled anew: %s", error)


def keep(path: Path, cache: Path | None) -> None:
    """Copy ``path`` into the cache, where it is not there; a cache that cannot be written costs a warning."""
    if cache is not None and not (cache / path.name).is_file():
        try:
            write_atomic(cache / path.name, path.read_bytes())
        except OSError as error:
            log.warning(
                "responses of the base are not kept for other runs: %s; set %s to a folder, or to nothing",
                error,
                VARIABLE,
            )
