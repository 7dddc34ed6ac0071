"""Continuing prompts with a causal model: prompts of unequal lengths side by side."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from arch.decode.loop import decode
from arch.decode.sampling import Greedy
from arch.decode.strategy import Strategy
from arch.models.base import Inputs
from arch.params import split

BUCKET = 32
"""Prompt lengths are rounded up to a multiple of this, so that few programs are compiled."""


def prompt_width(longest: int) -> int:
    """P of prompts of at most `longest` tokens. One token, where an encoder-decoder begins, stands alone."""
    return 1 if longest == 1 else -(-longest // BUCKET) * BUCKET


@dataclasses.dataclass(frozen=True)
class Decoded:
    """Continuations.

    Attributes:
      tokens: int32 [B, new]; after a stop token, more of it.
      lengths: int32 [B], tokens before the stop token.
      log_probabilities: float32 [B, new], of each token under the model itself (no temperature, no cuts); 0 after stop.
    """

    tokens: np.ndarray
    lengths: np.ndarray
    log_probabilities: np.ndarray


def generate(
    model: Any,
    prompts: Sequence[Sequence[int]],
    new: int,
    *,
    strategy: Strategy = Greedy(),
    key: jax.Array | None = None,
    stop: int | None = None,
    source: Inputs | None = None,
    prefixes: Sequence[int] | None = None,
) -> Decoded:
    """Continues each of `prompts` by up to `new` tokens, ending a row early at token `stop`.

    Args:
      model: the `Network` of a causal model, or of an encoder-decoder.
      prompts: tokens of each row.
      new: tokens to add.
      strategy: how they are chosen.
      key: of draws; None: that of seed 0.
      stop: the token that ends a row.
      source: what an encoder-decoder reads, one row a prompt.
      prefixes: how many first tokens of each prompt are a prefix, read from both sides (`Inputs.prefix`); None: none.

    Raises:
      ValueError: a prompt is empty, `new` is not positive, or the model has no positions for that many tokens.
      UserError: the model has no cache.
    """
    if new < 1 or not prompts or any(len(prompt) == 0 for prompt in prompts):
        raise ValueError("generate needs at least one token in each prompt, and new >= 1")
    longest = max(len(prompt) for prompt in prompts)
    if model.limit is not None and longest + new - 1 > model.limit:  # the last token is not read again
        raise ValueError(f"{longest} + {new} tokens do not fit the {model.limit} positions of this model")
    width = prompt_width(longest)
    tokens = np.zeros((len(prompts), width), np.int32)
    for row, prompt in enumerate(prompts):
        tokens[row, width - len(prompt) :] = prompt
    lengths = np.array([len(prompt) for prompt in prompts], np.int32)
    graphdef, params, buffers = split(model)
    prefix = None
    if prefixes is not None:
        place = np.arange(width)[None] - (width - lengths[:, None])
        prefix = (place >= 0) & (place < np.asarray(prefixes, np.int32)[:, None])
    key = jax.random.key(0) if key is None else key
    end = -1 if stop is None else stop
    found = decode(graphdef, strategy, new, params, buffers, tokens, lengths, source, key, jnp.int32(end), prefix)
    out, scores, written, ranks = jax.tree.map(np.asarray, found)
    best = ranks.reshape(len(prompts), -1).argmax(axis=1) + len(ranks) // len(prompts) * np.arange(len(prompts))
    out, scores, written = out[best], scores[best], written[best]
    there = np.arange(new)[None] < written[:, None]
    out, scores = np.where(there, out, end), np.where(there, scores, np.float32(0))
    done = np.cumsum(out == end, axis=1) > 0
    return Decoded(out.astype(np.int32), (~done).sum(axis=1).astype(np.int32), scores)
