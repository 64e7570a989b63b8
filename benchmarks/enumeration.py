"""The cost of summing over K strategies: prompts read once against a K-fold batch that reads them K times.

Both sides take one training step on ``-log (1/K) sum_z p(y|x,z)``: forward and backward, in float32, with a
frozen Llama of random weights and two key/value vectors a layer and strategy.

- shared: ``LatentLM.decoder(batch, z).log_prob(y)`` with z of shape ``(K, 1)``, prompts encoded within.
- naive: one Hugging Face forward of ``K * B`` rows over ``[prefix | x | y]``, with a mask by which only the
  last token of x and those of y see the prefix.

The naive side is given every other saving: gradients in the prefixes alone, logits only where the response is
predicted, and the same log-softmax. Before anything is timed it is checked that both give the same
log-probabilities and gradients, and that the strategies differ, so that the check says something.

Times are medians over runs that alternate in one process, the first of each pair changing; beside their ratio
stands that of the fastest runs. Where other jobs hold the cores, threads wait for each other at every kernel,
which costs the side with the smaller kernels, the shared one, more: ``--threads 1`` is the steadier measure
there, and the load average is printed.

Memory is the peak resident size (``ru_maxrss``) of a child process that takes one step, less that of a child
that only builds the model: weights and libraries cancel, and neither side sees what the other's allocator
kept. The children run before this process builds anything, since a child's ``ru_maxrss`` begins at its parent's.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from stratagem.models import Backbone, Batch, Categorical, KeyValuePrefix, LatentLM, UniformPrior
from stratagem.models.backbone.scratch import SPECIAL, symbol_tokenizer
from torch import Tensor
from transformers import DynamicCache, LlamaConfig, LlamaForCausalLM

VOCABULARY = 8192


@dataclass(frozen=True)
class Sizes:
    """What is run: K strategies, B rows, tokens of each prompt and each response."""

    strategies: int
    batch: int
    prompt: int
    response: int


BARS = {Sizes(8, 4, 256, 32): 4.0, Sizes(8, 4, 128, 32): 2.8}
"""Least speed-up asked for."""

LogProb = Callable[[LatentLM, Batch, Sizes], Tensor]


def new_model(sizes: Sizes) -> LatentLM:
    """A factorised Llama of 6 layers and hidden size 256, with random weights."""
    torch.manual_seed(0)
    context = sizes.prompt + sizes.response
    tokenizer = symbol_tokenizer([f"w{i}" for i in range(VOCABULARY - len(SPECIAL))], context)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=256,
        intermediate_size=688,
        num_hidden_layers=6,
        num_attention_heads=8,
        max_position_embeddings=context,
        initializer_range=0.06,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    backbone = Backbone(LlamaForCausalLM(config), tokenizer, name="random Llama")
    return LatentLM(backbone, {"z": Categorical(sizes.strategies)}, UniformPrior, KeyValuePrefix)


def new_batch(sizes: Sizes) -> Batch:
    """Random prompts and responses without padding, none of their tokens a special one."""
    torch.manual_seed(1)
    prompt = torch.randint(len(SPECIAL), VOCABULARY, (sizes.batch, sizes.prompt))
    response = torch.randint(len(SPECIAL), VOCABULARY, (sizes.batch, sizes.response))
    return Batch(
        prompt,
        torch.ones_like(prompt, dtype=torch.bool),
        response,
        torch.ones_like(response, dtype=torch.bool),
        max_length=sizes.response,
    )


def shared(model: LatentLM, batch: Batch, sizes: Sizes) -> Tensor:
    """``log p(y|x,z)`` of every z, ``(K, B)``, prompts encoded once."""
    assert batch.response is not None
    z = torch.arange(sizes.strategies)[:, None]
    return model.decoder(batch, {"z": z}).log_prob(batch.response)


def naive(model: LatentLM, batch: Batch, sizes: Sizes) -> Tensor:
    """The same ``(K, B)``, every strategy reading prompt and response."""
    assert batch.response is not None
    lead = (sizes.strategies, sizes.batch)
    prefix = model.memory({"z": torch.arange(sizes.strategies)[:, None]}).key_values
    assert prefix is not None
    layers = [
        tuple(t.expand(*lead, *t.shape[-3:]).flatten(0, 1) for t in layer)  # (K * B, heads, M, head_dim)
        for layer in zip(prefix.keys, prefix.values, strict=True)
    ]
    ids = torch.cat([batch.prompt, batch.response[:, :-1]], 1)  # (B, T)
    length, first = ids.shape[1], sizes.prompt - 1
    seen = torch.ones(length, prefix.length + length, dtype=torch.bool).tril(prefix.length)
    seen[:first, : prefix.length] = False
    mask = torch.zeros(seen.shape).masked_fill(~seen, torch.finfo(torch.float32).min)  # (T, M + T)
    lm = model.backbone.lm
    hidden = lm.base_model(
        input_ids=ids.repeat(sizes.strategies, 1),  # (K * B, T)
        attention_mask=mask.expand(sizes.strategies * sizes.batch, 1, -1, -1),
        position_ids=torch.arange(length).expand(sizes.strategies * sizes.batch, -1),
        past_key_values=DynamicCache(layers, config=lm.config),
        use_cache=True,
    ).last_hidden_state
    spoken = hidden[:, first:].flatten(0, 1)  # (K * B * Ty, hidden)
    tokens = batch.response.repeat(sizes.strategies, 1).flatten()
    log_p = model.backbone.token_log_prob("decoder", spoken, tokens)
    return log_p.reshape(*lead, -1).sum(-1)


SIDES: dict[str, LogProb] = {"shared": shared, "naive": naive}


def step(log_prob: LogProb, model: LatentLM, batch: Batch, sizes: Sizes) -> Tensor:
    """Forward and backward; the log-probabilities ``(K, B)``."""
    model.zero_grad(set_to_none=True)
    log_lik = log_prob(model, batch, sizes)
    (-log_lik.logsumexp(0).mean()).backward()
    return log_lik.detach()


def check(model: LatentLM, batch: Batch, sizes: Sizes) -> None:
    """Both sides agree: log-probabilities to 1e-4 nats a sequence and the rounding of float32, gradients to
    1e-4 of the largest; and the strategies differ by more than that.

    Raises:
        AssertionError: they do not.
    """
    log_lik, gradients = {}, {}
    for name, log_prob in SIDES.items():
        log_lik[name] = step(log_prob, model, batch, sizes)
        gradients[name] = {n: p.grad for n, p in model.named_parameters() if p.grad is not None}
    assert log_lik["shared"].std(0).min() > 1e-2, "the strategies hardly differ"
    torch.testing.assert_close(log_lik["shared"], log_lik["naive"], rtol=5e-7, atol=1e-4)
    assert gradients["shared"].keys() == gradients["naive"].keys()
    for name, expected in gradients["naive"].items():
        tolerance = 1e-4 * float(expected.abs().max())
        torch.testing.assert_close(gradients["shared"][name], expected, rtol=0, atol=tolerance)


def seconds(sizes: Sizes, alternations: int) -> dict[str, list[float]]:
    """Times of the steps of each side, after the check, which warms up both."""
    model, batch = new_model(sizes), new_batch(sizes)
    check(model, batch, sizes)
    times: dict[str, list[float]] = {name: [] for name in SIDES}
    for turn in range(alternations):
        for name in list(SIDES)[:: 1 if turn % 2 else -1]:
            start = time.perf_counter()
            step(SIDES[name], model, batch, sizes)
            times[name].append(time.perf_counter() - start)
    return times


def peak_of_this_process() -> float:
    """Peak resident size in MiB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)


def peak_of_child(side: str, sizes: Sizes, threads: int) -> float:
    """Peak resident size in MiB of a process that builds the model and takes one step of ``side``, if any."""
    command = [sys.executable, os.path.abspath(__file__), "--peak", side, "--threads", str(threads)]
    for name, value in vars(sizes).items():
        command += [f"--{name}", str(value)]
    return float(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)


def row(sizes: Sizes, peaks: dict[str, float], times: dict[str, list[float]]) -> tuple[str, bool]:
    """A row of the table, and whether its bar, if it has one, is met."""
    typical = {name: statistics.median(values) for name, values in times.items()}
    ratio = typical["naive"] / typical["shared"]
    bar = BARS.get(sizes)
    met = bar is None or ratio >= bar
    cells = [
        str(sizes.prompt),
        *(f"{typical[name]:.3f} s" for name in SIDES),
        f"{ratio:.2f}",
        "-" if bar is None else f"{bar:g} ({'met' if met else 'missed'})",
        f"{min(times['naive']) / min(times['shared']):.2f}",
        *(f"{peaks[name] - peaks['none']:.0f} MiB" for name in SIDES),
    ]
    return f"| {' | '.join(cells)} |", met


def main(argv: Sequence[str] | None = None) -> int:
    """Print the table; 1 where a bar is missed, else 0."""
    parser = argparse.ArgumentParser(description="Time and memory of K strategies, prompts shared and not.")
    parser.add_argument("--strategies", type=int, default=8, help="K")
    parser.add_argument("--batch", type=int, default=4, help="B, prompts in a batch")
    parser.add_argument("--prompt", type=int, nargs="+", default=[256, 128], help="tokens of a prompt")
    parser.add_argument("--response", type=int, default=32, help="tokens of a response")
    parser.add_argument("--alternations", type=int, default=7, help="timed steps of each side")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="of torch")
    parser.add_argument("--peak", choices=["none", *SIDES], help="one step; print the peak in MiB, and stop")
    args = parser.parse_args(argv)
    torch.set_num_threads(args.threads)
    runs = [Sizes(args.strategies, args.batch, prompt, args.response) for prompt in args.prompt]
    if args.peak:
        model, batch = new_model(runs[0]), new_batch(runs[0])
        if args.peak in SIDES:
            step(SIDES[args.peak], model, batch, runs[0])
        print(peak_of_this_process())
        return 0
    peaks = [{side: peak_of_child(side, sizes, args.threads) for side in ("none", *SIDES)} for sizes in runs]
    print(f"K = {args.strategies}, B = {args.batch}, {args.response} response tokens")
    machine = f"{args.threads} threads, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}"
    print(f"torch {torch.__version__}, {machine}\n")
    print("| prompt tokens | shared | naive | ratio | bar | ratio of fastest | shared, peak | naive, peak |")
    print("|---|---|---|---|---|---|---|---|")
    all_met = True
    for sizes, peak in zip(runs, peaks, strict=True):
        line, met = row(sizes, peak, seconds(sizes, args.alternations))
        print(line, flush=True)
        all_met &= met
    return 0 if all_met else 1


if __name__ == "__main__":
    sys.exit(main())
