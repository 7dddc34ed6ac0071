"""Generation by an encoder-decoder, against a decoder of as many parameters and against Transformers' T5, on the CPU.

    python -m bench.encoder_decoder [--parts=pair,t5] [--sources=128,512,1024] [--new=64] [--rounds=15] [--toy]

pair: layers 2/3 to 1/3 as in "Return of the Encoder" (arXiv 2501.16273), 4 + 2 of width 256 with the blocks of its 330M
model, and 7 such layers alone, whose feed-forward is narrowed until the parameters agree. The decoder reads the source
as its prompt. Time to the first token is that of a whole call for one token; tokens/s are those after the first.
Arithmetic on the 330M shapes gives 0.66 of the time and 2.4 times the tokens; the bars are 0.80 and 1.6 at the longest.

t5: `T5ForConditionalGeneration` with a shape of `experiments.pair_sizes` and random weights, and our pair with the same
weights. Logits and greedy tokens are compared first. Time is that of a whole call of either's `generate`, compiled
before; the bar is twice as fast.

Contestants run in turn in processes of their own. Ratios are medians of the ratios of the rounds, and their quartiles.
"""

from __future__ import annotations

import os
import statistics
from collections.abc import Sequence
from typing import Any

from absl import app, flags

from arch import cost
from bench.alternate import alternate, quartiles, table, together
from bench.pairs import agree, alone, pair, work

PARTS = flags.DEFINE_list("parts", ["pair", "t5"], "Which comparisons.")
SOURCES = flags.DEFINE_list("sources", ["128", "512", "1024"], "pair: tokens of the source.")
T5S = flags.DEFINE_list("t5s", ["t5-small"], "t5: names in experiments.pair_sizes.")
BATCHES = flags.DEFINE_list("batches", ["1", "8"], "t5: rows.")
SOURCE = flags.DEFINE_integer("source", 128, "t5: tokens of the source, the last quarter of every second row padding.")
NEW = flags.DEFINE_integer("new", 64, "New tokens.", lower_bound=2)
ROUNDS = flags.DEFINE_integer("rounds", 15, "Calls of each contestant, alternating.", lower_bound=1)
TOY = flags.DEFINE_bool("toy", False, "Tiny shapes, all in one process: whether it runs, not how fast.")

CONTESTANTS = "bench.pairs"
WARM_UP = 2
FIRST, RATE, T5 = 0.80, 1.6, 2.0
"""The bars: first token at most, tokens/s at least, times as fast as Transformers at least."""


def run_in_turn(contestants: dict[str, tuple[str, str, Any]]) -> dict[str, list[float]]:
    """Seconds of each contestant in each round."""
    return (together if TOY.value else alternate)(contestants, ROUNDS.value, WARM_UP)


def compare_pair(toy: bool) -> None:
    """Encoder-decoder against decoder, a line for each length of the source."""
    counts = {name: cost.parameters(spec(toy)).total for name, spec in (("pair", pair), ("alone", alone))}
    one, other = counts["pair"], counts["alone"]
    print(f"\nencoder-decoder 4+2, {one:,} parameters; decoder of 7 layers, {other:,} ({other / one - 1:+.2%})")
    print(f"batch 1, {NEW.value} new tokens, {ROUNDS.value} rounds")
    sources = [32] if toy else [int(text) for text in SOURCES.value]
    for source in sources:
        told = {"source": source, "toy": toy}
        seconds = run_in_turn(
            {f"{model}, {new} new": (CONTESTANTS, "writer", {"model": model, "new": new, **told})
             for model in counts for new in (1, NEW.value)}
        )  # fmt: skip
        print(f"\nsource of {source} tokens")
        print(table(seconds, f"pair, {NEW.value} new"))
        (first, step), (first_alone, step_alone) = (work(model, source, NEW.value, toy) for model in counts)
        one, other = (seconds[f"{model}, 1 new"] for model in counts)
        all_, all_other = (seconds[f"{model}, {NEW.value} new"] for model in counts)
        rest = [[a - b for a, b in zip(*both, strict=True)] for both in ((all_, one), (all_other, other))]
        last = source == sources[-1]
        lines = [
            ("first token, time", quartiles(one, other), first / first_alone, f"<= {FIRST}"),
            ("later tokens, tokens/s", quartiles(rest[1], rest[0]), step_alone / step, f">= {RATE}"),
            ("all tokens, tokens/s", quartiles(all_other, all_),
             (first_alone + (NEW.value - 1) * step_alone) / (first + (NEW.value - 1) * step), ""),
        ]  # fmt: skip
        print(f"{'pair over alone':24s} {'measured':>10s} {'quartiles':>13s} {'by FLOPs':>9s}  bar")
        for name, (low, median, high), counted, bar in lines:
            print(f"{name:24s} {median:10.2f} {low:6.2f} {high:6.2f} {counted:9.2f}  {bar if last else ''}", flush=True)


def compare_t5(name: str, batch: int, source: int) -> None:
    """Ours against Transformers', one shape and batch. Threads that wait for each other cost torch much on a busy
    machine, so that it runs on one as well, and the faster of the two is the rival."""
    told: dict[str, Any] = {"size": name, "batch": batch, "source": source, "new": NEW.value}
    print(f"\n{name}, batch {batch}, source of {source} tokens, {NEW.value} new tokens, {ROUNDS.value} rounds")
    print(agree({**told, "loop": "unroll"}), flush=True)
    rivals = {f"Transformers, threads {n}": {**told, "threads": n} for n in sorted({1, os.cpu_count() or 1})}
    seconds = run_in_turn(
        {
            "ours": (CONTESTANTS, "ours", {**told, "loop": "unroll"}),
            "ours, scanned": (CONTESTANTS, "ours", {**told, "loop": "scan"}),
            **{rival: (CONTESTANTS, "theirs", argument) for rival, argument in rivals.items()},
        }
    )
    print(table(seconds, "ours"))
    faster = min(rivals, key=lambda rival: statistics.median(seconds[rival]))
    low, median, high = quartiles(seconds[faster], seconds["ours"])
    print(f"times as fast as {faster}: {median:.2f}, quartiles {low:.2f} to {high:.2f}; bar >= {T5}", flush=True)


def main(argv: Sequence[str]) -> None:
    if "pair" in PARTS.value:
        compare_pair(TOY.value)
    if "t5" in PARTS.value:
        for name in ["toy", "toy-v1_1"] if TOY.value else T5S.value:
            for batch in map(int, BATCHES.value):
                compare_t5(name, batch, 20 if TOY.value else SOURCE.value)


if __name__ == "__main__":
    app.run(main)
