"""What both sides are given: texts, tokenizers, and models in local folders in Hugging Face format."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from torch import Tensor
from torch.nn.functional import cross_entropy
from transformers import BertConfig, BertModel, GPT2Config, GPT2LMHeadModel

END = "<|endoftext|>"
"""Begins and ends a text."""


def words(number: int, seed: int = 0) -> list[str]:
    """Made-up words of one to four syllables."""
    draw = random.Random(seed)
    syllables = [a + b + c for a in "bdfgklmnprstvz" for b in "aeiou" for c in ("", "n", "r", "st", "l")]
    return sorted({"".join(draw.choices(syllables, k=draw.randint(1, 4))) for _ in range(number)})


def grammar(number: int, seed: int = 0) -> list[str]:
    """Different sentences of a small grammar with words of its own, for where no file of texts is given."""
    draw = random.Random(seed)
    names = words(400, seed)
    nouns, verbs, adjectives = names[::3], names[1::3], names[2::3]

    def phrase() -> str:
        described = f"{draw.choice(adjectives)} " if draw.random() < 0.5 else ""
        return f"{draw.choice(('a', 'the'))} {described}{draw.choice(nouns)}"

    def sentence() -> str:
        kind = draw.random()
        if kind < 0.3:
            return f"{phrase()} is a kind of {draw.choice(nouns)}"
        if kind < 0.6:
            return f"{phrase()} can {draw.choice(verbs)} {phrase()}"
        return (
            f"if {phrase()} is {draw.choice(adjectives)} then {phrase()} will {draw.choice(verbs)} {phrase()}"
        )

    found: dict[str, None] = {}
    while len(found) < number:
        found[sentence()] = None
    return list(found)


def byte_level(folder: Path, texts: Sequence[str], size: int) -> Tokenizer:
    """A byte-level BPE of ``size`` tokens, every text beginning with a blank, written to a folder."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=size, special_tokens=[END], initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    return _write(tokenizer, folder, {"bos_token": END, "eos_token": END, "unk_token": END, "pad_token": END})


def word_pieces(folder: Path, texts: Sequence[str], size: int) -> Tokenizer:
    """A WordPiece tokenizer as BERT's, written to a folder."""
    special = {f"{name}_token": f"[{name.upper()}]" for name in ("pad", "unk", "cls", "sep", "mask")}
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    trainer = trainers.WordPieceTrainer(
        vocab_size=size, special_tokens=list(special.values()), show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    ends = [(token, tokenizer.token_to_id(token)) for token in ("[CLS]", "[SEP]")]
    tokenizer.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=ends)
    return _write(tokenizer, folder, special)


def _write(tokenizer: Tokenizer, folder: Path, special: dict[str, str]) -> Tokenizer:
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    about = {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": 512, **special}
    (folder / "tokenizer_config.json").write_text(json.dumps(about))
    return tokenizer


def new_gpt2(tokenizer: Tokenizer, layers: int, width: int, context: int) -> GPT2LMHeadModel:
    """A GPT-2 with random weights, of heads 32 wide."""
    end = end_of(tokenizer)
    return GPT2LMHeadModel(
        GPT2Config(
            vocab_size=tokenizer.get_vocab_size(),
            n_positions=context,
            n_embd=width,
            n_layer=layers,
            n_head=width // 32,
            bos_token_id=end,
            eos_token_id=end,
        )
    )


def speed_material(folder: Path, length: int, number: int) -> None:
    """A random GPT-2 and BERT, and ``number`` texts of ``length`` tokens each, the end token included.

    Files: ``gpt2/``, ``bert/`` and ``texts.json`` with the texts and their tokens.
    """
    torch.manual_seed(0)
    draw = random.Random(0)
    vocabulary = words(20_000)
    corpus = [" ".join(draw.choices(vocabulary, k=12)) for _ in range(10_000)]
    bpe = byte_level(folder / "gpt2", corpus, 8192)
    new_gpt2(bpe, 6, 256, 128).save_pretrained(folder / "gpt2")
    pieces = word_pieces(folder / "bert", corpus, 8192)
    BertModel(
        BertConfig(
            vocab_size=pieces.get_vocab_size(),
            hidden_size=256,
            num_hidden_layers=4,
            num_attention_heads=4,
            intermediate_size=1024,
        )
    ).save_pretrained(folder / "bert")
    texts: list[str] = []
    while len(texts) < number:
        ids = bpe.encode(" ".join(draw.choices(vocabulary, k=length))).ids[: length - 1]
        text = bpe.decode(ids).strip()
        if bpe.encode(text).ids == ids:
            texts.append(text)
    rows = [[*bpe.encode(text).ids, end_of(bpe)] for text in texts]
    (folder / "texts.json").write_text(json.dumps({"texts": texts, "tokens": rows}))


def end_of(tokenizer: Tokenizer) -> int:
    """The token that begins and ends a text."""
    found = tokenizer.token_to_id(END)
    assert found is not None
    return found


def split(texts: Sequence[str], share: float = 0.1, seed: int = 0) -> tuple[list[str], list[str]]:
    """Those to train on, and a share that is held out."""
    shuffled = random.Random(seed).sample(list(texts), len(texts))
    held_out = max(1, round(share * len(shuffled)))
    return shuffled[held_out:], shuffled[:held_out]


def rows_of(tokenizer: Tokenizer, texts: Sequence[str]) -> list[list[int]]:
    """Token ids from the begin token to the end token."""
    end = end_of(tokenizer)
    return [[end, *encoding.ids, end] for encoding in tokenizer.encode_batch(list(texts))]


def padded(rows: Sequence[Sequence[int]], fill: int) -> tuple[Tensor, Tensor]:
    """``(B, T)`` ids, and which of them are tokens."""
    width = max(map(len, rows))
    ids = torch.tensor([[*row, *[fill] * (width - len(row))] for row in rows])
    return ids, torch.arange(width) < torch.tensor([[len(row)] for row in rows])


def log_probs(lm: GPT2LMHeadModel, rows: Sequence[Sequence[int]]) -> Tensor:
    """``log p0`` of rows of token ids, the first being given: nats each, ``(B,)``."""
    ids, mask = padded(rows, rows[0][0])
    logits = lm(input_ids=ids, attention_mask=mask.long()).logits[:, :-1]
    nll = cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten(), reduction="none")
    return -(nll.view(len(rows), -1) * mask[:, 1:]).sum(-1)


@torch.no_grad()
def score(folder: Path, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
    """``log p0`` of texts under the LM of a folder, ``(N,)`` nats each, and their tokens, ends included."""
    lm = GPT2LMHeadModel.from_pretrained(folder).eval()
    rows = rows_of(Tokenizer.from_file(str(folder / "tokenizer.json")), texts)
    found = [log_probs(lm, rows[i : i + 64]) for i in range(0, len(rows), 64)]
    return torch.cat(found), torch.tensor([len(row) - 1 for row in rows])


def train_lm(
    folder: Path, texts: Sequence[str], layers: int, width: int, epochs: int = 6, size: int = 32
) -> None:
    """A GPT-2 over a BPE of 2048, trained on texts; the epoch that is best on 5 % of them is kept."""
    torch.manual_seed(0)
    tokenizer = byte_level(folder, texts, 2048)
    lm = new_gpt2(tokenizer, layers, width, 64)
    train, valid = split(texts, 0.05, 1)
    rows, held_out = rows_of(tokenizer, train), rows_of(tokenizer, valid)
    optimizer = torch.optim.AdamW(lm.parameters(), 2e-3, weight_decay=0.05)
    steps = epochs * -(-len(rows) // size)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, total_steps=steps, pct_start=0.1)
    best = float("inf")
    for epoch in range(epochs):
        lm.train()
        order = sorted(range(len(rows)), key=lambda i: (len(rows[i]), torch.rand(()).item()))
        parts = [order[i : i + size] for i in range(0, len(rows), size)]  # of about one length each
        for j in torch.randperm(len(parts)).tolist():
            batch = [rows[i] for i in parts[j]]
            loss = -log_probs(lm, batch).sum() / sum(len(row) - 1 for row in batch)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(lm.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
        lm.eval()
        with torch.no_grad():
            nats = -float(log_probs(lm, held_out).mean())
        print(f"the LM's epoch {epoch + 1}: {nats:.2f} nats a text", flush=True)
        if nats < best:
            best = nats
            lm.save_pretrained(folder)


def quality_material(
    folder: Path, texts: Sequence[str], longest: int, layers: int = 4, width: int = 256
) -> None:
    """The split of texts of at most ``longest`` tokens, ends included, and an LM trained on one part; made once.

    Files: ``lm/`` and ``texts.json`` with ``train`` and ``test``.
    """
    if (folder / "texts.json").is_file():
        return
    train, test = split(sorted(set(texts)))
    train_lm(folder / "lm", train, layers, width)
    tokenizer = Tokenizer.from_file(str(folder / "lm" / "tokenizer.json"))
    kept = {
        name: [t for t, row in zip(part, rows_of(tokenizer, part), strict=True) if len(row) - 1 <= longest]
        for name, part in (("train", train), ("test", test))
    }
    (folder / "texts.json").write_text(json.dumps(kept))


@torch.no_grad()
def base_samples(folder: Path, number: int, longest: int) -> list[str]:
    """Texts drawn from the LM of a folder."""
    torch.manual_seed(0)
    lm = GPT2LMHeadModel.from_pretrained(folder).eval()
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    start = torch.full((number, 1), end_of(tokenizer))
    ids = lm.generate(
        start,
        attention_mask=torch.ones_like(start),
        do_sample=True,
        top_k=0,
        max_new_tokens=longest,
        pad_token_id=end_of(tokenizer),
    )
    return [text.strip() for text in tokenizer.decode_batch(ids.tolist())]
