"""Annotations of tokens: where they come from, what decoder and guide make of them, and what is refused."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
from stratagem.guides import AmortizedGuide, AnnotatedGuide
from stratagem.inference.commands import main
from stratagem.inference.data import FileData, TextData
from stratagem.inference.dataset import make_dataset
from stratagem.models import (
    AnnotatedLM,
    Backbone,
    Batch,
    Categorical,
    Example,
    KeyValuePrefix,
    LatentLM,
    UniformPrior,
    annotate,
    generate,
    warper,
)
from stratagem.models.text import encode
from stratagem.tasks import Sorting
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from .fit_fixtures import own_logging, tiny_backbone

MakeBackbone = Callable[..., Backbone]
MakeBatch = Callable[..., Batch]
Randomise = Callable[..., None]

NAMES = ("agent", "verb")


def annotated_lm(backbone: Backbone) -> AnnotatedLM:
    entry = partial(KeyValuePrefix, length=2)
    return AnnotatedLM(backbone, {"z": Categorical(3)}, UniformPrior, entry, annotations=NAMES)


def with_labels(batch: Batch, seed: int = 0) -> Batch:
    """Labels drawn for every token of the responses."""
    assert batch.response is not None
    assert batch.response_mask is not None
    numbers = torch.Generator().manual_seed(seed)
    labels = torch.randint(len(NAMES) + 1, batch.response.shape, generator=numbers)
    return replace(batch, annotations=labels * batch.response_mask)


def byte_pairs(texts: list[str]) -> PreTrainedTokenizerFast:
    """A byte-level BPE, whose tokens hold the blank before a word."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator(
        texts,
        trainers.BpeTrainer(
            vocab_size=270, special_tokens=["<eos>"], initial_alphabet=alphabet, show_progress=False
        ),
    )
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<eos>")


def test_a_token_bears_the_label_of_the_word_it_ends_in() -> None:
    text = " the dog chased  two cats, and slept"
    backbone = tiny_backbone()
    backbone.tokenizer = byte_pairs([text] * 3 + ["the the dog dog"])
    given = ["agent", "agent", "verb", "O", "O", "", "verb"]
    ids = backbone.tokenizer(text, add_special_tokens=False)["input_ids"]
    made = annotate(backbone, Example((0,), (*ids, 0)), text, given, NAMES)
    labels = {"": 0, "O": 0, "agent": 1, "verb": 2}
    words, seen = text.split(), ""
    for token, label in zip(ids, made.annotations, strict=False):
        piece = backbone.tokenizer.decode([token])
        seen += piece
        assert label == (labels[given[len(seen.split()) - 1]] if piece.strip() else 0)
    assert seen == text
    assert len(ids) > len(words)
    assert len(made.annotations) == len(ids) + 1
    assert made.annotations[-1] == 0


def test_labels_are_cut_with_their_response() -> None:
    backbone = tiny_backbone()
    example = encode(backbone, "a", "b c d")
    cut = replace(example, response=example.response[:2])
    assert annotate(backbone, cut, "b c d", ["agent", "verb", "O"], NAMES).annotations == (1, 2)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["agent", "verb"], "2 annotations for the 3 words"),
        (["agent", "verb", "noun"], "'noun' is none of agent, verb"),
    ],
)
def test_labels_that_do_not_fit_are_refused(given: list[str], message: str) -> None:
    backbone = tiny_backbone()
    with pytest.raises(ValueError, match=message):
        annotate(backbone, encode(backbone, "a", "b c d"), "b c d", given, NAMES)


def test_without_labels_the_law_is_that_of_a_latent_lm(
    architecture: str, make_backbone: MakeBackbone, make_batch: MakeBatch, randomise: Randomise
) -> None:
    backbone = make_backbone(architecture, dtype=torch.float64)
    model, batch = annotated_lm(backbone).double(), make_batch(backbone, cut=(1,))
    other = LatentLM(backbone, model.latents, UniformPrior, partial(KeyValuePrefix, length=2)).double()
    other.conditionings.load_state_dict(model.conditionings.state_dict())
    z = {"z": torch.arange(3)[:, None]}
    labelled = with_labels(batch)
    plain = other.decoder(batch, z).log_prob(batch.response)
    torch.testing.assert_close(model.decoder(labelled, z).log_prob(batch.response), plain)
    randomise(model, backbone=False)
    other.conditionings.load_state_dict(model.conditionings.state_dict())
    plain = other.decoder(batch, z).log_prob(batch.response)
    none = replace(batch, annotations=torch.zeros_like(labelled.annotations))
    torch.testing.assert_close(model.decoder(batch, z).log_prob(batch.response), plain)
    torch.testing.assert_close(model.decoder(none, z).log_prob(batch.response), plain)
    assert ((model.decoder(labelled, z).log_prob(batch.response) - plain).abs() > 1e-3).any()
    model.set_strength(0)
    base = model.base(batch).log_prob(batch.response)
    assert torch.equal(model.decoder(labelled, z).log_prob(batch.response), base)


def test_a_label_acts_from_its_token_on(
    architecture: str, make_backbone: MakeBackbone, make_batch: MakeBatch, randomise: Randomise
) -> None:
    backbone = make_backbone(architecture, dtype=torch.float64)
    model, batch = annotated_lm(backbone).double(), make_batch(backbone, responses=(6, 6, 6))
    randomise(model, backbone=False)
    z, place = {"z": torch.tensor([[1]])}, 3
    labels = with_labels(batch).annotations
    assert labels is not None
    changed = labels.clone()
    changed[:, place] = (changed[:, place] + 1) % 3
    one, two = (
        model.decoder(replace(batch, annotations=a), z).token_log_probs(batch.response)
        for a in (labels, changed)
    )
    torch.testing.assert_close(one[..., :place], two[..., :place])
    assert ((one[..., place] - two[..., place]).abs() > 1e-4).all()


def test_what_is_generated_follows_the_labels_of_the_tokens_to_come(
    architecture: str, make_backbone: MakeBackbone, make_batch: MakeBatch, randomise: Randomise
) -> None:
    """Token by token with a cache, the law is that of one pass over what came out."""
    backbone = make_backbone(architecture)
    model = annotated_lm(backbone)
    randomise(model, backbone=False)
    model.annotation.weight.data.mul_(10)
    batch = make_batch(backbone, responses=()).without_response(8)
    batch = replace(batch, annotations=torch.tensor([[2, 0, 1, 1, 2], [0, 0, 0, 2, 1], [1, 1, 1, 1, 1]]))
    z = {"z": torch.tensor([[0], [2]])}
    value = model.decoder(batch, z, warp=warper(0)).sample()
    law = model.decoder(batch, z)
    best, mask = law.logits(value).argmax(-1), law.mask_of(value)
    assert torch.equal(best[mask], value[mask])
    plain = model.decoder(replace(batch, annotations=None), z, warp=warper(0)).sample()
    assert not torch.equal(plain, value)


@pytest.mark.parametrize("every_layer", [False, True])
def test_the_guide_reads_the_mean_of_the_tokens_of_each_label_and_their_share(
    every_layer: bool, make_backbone: MakeBackbone, make_batch: MakeBatch
) -> None:
    backbone = make_backbone("llama-grouped")
    model, batch = annotated_lm(backbone), with_labels(make_batch(backbone, responses=(5, 4, 2)))
    guide = AnnotatedGuide(model, every_layer=every_layer)
    plain = AmortizedGuide(model, every_layer=every_layer)
    reader = guide.readers["z"]
    found, whole = reader.features(batch), plain.readers["z"].features(batch)
    torch.testing.assert_close(found[:, : whole.shape[1]], whole)
    layers, mask = reader.read(batch)
    first, place = batch.prompt.shape[1], whole.shape[1]
    assert batch.annotations is not None
    for label in (1, 2):
        for b in range(len(batch)):
            chosen = [t for t in range(batch.annotations.shape[1]) if batch.annotations[b, t] == label]
            means = [
                layer[b, [first + t for t in chosen]].mean(0) if chosen else 0 * layer[b, 0]
                for layer in layers
            ]
            expected = torch.cat([*means, torch.tensor([len(chosen) / int(mask[b].sum())])])
            torch.testing.assert_close(
                found[b, place : place + len(expected)], expected, atol=1e-5, rtol=1e-5
            )
        place += len(expected)
    assert place == found.shape[1]
    without = reader.features(replace(batch, annotations=None))
    torch.testing.assert_close(without[:, : whole.shape[1]], whole)
    assert not without[:, whole.shape[1] :].any()


def test_labels_belong_to_their_tokens_however_long_the_response(
    make_backbone: MakeBackbone, make_batch: MakeBatch, randomise: Randomise
) -> None:
    """A dream is shorter or longer than the response that its labels were made for."""
    backbone = make_backbone("llama")
    model, batch = annotated_lm(backbone), with_labels(make_batch(backbone, responses=(5, 4, 5)))
    guide = AnnotatedGuide(model)
    randomise(guide, backbone=False)
    assert batch.annotations is not None
    assert batch.response is not None
    assert batch.response_mask is not None
    cut = batch.annotations.clone()
    cut[:, 3:] = 0
    expected, found = (
        guide.posterior(replace(batch, annotations=labels))["z"].logits for labels in (cut, cut[:, :3])
    )
    torch.testing.assert_close(found, expected)
    short = {"response": batch.response[:, :2], "response_mask": batch.response_mask[:, :2]}
    expected, found = (
        guide.posterior(replace(batch, annotations=labels, **short))["z"].logits
        for labels in (batch.annotations[:, :2], batch.annotations)
    )
    torch.testing.assert_close(found, expected)


def test_kept_features_are_those_of_the_labels(make_backbone: MakeBackbone) -> None:
    backbone = make_backbone("llama")
    one, other = AnnotatedGuide(annotated_lm(backbone)), AmortizedGuide(annotated_lm(backbone))
    assert one.readers["z"].name != other.readers["z"].name


def test_names_that_cannot_be_told_apart_are_refused(make_backbone: MakeBackbone) -> None:
    backbone = make_backbone("llama")
    entry = partial(KeyValuePrefix, length=2)
    for names in (None, [], ["a", "a"], ["O", "a"]):
        with pytest.raises(ValueError, match=r"Set data\.annotations"):
            AnnotatedLM(backbone, {"z": Categorical(2)}, UniformPrior, entry, annotations=names)
    plain = LatentLM(backbone, {"z": Categorical(2)}, UniformPrior, entry)
    with pytest.raises(ValueError, match="set model=annotated"):
        AnnotatedGuide(plain)
    with pytest.raises(ValueError, match="fit with model=annotated"):
        plain.generate("s1", max_new_tokens=4, annotations=["verb"])


@pytest.mark.parametrize("suffix", [".jsonl", ".csv"])
@pytest.mark.parametrize("kind", ["pairs", "texts"])
def test_a_column_of_labels(suffix: str, kind: str, tmp_path: Path) -> None:
    backbone = tiny_backbone()
    rows = [(f"a {w} {v}", f"{v} {w}", ["0", "O"]) for w in "abcdef" for v in "abcdef"]
    path = tmp_path / f"rows{suffix}"
    if suffix == ".csv":
        path.write_text("prompt,text,roles\n" + "".join(f"{x},{y},{' '.join(a)}\n" for x, y, a in rows))
    else:
        path.write_text(
            "".join(json.dumps({"prompt": x, "text": y, "roles": [0, None]}) + "\n" for x, y, _ in rows)
        )
    settings = {"annotation_column": "roles", "annotations": ["0", "verb"], "annotated": 0.5}
    data: FileData | TextData = (
        FileData(path, response_column="text", **settings)
        if kind == "pairs"
        else TextData(path, "text", **settings)
    )
    test, train = (make_dataset(backbone, data, split, 0, tmp_path) for split in ("test", "train"))
    assert {e.annotations for e in test.examples} == {(1, 0, 0)}
    assert {e.annotations for e in train.examples} == {(1, 0, 0), ()}
    share = sum(bool(e.annotations) for e in train.examples) / len(train)
    assert 0.25 < share < 0.75
    batch = train.batch(range(len(train)))
    assert batch.annotations is not None
    assert batch.annotations.sum(1).tolist() == [sum(e.annotations) for e in train.examples]
    assert test.batch([0]).without_response(5).annotations is not None


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sorted numbers, each word labelled by the mark that will stand between the steps."""
    path, task, rng = tmp_path_factory.mktemp("pairs") / "pairs.jsonl", Sorting(), random.Random(0)
    with path.open("w") as file:
        for prompt in task.prompts(200, "train", 0, True):
            response = task.sample(prompt, rng).response
            label = "BAR" if "|" in response else "SEMICOLON" if ";" in response else "O"
            labels = [label] * len(response.split())
            file.write(json.dumps({"prompt": prompt, "response": response, "marks": labels}) + "\n")
    return path


ASKED = ["data.annotation_column=marks", "data.annotations=[BAR,SEMICOLON]"]


@pytest.fixture(scope="module")
def run(pairs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "annotated"
    settings = ["data=pairs", f"path={pairs}", "model=annotated", *ASKED, "data.annotated=0.9"]
    settings += [
        "fit.steps=60",
        "fit.eval_every=60",
        "fit.progress=false",
        "device=cpu",
        "data.max_new_tokens=24",
    ]
    with own_logging():
        main(["fit", *settings, "inference=beta_elbo", "fit.start_cost=0", f"run={folder}"])
    return folder


def test_a_fit_learns_what_the_labels_mean(run: Path) -> None:
    model = AnnotatedLM.from_pretrained(run)
    for label, mark in (("BAR", "|"), ("SEMICOLON", ";")):
        found = generate(
            model, ["sort 4 3 2 1 :", "sort 9 1 8 2 7 :"], n=10, annotations=[label] * 24, max_new_tokens=24
        )
        texts = [g.text for g in found if ";" in g.text or "|" in g.text]
        assert len(texts) >= 15
        assert sum(mark in text for text in texts) >= 0.9 * len(texts)


def test_the_commands_take_labels(run: Path, pairs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["generate", f"run={run}", "prompt=sort 4 3 2 1 :", "n=3", "annotations=[BAR,BAR,BAR,BAR,BAR]"])
    assert len(capsys.readouterr().out.splitlines()) == 3
    out = {}
    for name, words in {"with": ["data.annotation_column=marks"], "without": []}.items():
        path = pairs.with_name(f"{name}.jsonl")
        main(["infer", f"run={run}", "data=pairs", f"path={pairs}", f"out={path}", *words])
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        out[name] = sum(row["log_p"] for row in rows) / len(rows)
    assert out["with"] > out["without"] + 0.3
    with own_logging():
        main(["evaluate", f"run={run}", "limit=20"])
    assert json.loads((run / "evaluation.json").read_text())["fidelity/kl_per_token"] < 1


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["data.annotation_column=marks"], "got none"),
        (["data.annotations=[BAR]"], "without the column"),
        (["data.annotation_column=nope", "data.annotations=[BAR]"], "no column nope"),
        (["data.annotation_column=marks", "data.annotations=[BAR]"], "'SEMICOLON' is none of BAR"),
        ([*ASKED, "data.annotated=2"], "data.annotated must be between 0 and 1"),
        ([*ASKED, "model=latent_lm"], "set model=annotated"),
    ],
)
def test_settings_that_do_not_go_together(
    words: list[str], message: str, pairs: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    settings = ["data=pairs", f"path={pairs}", "model=annotated", "fit.steps=2", f"run={tmp_path / 'run'}"]
    if "model=latent_lm" in words:
        settings.remove("model=annotated")
    with own_logging(), pytest.raises(SystemExit):
        main(["fit", *settings, *words])
    assert message in "".join(capfd.readouterr())
