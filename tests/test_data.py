"""Where prompts and responses come from, and what is refused on the way."""

from __future__ import annotations

import json
import logging
import runpy
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from stratagem.inference.data import Data, FileData, TaskData, TextData
from stratagem.inference.dataset import Dataset, cache_path, make_dataset, sample_base, truncate
from stratagem.inference.labels import labels_of
from stratagem.inference.response_cache import response_cache
from stratagem.models import Backbone, Example, LanguageModel, encode_prompt
from stratagem.models.backbone import BASE
from stratagem.models.text import encode
from stratagem.tasks import Sorting, split_of

from .fit_fixtures import CONTEXT, WORDS, save_tiny_base, tiny_backbone, tiny_prompts

SPLITS = ("train", "test")


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    return tiny_backbone()


def write_pairs(path: Path, prompts: list[str], responses: list[str]) -> Path:
    """Pairs in the format of the suffix, with one more column."""
    rows = list(zip(prompts, responses, strict=True))
    if path.suffix == ".jsonl":
        lines = [json.dumps({"prompt": x, "more": i, "response": y}) for i, (x, y) in enumerate(rows)]
    else:
        mark = {".csv": ",", ".tsv": "\t"}[path.suffix]
        lines = [mark.join(["prompt", "more", "response"])]
        lines += [mark.join([x, str(i), y]) for i, (x, y) in enumerate(rows)]
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl"])
def test_pairs_of_a_file(suffix: str, backbone: Backbone, tmp_path: Path) -> None:
    prompts = [p for p in tiny_prompts(20) for _ in range(2)]
    responses = [f"{WORDS[i % 6]} {WORDS[i // 6 % 6]}" for i in range(40)]
    data = FileData(write_pairs(tmp_path / f"pairs{suffix}", prompts, responses), test_share=0.25)
    texts = {split: data.texts(split, 0) for split in SPLITS}
    found = [pair for t in texts.values() for pair in zip(t.prompts, t.responses, strict=True)]
    assert sorted(found) == sorted(zip(prompts, responses, strict=True))
    assert {split_of(prompt, 0.25) for prompt in texts["test"].prompts} == {"test"}
    assert {split_of(prompt, 0.25) for prompt in texts["train"].prompts} == {"train"}
    made = make_dataset(backbone, data, "train", 0, tmp_path / "cache")
    assert list(zip(made.prompts, made.responses, strict=True)) == found[: len(made)]
    assert made.examples[0] == encode(backbone, *found[0])
    assert made.examples[0].response[-1] == backbone.eos_ids[0]
    assert not (tmp_path / "cache").exists()


def test_openings_that_a_model_writes_itself_are_prompts(tmp_path: Path) -> None:
    base = save_tiny_base(tmp_path / "base")
    script = runpy.run_path(str(Path(__file__).parents[1] / "examples" / "own_openings.py"))
    found = script["openings"](str(base), 20, 4)
    assert found == script["openings"](str(base), 20, 4)
    assert len(set(found)) == 20
    assert max(len(text.split()) for text in found) == 4
    with pytest.raises(ValueError, match="different openings of 1 tokens and no more; ask for fewer"):
        script["openings"](str(base), 5000, 1)


def test_prompts_of_a_text_file_get_responses_from_the_base(backbone: Backbone, tmp_path: Path) -> None:
    path = tmp_path / "prompts.txt"
    path.write_text("\n".join(tiny_prompts(12)) + "\n\n")
    data = FileData(path, response_column=None, responses_per_prompt=3, test_share=0.25, max_new_tokens=5)
    train, test = (make_dataset(backbone, data, split, 0, tmp_path / "cache") for split in SPLITS)
    assert len(train) + len(test) == 36
    assert not set(train.prompts) & set(test.prompts)
    assert set(Counter([*train.prompts, *test.prompts]).values()) == {3}
    assert all(1 <= len(e.response) <= 5 for e in train.examples)
    assert all(e.response[-1] == backbone.eos_ids[0] or len(e.response) == 5 for e in train.examples)
    assert len({e.response for e in train.examples}) > 9, (
        "draws differ from prompt to prompt and draw to draw"
    )


def test_which_prompts_are_held_out_depends_on_no_seed_and_no_other_prompt(tmp_path: Path) -> None:
    few, more = tmp_path / "few.txt", tmp_path / "more.txt"
    prompts = [f"prompt {i}" for i in range(4000)]
    few.write_text("\n".join(prompts[:1000]))
    more.write_text("\n".join(prompts[::-1]))
    before, again, after = (
        set(FileData(path, response_column=None).texts("test", seed).prompts)
        for path, seed in ((few, 0), (few, 1), (more, 0))
    )
    assert before == again == after & set(prompts[:1000])
    assert abs(len(after) / 4000 - 0.1) < 4 * (0.09 / 4000) ** 0.5


@pytest.mark.parametrize("share", [0.0001, 0.9999])
def test_each_split_has_a_prompt(share: float, tmp_path: Path) -> None:
    path = tmp_path / "prompts.txt"
    path.write_text("a\nb\nb\nc\n")
    data = FileData(path, response_column=None, test_share=share)
    parts = {split: data.texts(split, 0).prompts for split in SPLITS}
    assert sorted(parts["train"] + parts["test"]) == ["a", "b", "c"]
    assert len(parts["test" if share < 0.5 else "train"]) == 1


def test_a_blank_cell_is_no_label_and_a_word_is_one(tmp_path: Path) -> None:
    path = tmp_path / "pairs.csv"
    path.write_text("prompt,response,kind\na,x,none\nb,x,\nc,x,unknown\n")
    data = FileData(path, separator=" :")
    held_out = Dataset([], ["b :", "c :", "a :"], ["y", "y", "y"], 0)
    assert labels_of(held_out, data, "kind") == ["unknown", "unknown", "none"]


def test_the_separator_ends_each_prompt(tmp_path: Path) -> None:
    path = write_pairs(tmp_path / "p.csv", ["a", "b", "c"], ["d", "e", "f"])
    texts = FileData(path, separator=" f").texts("train", 0)
    assert all(prompt.endswith(" f") and len(prompt) == 3 for prompt in texts.prompts)


def test_texts_without_a_prompt_begin_with_the_begin_token(backbone: Backbone, tmp_path: Path) -> None:
    texts = tiny_prompts(10)
    path = tmp_path / "texts.txt"
    path.write_text("\n".join([*texts, texts[0]]))
    data = TextData(path, test_share=0.4)
    parts = {split: make_dataset(backbone, data, split, 0, tmp_path / "cache") for split in SPLITS}
    assert sorted(text for part in parts.values() for text in part.responses) == sorted([*texts, texts[0]])
    assert not set(parts["test"].responses) & set(parts["train"].responses)
    example = parts["train"].examples[0]
    assert example.prompt == (backbone.bos_id,)
    assert example.response == encode(backbone, "a", parts["train"].responses[0]).response
    assert data.pairs == [("", text) for text in [*texts, texts[0]]]


def test_texts_without_a_file_are_drawn_from_the_base(backbone: Backbone, tmp_path: Path) -> None:
    data = TextData(num_train=400, num_test=5, max_new_tokens=1)
    train, test = (make_dataset(backbone, data, split, 0, tmp_path / "cache") for split in SPLITS)
    assert (len(train), len(test), data.pairs) == (400, 5, [])
    start = torch.tensor([[backbone.bos_id]])
    law = LanguageModel(backbone, encode_prompt(backbone, BASE, start, start >= 0), max_length=1)
    first = torch.tensor([example.response[0] for example in train.examples])
    for token, count in zip(*first.unique(return_counts=True), strict=True):
        p = float(law.log_prob(token.view(1, 1)).exp())
        assert abs(float(count) / 400 - p) < 5 * (p * (1 - p) / 400) ** 0.5


def test_texts_that_are_drawn_are_held_out_by_another_seed(backbone: Backbone, tmp_path: Path) -> None:
    data = TextData(num_train=40, num_test=40, max_new_tokens=12)
    train, test, again = (
        make_dataset(backbone, data, split, seed, tmp_path / "cache").examples
        for split, seed in (("train", 0), ("test", 0), ("train", 1))
    )
    assert sum(a == b for a, b in zip(train, test, strict=True)) < 5
    assert sum(a == b for a, b in zip(train, again, strict=True)) < 5


def test_responses_are_kept_for_one_law_one_set_of_prompts_and_one_seed(tmp_path: Path) -> None:
    backbone, other = tiny_backbone(), tiny_backbone(dtype=torch.bfloat16)
    asked = [encode(backbone, text) for text in tiny_prompts(3)]
    assert backbone.fingerprint == other.fingerprint
    paths = {
        cache_path(tmp_path, "test", lm, prompts, length, seed)
        for lm in (backbone, other)
        for prompts in (asked, asked[:2])
        for length in (4, 5)
        for seed in (0, 1)
    }
    assert len(paths) == 16
    backbone.lm.generation_config.eos_token_id = [1, 3]
    assert cache_path(tmp_path, "test", backbone, asked, 4, 0) not in paths


def test_a_tokenizer_without_a_begin_token_has_no_texts_without_a_prompt() -> None:
    backbone = tiny_backbone()
    backbone.tokenizer.bos_token = None
    with pytest.raises(ValueError, match=r"empty prompt: the tokenizer has no begin token .*; give a prompt"):
        encode(backbone, "", "a")


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"test_share": 1.0}, r"data\.test_share must be between 0 and 1, got 1\.0"),
        ({"num_train": 0}, r"data\.num_train must be at least 1, got 0"),
        ({"column": "sentence"}, r"no column sentence; .* Set data\.column to one"),
        ({"path": "one"}, r"a fit needs at least 2 distinct texts, one of them held out; got 1"),
    ],
)
def test_settings_of_texts_out_of_range_are_named(
    settings: dict[str, Any], named: str, tmp_path: Path
) -> None:
    one = tmp_path / "one.txt"
    one.write_text("a b\na b\n")
    path = tmp_path / "texts.csv"
    path.write_text("text,id\na,0\nb,1\n")
    with pytest.raises(ValueError, match=named):
        TextData(**({"path": path} | settings | ({"path": one} if "path" in settings else {})))


def test_a_task_gives_prompts_of_its_own_splits() -> None:
    task = Sorting()
    data = TaskData(task, num_train=50, num_test=20)
    texts = {split: data.texts(split, 0) for split in SPLITS}
    assert {split: len(t.prompts) for split, t in texts.items()} == {"train": 50, "test": 20}
    for split, t in texts.items():
        assert {split_of(prompt) for prompt in t.prompts} == {split}
        assert t.responses == [None] * len(t.prompts)
    assert data.texts("train", 0) == texts["train"] != data.texts("train", 1)


def test_a_task_gives_responses_of_its_own_mixture() -> None:
    task = Sorting()
    data = TaskData(task, num_train=60, num_test=20, responses="task")
    texts = data.texts("train", 0)
    assert all(
        y is not None and y in task.law(x) for x, y in zip(texts.prompts, texts.responses, strict=True)
    )
    found = {
        s for x, y in zip(texts.prompts, texts.responses, strict=True) for s in task.strategies_of(x, y or "")
    }
    assert found == set(task.strategies)
    assert data.texts("train", 0) == texts


def examples_of(backbone: Backbone, num: int) -> list[Example]:
    return [encode(backbone, prompt) for prompt in tiny_prompts(num)]


def test_draws_from_the_base_depend_on_the_seed_and_leave_the_generator_alone(backbone: Backbone) -> None:
    examples = examples_of(backbone, 40)
    torch.manual_seed(5)
    before = torch.get_rng_state()
    first = sample_base(backbone, examples, 6, seed=1)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(6)
    assert sample_base(backbone, examples, 6, seed=1) == first
    assert sample_base(backbone, examples, 6, seed=2) != first


def test_draws_from_the_base_follow_its_law(backbone: Backbone) -> None:
    example = encode(backbone, "a b")
    draws = sample_base(backbone, [example] * 4000, 1, seed=0)
    ids = torch.tensor([example.prompt])
    prompt = encode_prompt(backbone, BASE, ids, torch.ones_like(ids, dtype=torch.bool))
    with torch.no_grad():
        every = torch.arange(backbone.vocab_size)[:, None, None]
        p = LanguageModel(backbone, prompt, max_length=1).log_prob(every)[:, 0].exp()
    share = torch.bincount(torch.tensor([d[0] for d in draws]), minlength=backbone.vocab_size) / len(draws)
    # 4 standard errors on ten shares: a false alarm once in 1600 seeds, of which this is one.
    assert ((share - p).abs() <= 4 * (p * (1 - p) / len(draws)).sqrt() + 1e-6).all()


def test_draws_are_made_once_and_then_read(backbone: Backbone, tmp_path: Path) -> None:
    examples, cache = examples_of(backbone, 5), tmp_path / "deep" / "draws.jsonl"
    first = sample_base(backbone, examples, 6, seed=0, cache=cache)
    lines = cache.read_text().splitlines()
    assert [tuple(json.loads(line)["response_ids"]) for line in lines] == first
    row = json.loads(lines[0])
    row["response_ids"] = [4, 4]
    cache.write_text("\n".join([json.dumps(row), *lines[1:]]))
    assert sample_base(backbone, examples, 6, seed=0, cache=cache) == [(4, 4), *first[1:]]


@pytest.mark.parametrize(
    ("seed", "num", "length", "other"), [(1, 12, 5, 0), (0, 11, 5, 0), (0, 12, 4, 0), (0, 12, 5, 1)]
)
def test_what_was_drawn_for_something_else_is_not_read(
    seed: int, num: int, length: int, other: int, tmp_path: Path
) -> None:
    """Another seed, other prompts, another length, another base: each has a file of its own."""

    def draw(seed: int, num: int, length: int, base: int) -> list[Example]:
        path = tmp_path / f"{num}.txt"
        path.write_text("\n".join(tiny_prompts(num)))
        data = FileData(path, response_column=None, max_new_tokens=length)
        return make_dataset(tiny_backbone(seed=base), data, "train", seed, tmp_path / "cache").examples

    first = draw(0, 12, 5, 0)
    assert draw(0, 12, 5, 0) == first
    assert len(list((tmp_path / "cache").iterdir())) == 1
    draw(seed, num, length, other)
    assert len(list((tmp_path / "cache").iterdir())) == 2


@pytest.mark.parametrize(
    ("variables", "folder"),
    [
        ({"STRATAGEM_CACHE": "/c", "XDG_CACHE_HOME": "/x"}, Path("/c")),
        ({"STRATAGEM_CACHE": ""}, None),
        ({"XDG_CACHE_HOME": "/x", "HOME": "/h"}, Path("/x/stratagem")),
        ({"HOME": "/h"}, Path("/h/.cache/stratagem")),
        ({"STRATAGEM_CACHE": "~/c", "HOME": "/h"}, Path("/h/c")),
    ],
)
def test_the_folder_that_runs_share_is_named_by_the_environment(
    variables: dict[str, str], folder: Path | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("STRATAGEM_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert response_cache() == folder


def prompts_alone(tmp_path: Path) -> FileData:
    path = tmp_path / "prompts.txt"
    path.write_text("\n".join(tiny_prompts(12)))
    return FileData(path, response_column=None, max_new_tokens=5)


def test_a_second_run_reads_what_the_first_sampled(tmp_path: Path) -> None:
    data, shared = prompts_alone(tmp_path), tmp_path / "shared"
    first = make_dataset(tiny_backbone(), data, "train", 0, tmp_path / "first", shared)
    (file,) = shared.iterdir()
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    rows[0]["response_ids"] = [4, 4]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    second = make_dataset(tiny_backbone(), data, "train", 0, tmp_path / "second", shared)
    assert [e.response for e in second.examples] == [(4, 4), *(e.response for e in first.examples[1:])]
    assert (tmp_path / "second" / file.name).read_bytes() == file.read_bytes()
    make_dataset(tiny_backbone(), data, "train", 0, tmp_path / "first", shared)
    assert json.loads((tmp_path / "first" / file.name).read_text().splitlines()[0]) != rows[0]


def test_a_shared_folder_that_cannot_be_used_costs_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "file"
    file.write_text("")
    made = make_dataset(tiny_backbone(), prompts_alone(tmp_path), "train", 0, tmp_path / "run", file)
    assert all(e.response for e in made.examples)
    assert "set STRATAGEM_CACHE to a folder, or to nothing" in caplog.text


def long_pairs(tmp_path: Path) -> Path:
    """Twelve prompts, of which two do not fit, with a response of three words."""
    prompts = [*tiny_prompts(10), "a b " * 30 + "c", "d e " * 40 + "f"]
    return write_pairs(tmp_path / "pairs.csv", prompts, ["a b c"] * 12)


def both(backbone: Backbone, data: Data, tmp_path: Path) -> list[Example]:
    return [e for s in SPLITS for e in make_dataset(backbone, data, s, 0, tmp_path / "cache").examples]


@pytest.mark.parametrize("response_column", ["response", None])
def test_what_is_too_long_is_refused_naming_prompt_and_limit(
    response_column: str | None, backbone: Backbone, tmp_path: Path
) -> None:
    data = FileData(long_pairs(tmp_path), response_column=response_column, max_new_tokens=4)
    with pytest.raises(
        ValueError, match=rf"prompt '(a b|d e) .*…': .* context of {CONTEXT} tokens of tiny"
    ) as caught:
        both(backbone, data, tmp_path)
    assert "data.truncate=true" in str(caught.value)
    assert len(str(caught.value)) < 400


def test_room_for_the_response_counts(backbone: Backbone, tmp_path: Path) -> None:
    """A prompt that fits alone, but not with what is to be sampled."""
    path = tmp_path / "p.txt"
    path.write_text("a\n" + "b " * (CONTEXT - 4) + "\n")
    fits = FileData(path, response_column=None, max_new_tokens=3)
    assert len(both(backbone, fits, tmp_path)) == 2
    with pytest.raises(ValueError, match="45 prompt tokens and 4 response tokens"):
        both(backbone, FileData(path, response_column=None, max_new_tokens=4), tmp_path)


@pytest.mark.parametrize("response_column", ["response", None])
def test_what_is_too_long_is_cut_if_one_asks_and_counted(
    response_column: str | None, backbone: Backbone, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    data = FileData(long_pairs(tmp_path), response_column=response_column, max_new_tokens=6, truncate=True)
    with caplog.at_level(logging.WARNING):
        found = both(backbone, data, tmp_path)
    assert len(found) == 12
    assert all(len(e.prompt) + max(len(e.response), 0) <= CONTEXT for e in found)
    counts = [record.getMessage().split()[0] for record in caplog.records]
    assert sum(map(int, counts)) == 2
    assert all(f"cut to the context of {CONTEXT} tokens" in record.getMessage() for record in caplog.records)
    cut = [e for e in found if len(e.prompt) > 10]
    assert len(cut) == 2
    endings = [backbone.tokenizer.convert_tokens_to_ids(word) for word in ("c", "f")]
    assert sorted(e.prompt[-1] for e in cut) == sorted(endings), "the end of a prompt is what is answered"
    assert all(e.prompt[0] == backbone.bos_id for e in cut)


def test_nothing_is_cut_that_fits(
    backbone: Backbone, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = write_pairs(tmp_path / "p.csv", tiny_prompts(6), ["a b c"] * 6)
    found = [both(backbone, FileData(path, truncate=cut), tmp_path) for cut in (False, True)]
    assert found[0] == found[1]
    assert caplog.records == []


@pytest.mark.parametrize(("prompt", "response"), [(3, 200), (200, 3), (200, 200), (47, 2), (2, 47), (47, 47)])
def test_a_cut_example_fills_the_context(prompt: int, response: int, backbone: Backbone) -> None:
    whole = Example((backbone.bos_id, *range(5, 4 + prompt)), tuple(range(300, 300 + response)))
    cut = truncate(backbone, whole, 0)
    assert len(cut.prompt) + len(cut.response) == CONTEXT
    assert cut.prompt[0] == backbone.bos_id
    assert cut.prompt[1:] == whole.prompt[len(whole.prompt) - len(cut.prompt) + 1 :]
    assert cut.response == whole.response[: len(cut.response)]
    assert min(len(cut.response), len(cut.prompt)) >= min(prompt, response, CONTEXT // 2)


@pytest.mark.parametrize(
    ("prompt", "response", "named"),
    [
        ("", "a", r"line 3: the prompt \(column prompt\) is blank"),
        ("  ", "a", r"line 3: the prompt \(column prompt\) is blank"),
        ("a", "", r"line 3: the response \(column response\) is empty"),
    ],
)
def test_empty_texts_are_refused_with_their_line(
    prompt: str, response: str, named: str, tmp_path: Path
) -> None:
    path = write_pairs(tmp_path / "p.csv", ["a", prompt, "b"], ["c", response, "d"])
    with pytest.raises(ValueError, match=named):
        FileData(path)


def test_a_response_of_blanks_is_refused(backbone: Backbone, tmp_path: Path) -> None:
    path = write_pairs(tmp_path / "p.csv", ["a", "b c", "d"], ["c", "  ", "d"])
    with pytest.raises(ValueError, match="empty response to the prompt 'b c'"):
        both(backbone, FileData(path), tmp_path)


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"path": None}, "no file given; pass path=FILE"),
        ({"test_share": 0.0}, r"data\.test_share must be between 0 and 1, got 0\.0"),
        ({"test_share": 1.0}, r"data\.test_share"),
        ({"responses_per_prompt": 0}, r"data\.responses_per_prompt must be at least 1, got 0"),
        ({"max_new_tokens": 0}, r"data\.max_new_tokens must be at least 1"),
        ({"prompt_column": "question"}, "no column question; there are prompt, more, response"),
        ({"response_column": "answer"}, r"no column answer; .* Set data\.response_column to one"),
    ],
)
def test_settings_of_a_file_out_of_range_are_named(
    settings: dict[str, Any], named: str, tmp_path: Path
) -> None:
    path = write_pairs(tmp_path / "p.csv", ["a", "b"], ["c", "d"])
    with pytest.raises(ValueError, match=named):
        FileData(**({"path": path} | settings))


def test_one_prompt_alone_cannot_be_split(tmp_path: Path) -> None:
    path = write_pairs(tmp_path / "p.csv", ["a", "a"], ["c", "d"])
    with pytest.raises(ValueError, match=r"p\.csv: a fit needs at least 2 distinct prompts"):
        FileData(path).texts("train", 0)


def test_two_prompts_can(tmp_path: Path) -> None:
    data = FileData(write_pairs(tmp_path / "p.csv", ["a", "b"], ["c", "d"]))
    assert sorted(data.texts("train", 0).prompts + data.texts("test", 0).prompts) == ["a", "b"]


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"responses": "mine"}, r"data\.responses must be base or task, got mine"),
        ({"num_train": 0}, r"data\.num_train must be at least 1"),
        ({"num_test": -3}, r"data\.num_test must be at least 1, got -3"),
    ],
)
def test_settings_of_a_task_out_of_range_are_named(settings: dict[str, Any], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        TaskData(Sorting(), **settings)


def test_more_prompts_than_the_task_has_are_refused() -> None:
    with pytest.raises(ValueError, match="task sorting: asked for 900 distinct test prompts, found"):
        TaskData(Sorting(length=3), num_test=900).texts("test", 0)
