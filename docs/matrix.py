"""What goes together: every latent by every algorithm and by every way of conditioning, each tried on a tiny LM.

``python docs/matrix.py`` writes the tables of docs/latents.md anew; a test compares them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf
from stratagem.guides import AmortizedGuide
from stratagem.models import Backbone, Batch, Example, LatentLM, PooledRouter, collate
from stratagem.models.backbone import new_backbone

PAGE = Path(__file__).with_name("latents.md")
CONFIGS = Path(__file__).parents[1] / "configs"
SMALL: Mapping[str, dict[str, Any]] = {"position_memory": {"length": 4}}
"""Settings for responses of a few tokens."""


def options(group: str) -> list[str]:
    """Names of a configuration group."""
    return sorted(path.stem for path in (CONFIGS / group).glob("*.yaml"))


def node(group: str, name: str) -> dict[str, Any]:
    """A configuration as plain containers."""
    found: Any = OmegaConf.to_container(OmegaConf.load(CONFIGS / group / f"{name}.yaml"), resolve=True)
    return found


class Trial:
    """A tiny LM and four pairs, to try combinations on."""

    def __init__(self) -> None:
        torch.manual_seed(0)
        self.backbone: Backbone = new_backbone([*"abcdef"], hidden=16, layers=2, heads=2, context=32)
        rows = [((1, 4, 5), (6, 7, 2)), ((1, 5), (8, 2)), ((1, 6, 4, 4), (4, 5, 6, 2)), ((1, 7), (9, 2))]
        self.batch: Batch = collate([Example(*row) for row in rows], self.backbone.pad_id)

    def outcome(self, latent: str, algorithm: str, conditioning: str) -> str:
        """Nothing where a step of the fit has a loss and gradients that are finite; else why it is refused.

        Raises:
            ArithmeticError: a step whose loss or gradients are not finite.
        """
        torch.manual_seed(0)
        algorithm_node = node("inference", algorithm)
        family = instantiate(node("latent", latent))
        entry = instantiate(node("conditioning", conditioning) | SMALL.get(conditioning, {}))
        try:
            inference = instantiate(algorithm_node)
            inference.check({"z": family})
            if hasattr(inference, "go_on"):
                inference.go_on()  # what reads the data before the fit has nothing to do with latents
            model = LatentLM(self.backbone, {"z": family}, PooledRouter, entry)
            guide = AmortizedGuide(model)
            inference.bind(model)
            loss = inference(model, guide, self.batch, 0.5)
            loss.surrogate.backward()
        except ValueError as error:
            return str(error)
        own = {
            n: w.grad for part in (model, guide) for n, w in part.named_parameters() if "backbone." not in n
        }
        grads = [g for g in own.values() if g is not None]
        if not grads or not all(bool(t.isfinite().all()) for t in (loss.surrogate, *grads)):
            raise ArithmeticError(
                f"latent={latent} inference={algorithm} conditioning={conditioning}: not finite"
            )
        return ""


REASONS = (
    (r"needs (?:every latent|one latent at least) to be (\w+)", r"for latents that are \1"),
    (r"expected a categorical latent", "for latents that are relaxable"),
    (
        r"needs independent Gaussians|expected Normal, or a vector",
        "for Gaussian latents with independent coordinates",
    ),
)
"""What a refusal says, and its gist."""


def reason(message: str) -> str:
    """The gist of a refusal; nothing of nothing."""
    for pattern, gist in REASONS:
        if found := re.search(pattern, message):
            return found.expand(gist)
    return message


def table(rows: list[str], columns: list[str], cells: dict[tuple[str, str], str]) -> str:
    """A table of works and refused, and the reasons below it."""
    reasons = list(dict.fromkeys(filter(None, cells.values())))
    head = ["", *(f"`{c}`" for c in columns)]
    lines = [head, ["---"] * len(head)]
    for row in rows:
        found = [cells[row, column] for column in columns]
        lines.append([f"`{row}`", *(f"({reasons.index(f) + 1})" if f else "yes" for f in found)])
    text = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    told = "\n".join(f"({i}) {why}" for i, why in enumerate(reasons, 1))
    return f"{text}\n\n{told}" if told else text


def tables() -> dict[str, str]:
    """The tables by name."""
    trial, latents = Trial(), options("latent")
    algorithms = {
        (a, latent): reason(trial.outcome(latent, a, "prefix"))
        for a in options("inference")
        for latent in latents
    }
    ways = {}
    for way in options("conditioning"):
        for latent in latents:
            found = [trial.outcome(latent, a, way) for a in ("elbo_rloo", "elbo_pathwise", "marginal")]
            ways[way, latent] = "" if "" in found else reason(found[0])
    return {
        "algorithms": table(options("inference"), latents, algorithms),
        "conditionings": table(options("conditioning"), latents, ways),
    }


def renewed(page: str) -> str:
    """The page with its tables as they are found now."""
    for name, text in tables().items():
        pattern = rf"(<!-- table: {name} -->\n).*?(\n<!-- end -->)"
        page, found = re.subn(pattern, lambda m, text=text: f"{m[1]}{text}{m[2]}", page, flags=re.DOTALL)
        if found != 1:
            raise ValueError(f"{PAGE}: expected one place for the table {name}, found {found}")
    return page


if __name__ == "__main__":
    PAGE.write_text(renewed(PAGE.read_text()))
