"""``stratagem export``: a strategy of a run as an adapter that plain PEFT loads."""

from __future__ import annotations

from pathlib import Path

import torch
from omegaconf import DictConfig, OmegaConf

from ...models import LatentLM, export_adapter
from ...models.export import divergence
from ..dataset import make_dataset
from .load import load_for_figures


def run(config: DictConfig) -> None:
    """Write the adapter, and say how near its law is to the model's."""
    if config.out is None:
        raise ValueError("no folder given; pass out=DIR, where the adapter goes")
    model, _, data, seed = load_for_figures(config)
    if not isinstance(model, LatentLM):
        raise ValueError(f"run={config.run}: expected a LatentLM, found {type(model).__name__}")
    torch.manual_seed(seed)
    z = OmegaConf.to_container(config.z) if OmegaConf.is_config(config.z) else config.z
    difference = export_adapter(model, z, config.out, config.prompt)
    print(f"wrote {config.out}: the logits of plain PEFT are the model's up to {difference:.1e}")
    if config.prompt is not None:
        print(
            "give it the last token of the prompt and what follows; the adapter holds the rest of the prompt"
        )
        return
    test = make_dataset(model.backbone, data, "test", seed, Path(config.run) / "data")
    first = {example.prompt: i for i, example in reversed([*enumerate(test.examples)])}
    prompts = [test.batch([i]).to(model.backbone.device) for i in sorted(first.values())[: config.limit]]
    if max(batch.prompt.shape[1] for batch in prompts) > 1:
        found = divergence(model, z, config.out, prompts)
        error = float(found.std() / len(found) ** 0.5) if len(found) > 1 else float("nan")
        print(
            "a prompt of several tokens sees the adapter too, which it never does in the model: "
            f"on {len(found)} held-out prompts its law is {float(found.mean()):.4f} nats a token "
            f"(standard error {error:.4f}) from p(y|x,z)"
        )
