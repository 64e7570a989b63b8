"""Latent programs that are as they should be, and such as have one fault each, for the tests of the findings."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from stratagem.models import Batch, Categorical
from stratagem.models.text import decode, encode
from stratagem.tasks import Task
from torch import Tensor, nn

from .finite_law_fixtures import LENGTH, WORDS, Laws, Program, Route, Site, Speak, reference

Chosen = Callable[[Program, Batch, Mapping[str, Tensor]], Tensor]
"""``(*batch, B)``: which pattern a response follows."""


def patterns(P: int) -> Tensor:
    """``(P, T)``: words of P strategies that have none in common, as far as there are words."""
    each = len(WORDS) // 4
    return torch.tensor([[(each * k + (t + k) % each) % len(WORDS) for t in range(LENGTH)] for k in range(P)])


def following(chosen: Chosen, table: Tensor, own: float = 0.5, content: Sequence[int] = (3, 6)) -> Speak:
    """Each word is that of the chosen pattern with probability ``own``, else any; some tell of the prompt alone.

    Args:
        chosen: of a prompt and a value of the latents.
        table: ``(P, T)`` words.
        own: at least; the rest is spread over all words.
        content: places of the words that depend on the prompt, whatever the pattern.
    """

    def speak(program: Program, batch: Batch, z: Mapping[str, Tensor]) -> Laws:
        followed = chosen(program, batch, z)
        followed = followed.expand(torch.broadcast_shapes(followed.shape, (len(batch),)))
        words = table[followed]  # (*batch, B, T)
        words[..., list(content)] = program.key(batch, len(WORDS))[:, None]
        law = own * nn.functional.one_hot(words, len(WORDS)) + (1 - own) / len(WORDS)
        return program.tokens(law)[None], torch.zeros(1, *words.shape[:-1])

    return speak


def by_direction(name: str = "v", sharpness: float = 0.6, mirrored: bool = False, seed: int = 0) -> Speak:
    """Words whose log-odds are linear in a normal latent of two dimensions, with other slopes at every place.

    Args:
        name: of the latent.
        sharpness: size of the slopes.
        mirrored: whether the sign of its first coordinate has no part in it.
        seed: of the slopes.
    """
    slope = torch.randn(LENGTH, len(WORDS), 2, generator=torch.Generator().manual_seed(seed))

    def speak(program: Program, batch: Batch, z: Mapping[str, Tensor]) -> Laws:
        v = torch.stack([z[name][..., 0].abs(), z[name][..., 1]], -1) if mirrored else z[name]
        odds = sharpness * torch.einsum("twd,...d->...tw", slope, v)
        shape = torch.broadcast_shapes(odds.shape[:-2], (len(batch),))
        law = program.tokens(odds.softmax(-1))
        return law.expand(1, *shape, *law.shape[-2:]), torch.zeros(1, *shape)

    return speak


def strategies(
    P: int = 4, own: float = 0.5, base: Program | None = None, route: Route = reference
) -> Program:
    """P strategies that use words of their own."""
    return Program(
        {"z": Site(Categorical(P), route)}, following(lambda _, __, z: z["z"], patterns(P), own), base
    )


def hidden_beside(table: Tensor, marks: Sequence[int], own: float = 0.9, name: str = "z") -> Speak:
    """A mark of z, the same at three places of a response, beside patterns that are chosen at random, whatever z.

    Args:
        table: ``(M, T)`` words of the patterns.
        marks: a word for each value of z.
        own: as :func:`following` has it.
        name: of the latent.
    """
    places = torch.zeros(LENGTH, dtype=torch.bool)
    places[[1, 4, 7]] = True
    marked = [torch.stack([torch.where(places, mark, row) for mark in marks]) for row in table]

    def speak(program: Program, batch: Batch, z: Mapping[str, Tensor]) -> Laws:
        parts = [following(lambda *_: z[name], words, own)(program, batch, z) for words in marked]
        log_p, log_w = zip(*parts, strict=True)
        return torch.cat(log_p), torch.cat(log_w)

    return speak


def half_hidden(first: bool) -> Speak:
    """Each half of the words follows a pattern of two; z is that of one half, and the other's is hidden."""
    table, places = patterns(2), torch.arange(LENGTH) < LENGTH // 2
    if not first:
        places = ~places
    joined = [torch.where(places, table, hidden) for hidden in table]

    def speak(program: Program, batch: Batch, z: Mapping[str, Tensor]) -> Laws:
        parts = [following(lambda *_: z["z"], words, 0.9)(program, batch, z) for words in joined]
        log_p, log_w = zip(*parts, strict=True)
        return torch.cat(log_p), torch.cat(log_w)

    return speak


def of_task(task: Task, given: Callable[[str, int, int], Sequence[float]]) -> Program:
    """The task's own law, cut by z.

    Args:
        task: the task.
        given: ``p(z|x,s,n)`` from a prompt and the places of strategy and nuisance.
    """

    def joint(program: Program, batch: Batch) -> tuple[list[dict[tuple[int, ...], Tensor]], int]:
        """Of each prompt ``p(y,z|x)``, ``(P,)`` by response."""
        rows = []
        for ids, mask in zip(batch.prompt, batch.prompt_mask, strict=True):
            prompt = decode(program.backbone, ids[mask].tolist())
            row: dict[tuple[int, ...], Tensor] = {}
            for s, p_s in task.admissible(prompt).items():
                for n, p_n in zip(task.nuisances, task.nuisance_weights, strict=True):
                    response = encode(program.backbone, prompt, task.trace(prompt, s, n)).response
                    z = torch.tensor(given(prompt, task.strategies.index(s), task.nuisances.index(n)))
                    row[response] = row.get(response, 0.0) + p_s * p_n * z
            rows.append(row)
        return rows, max(len(response) for row in rows for response in row)

    def route(program: Program, batch: Batch, _: Mapping[str, Tensor]) -> Tensor:
        return (
            torch.stack([torch.stack(list(row.values())).sum(0) for row in joint(program, batch)[0]])
            .clamp(min=1e-12)
            .log()
        )

    def speak(program: Program, batch: Batch, z: Mapping[str, Tensor]) -> Laws:
        rows, length = joint(program, batch)
        modes, pad = max(map(len, rows)), program.backbone.pad_id
        ids = torch.full((modes, len(rows), length), pad)
        log_w = torch.full((modes, len(rows), P), -30.0)
        for b, row in enumerate(rows):
            for m, (response, p) in enumerate(row.items()):
                ids[m, b, : len(response)] = torch.tensor(response)
                log_w[m, b] = p.clamp(min=1e-12).log()
        log_p = nn.functional.one_hot(ids, program.backbone.vocab_size).float().clamp(min=1e-9).log()
        at = z["z"].expand(torch.broadcast_shapes(z["z"].shape, (len(rows),)))
        log_w = log_w[:, torch.arange(len(rows)), at]  # (M, *batch, B)
        return log_p.reshape(modes, *(1,) * (at.dim() - 1), *log_p.shape[1:]), log_w

    P = len(given(task.prompts(1, "test", 0)[0], 0, 0))
    return Program({"z": Site(Categorical(P), route)}, speak, words=task.vocabulary)
