"""Codes by running means: lookup and update of a codebook, against vector-quantize-pytorch, float32, on the CPU.

    python -m bench.codebook [--codes=8192] [--width=256] [--tokens=8192] [--rounds=7]

Both begin with the same codes and counts and read the same vectors; before anything is timed their codes, values and
codebooks after one step are compared. Contestants run in turn in processes of their own.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import numpy as np
from absl import app, flags

from bench.alternate import alternate, table

FLAGS = flags.FLAGS if __name__ == "__main__" else flags.FlagValues()  # imported, it has its own
CODES = flags.DEFINE_integer("codes", 8192, "Codes of the codebook.", flag_values=FLAGS)
WIDTH = flags.DEFINE_integer("width", 256, "Numbers of a vector.", flag_values=FLAGS)
TOKENS = flags.DEFINE_integer("tokens", 8192, "Vectors of a step.", flag_values=FLAGS)
ROUNDS = flags.DEFINE_integer("rounds", 7, "Runs of each contestant, alternating.", flag_values=FLAGS)

DECAY = 0.9


def arrays(argument: dict[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    """The codes [C, N] that both begin with, and the vectors [M, N]."""
    rng = np.random.default_rng(0)
    draw = lambda rows: rng.normal(size=(rows, argument["width"])).astype(np.float32)  # noqa: E731
    return draw(argument["codes"]), draw(argument["tokens"])


def ours(argument: dict[str, Any]) -> Callable[[], dict[str, np.ndarray]]:
    """A step of `VectorQuantized`: lookup, values, running means."""
    import jax

    from arch.bottlenecks.vector_quantized import VectorQuantized
    from arch.layers.init.initializers import Normal
    from arch.params import ParamFactory, merge, split

    codes, x = arrays(argument)
    spec = VectorQuantized(codes=len(codes), decay=DECAY)
    graph, params, buffers = split(spec.build(codes.shape[1], ParamFactory(jax.random.key(0), Normal())))
    buffers = {**buffers, "codes": jax.numpy.asarray(codes)}

    @jax.jit
    def step(buffers: Any, x: Any) -> Any:
        part = merge(graph, params, buffers)
        found = part.quantize(x)
        return found.codes[:, 0], found.values, part.advance(buffers, found.statistics)["codes"]

    x = jax.numpy.asarray(x)

    def run() -> dict[str, np.ndarray]:
        ids, values, after = jax.block_until_ready(step(buffers, x))
        return {"ids": np.asarray(ids), "values": np.asarray(values), "codes": np.asarray(after)}

    return run


def theirs(argument: dict[str, Any]) -> Callable[[], dict[str, np.ndarray]]:
    """A training step of the package's `VectorQuantize`, from the same state each time."""
    import torch
    from vector_quantize_pytorch import VectorQuantize

    torch.set_num_threads(os.cpu_count() or 1)
    codes, x = arrays(argument)
    part = VectorQuantize(
        dim=codes.shape[1], codebook_size=len(codes), decay=DECAY, threshold_ema_dead_code=0, eps=1e-12
    ).train()
    book, start, vectors = part._codebook, torch.tensor(codes)[None], torch.tensor(x)[None]

    def run() -> dict[str, np.ndarray]:
        with torch.no_grad():
            book.embed.data.copy_(start)
            book.embed_avg.data.copy_(start)
            book.cluster_size.data.fill_(1.0)
            values, ids, _ = part(vectors)
        return {"ids": ids[0].numpy(), "values": values[0].numpy(), "codes": book.embed[0].numpy()}

    return run


def gaps(argument: dict[str, Any]) -> dict[str, float]:
    """The largest absolute difference between both after one step; of the ids the share that differ."""
    one, other = ours(argument)(), theirs(argument)()
    return {
        name: float(np.mean(one[name] != other[name]) if name == "ids" else np.max(np.abs(one[name] - other[name])))
        for name in one
    }


def main(argv: list[str]) -> None:
    argument = {"codes": CODES.value, "width": WIDTH.value, "tokens": TOKENS.value}
    print(f"{argument}, {os.cpu_count()} cores, {ROUNDS.value} rounds; differences after a step: {gaps(argument)}")
    contestants = {name: ("bench.codebook", name, argument) for name in ("ours", "theirs")}
    print(table(alternate(contestants, ROUNDS.value, warm_up=2), "ours"))


if __name__ == "__main__":
    app.run(main)
