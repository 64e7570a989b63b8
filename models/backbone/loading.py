"""Loading a base from a folder, a hub or the models that come with the package."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import resources
from pathlib import Path

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
from transformers.utils.logging import disable_progress_bar

from .backbone import Backbone
from .roles import Role

BUNDLED = "bundled:"

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def base_path(name: str) -> str:
    """Where ``name`` lies: ``bundled:<model>`` is a folder of the package, anything else is taken as it is."""
    if not name.startswith(BUNDLED):
        return name
    shelf = resources.files("stratagem.bases")
    folder = shelf / name.removeprefix(BUNDLED)
    if not folder.is_dir():
        known = sorted(entry.name for entry in shelf.iterdir() if (entry / "config.json").is_file())
        raise ValueError(
            f"lm={name}: no such bundled model; there are {', '.join(BUNDLED + k for k in known)}"
        )
    return str(folder)


def load_backbone(
    name: str,
    roles: Mapping[str, Role] | None = None,
    dtype: str = "float32",
    revision: str | None = None,
    trust_remote_code: bool = False,
    device: str | torch.device = "cpu",
) -> Backbone:
    """The causal LM ``name`` as a :class:`Backbone`, its weights read from safetensors only.

    Args:
        name: ``bundled:strategies``, a local folder in Hugging Face format, or an identifier on the hub.
        roles: see :class:`Backbone`.
        dtype: of the base weights, one of ``float32``, ``bfloat16``, ``float16``.
        revision: of a model on the hub.
        trust_remote_code: run code that comes with the model; off unless asked for.
        device: where to.

    Raises:
        ValueError: nothing at ``name``, not a causal LM, no safetensors, or an unknown dtype.
    """
    if dtype not in DTYPES:
        raise ValueError(f"lm={name}: dtype must be one of {', '.join(DTYPES)}, got {dtype}")
    path = base_path(name)
    if Path(path).exists() and not (Path(path) / "config.json").is_file():
        raise ValueError(f"lm={name}: the folder has no config.json; expected a model in Hugging Face format")
    common = {"revision": revision, "trust_remote_code": trust_remote_code}
    try:
        config = AutoConfig.from_pretrained(path, **common)
        made_by = set(config.architectures or ())
        if not trust_remote_code and not made_by & set(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.values()):
            raise ValueError(
                f"{', '.join(made_by) or config.model_type} is no causal LM; "
                "expected one that AutoModelForCausalLM loads"
            )
        tokenizer = AutoTokenizer.from_pretrained(path, padding_side="left", **common)
        lm, info = AutoModelForCausalLM.from_pretrained(
            path, dtype=DTYPES[dtype], use_safetensors=True, output_loading_info=True, **common
        )
    except (OSError, ValueError) as error:
        raise ValueError(f"lm={name}: {error}") from error
    if info["missing_keys"]:
        raise ValueError(
            f"lm={name}: the checkpoint lacks weights of the model: {sorted(info['missing_keys'])[:5]}"
        )
    return Backbone(lm.to(device), tokenizer, roles, name, revision)


def quiet() -> None:
    """No progress bars while weights are read or written."""
    disable_progress_bar()
