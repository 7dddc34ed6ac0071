"""What codebooks at every layer cost: our training step with them over the step of the same model without, float32,
on the CPU.

    python -m bench.codebook_overhead [--codes=1024] [--k=8] [--width=512] [--depth=4] [--length=128] [--rows=4]

A codebook (k of C codes by cosine) stands at "mlp_out" of every layer, with its loss and its statistics. Both
contestants run in turn in processes of their own; printed are medians, and quartiles of the ratio round by round.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable
from typing import Any

from absl import app, flags

from bench.alternate import alternate, quartiles, table

FLAGS = flags.FLAGS if __name__ == "__main__" else flags.FlagValues()  # imported, it has its own
CODES = flags.DEFINE_integer("codes", 1024, "Codes of a codebook.", flag_values=FLAGS)
K = flags.DEFINE_integer("k", 8, "Codes that a vector becomes.", flag_values=FLAGS)
WIDTH = flags.DEFINE_integer("width", 512, "Width of the model.", flag_values=FLAGS)
DEPTH = flags.DEFINE_integer("depth", 4, "Layers.", flag_values=FLAGS)
LENGTH = flags.DEFINE_integer("length", 128, "Tokens of a row.", flag_values=FLAGS)
ROWS = flags.DEFINE_integer("rows", 4, "Rows of a batch.", flag_values=FLAGS)
ROUNDS = flags.DEFINE_integer("rounds", 9, "Runs of each contestant, alternating.", flag_values=FLAGS)

VOCAB = 1024


def step(argument: dict[str, Any]) -> Callable[[], float]:
    """A training step, which returns its loss; with `codes` 0 there are no codebooks."""
    import jax
    import numpy as np

    from arch.blocks import PreNorm
    from arch.bottlenecks.codebook import Codebook
    from arch.layers.attention.softmax import Attention
    from arch.layers.feed_forward import GatedMLP
    from arch.models.decoder import Decoder
    from arch.stacks import Sequential
    from train.data.text import Text
    from train.optim.optimizers import AdamW
    from train.optim.schedules import Constant
    from train.run import Run
    from train.runtime.host import divide_cores, keep_freed_memory
    from train.setup import prepare

    keep_freed_memory()
    divide_cores(1)
    width, length, rows = argument["width"], argument["length"], argument["rows"]
    at = (
        (("mlp_out", Codebook(codes=argument["codes"], k=argument["k"], prenorm="layer")),) if argument["codes"] else ()
    )
    run = Run(
        model=Decoder(
            vocab=VOCAB,
            width=width,
            depth=argument["depth"],
            block=PreNorm(mixer=Attention(heads=max(1, width // 64)), feed_forward=GatedMLP(), at=at),
            stack=Sequential(loop="unroll"),
        ),
        data=Text(length=length),
        optimizer=AdamW(learning_rate=1e-3, schedule=Constant()),
        batch=rows,
    )
    known: dict[str, Any] = {"vocab": VOCAB, "token_bytes": np.ones(VOCAB, np.float32)}
    program = prepare(run, dataclasses.replace(run.data.describe(), **known))
    tokens = np.random.default_rng(0).integers(0, VOCAB, (rows, length + 1), np.int32)
    batch = program.place({"tokens": tokens, "segments": np.ones_like(tokens)})
    box = {"state": program.start(), "go": jax.device_put(True)}

    def once() -> float:
        box["state"], metrics = program.train_step(box["state"], batch, box["go"])
        jax.block_until_ready(box["state"])
        return float(metrics["loss"])

    return once


def contestants(argument: dict[str, Any]) -> dict[str, tuple[str, str, Any]]:
    """The model with codebooks and the one without."""
    each = {"codebooks": argument, "without": {**argument, "codes": 0}}
    return {name: ("bench.codebook_overhead", "step", told) for name, told in each.items()}


def main(argv: list[str]) -> None:
    names = {"codes": CODES, "k": K, "width": WIDTH, "depth": DEPTH, "length": LENGTH, "rows": ROWS}
    argument = {name: flag.value for name, flag in names.items()}
    print(f"{argument}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, {ROUNDS.value} rounds")
    seconds = alternate(contestants(argument), ROUNDS.value, warm_up=2)
    print(table(seconds, "without"))
    low, median, high = quartiles(seconds["codebooks"], seconds["without"])
    print(f"a step with codebooks takes {median:.2f} times as long ({low:.2f} to {high:.2f})")


if __name__ == "__main__":
    app.run(main)
