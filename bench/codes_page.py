"""How long the page of codes takes, and how large it gets: 10,000 codes over 1,000,000 tokens by default.

python -m bench.codes_page [--codes=10000] [--tokens=1000000] [--slots=8]

Codes are drawn from a Zipf distribution, tokens are bytes; what is timed is counting, keeping places, and the page with
its contexts. Reading the tokens through a model comes on top and depends on it. The bars: 60 s, 5 MB.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

import numpy as np
from absl import app, flags

from experiments.codes.contexts import gather
from experiments.codes.effects import Effects
from experiments.codes.page import Shown, page
from experiments.codes.reading import Read, Site

FLAGS = flags.FLAGS if __name__ == "__main__" else flags.FlagValues()  # imported, it has its own
CODES = flags.DEFINE_integer("codes", 10_000, "Codes of the one codebook.", lower_bound=2, flag_values=FLAGS)
TOKENS = flags.DEFINE_integer("tokens", 1_000_000, "Tokens read.", lower_bound=1, flag_values=FLAGS)
SLOTS = flags.DEFINE_integer("slots", 8, "Codes active on a token.", lower_bound=1, flag_values=FLAGS)

LENGTH, ROWS, NEAR = 256, 32, 5


def reads(codes: int, tokens: int, slots: int, seed: int = 0) -> Iterator[Read]:
    """Rows of random letters on which codes fire as 1 / rank."""
    rng = np.random.default_rng(seed)
    share = 1 / np.arange(1, codes + 1)
    edges = np.cumsum(share / share.sum())
    for _ in range(-(-tokens // (LENGTH * ROWS))):
        text = rng.integers(97, 123, (ROWS, LENGTH)).astype(np.int32)
        chosen = np.searchsorted(edges, rng.random((1, ROWS, LENGTH, slots))).clip(max=codes - 1).astype(np.int32)
        yield Read(text, np.ones(text.shape, bool), {"mlp_out": chosen}, {})


def measure(codes: int, tokens: int, slots: int) -> tuple[float, float, int]:
    """(seconds to count, seconds to write, bytes)."""
    site = Site("mlp_out", layers=1, groups=1, grouped=False, size=codes, slots=slots, stages=1)
    rng = np.random.default_rng(1)
    start = time.perf_counter()
    # What it takes to draw the codes is not counted.
    drawn = 0.0

    def timed() -> Iterator[Read]:
        nonlocal drawn
        source = reads(codes, tokens, slots)
        while True:
            before = time.perf_counter()
            one = next(source, None)
            drawn += time.perf_counter() - before
            if one is None:
                return
            yield one

    found = gather(timed(), [site])
    counted = time.perf_counter() - start - drawn
    ids = rng.integers(97, 123, (1, codes, NEAR)).astype(np.int32)
    near = rng.integers(0, codes, (1, codes, NEAR)).astype(np.int32)
    effects = Effects(np.zeros((1, codes, 1), np.float32), near, ids, ids, rng.random((1, codes, NEAR), np.float32))
    start = time.perf_counter()
    text = page("bench", found.told, found, [Shown(site, effects, {})], lambda ids: bytes(ids).decode())
    return counted, time.perf_counter() - start, len(text.encode())


def main(argv: list[str]) -> None:
    del argv
    counted, written, size = measure(CODES.value, TOKENS.value, SLOTS.value)
    print(f"{CODES.value:,} codes, {TOKENS.value:,} tokens, {SLOTS.value} active: counted in {counted:.1f} s, "
          f"written in {written:.1f} s, {size / 1e6:.2f} MB")  # fmt: skip


if __name__ == "__main__":
    app.run(main)
