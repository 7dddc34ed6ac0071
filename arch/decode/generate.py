"""Continuing prompts: one compiled loop over a static cache, prompts of unequal lengths side by side.

Prompts are padded on the left to one length, so that all rows write the same place of the cache; padding is segment 0
and is never attended to, and positions count from each row's own first token.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from arch.decode.sampling import Greedy, Sampler

BUCKET = 32
"""Prompt lengths are rounded up to a multiple of this, so that few programs are compiled."""


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
    sampler: Sampler = Greedy(),
    key: jax.Array | None = None,
    stop: int | None = None,
) -> Decoded:
    """Continues each of `prompts` by up to `new` tokens, ending a row early at token `stop`.

    Raises:
      ValueError: a prompt is empty, `new` is not positive, or the model has no positions for that many tokens.
    """
    if new < 1 or not prompts or any(len(prompt) == 0 for prompt in prompts):
        raise ValueError("generate needs at least one token in each prompt, and new >= 1")
    longest = max(len(prompt) for prompt in prompts)
    if model.limit is not None and longest + new > model.limit:
        raise ValueError(f"{longest} + {new} tokens do not fit the {model.limit} positions of this model")
    width = -(-longest // BUCKET) * BUCKET
    tokens = np.zeros((len(prompts), width), np.int32)
    for row, prompt in enumerate(prompts):
        tokens[row, width - len(prompt) :] = prompt
    lengths = np.array([len(prompt) for prompt in prompts], np.int32)
    graphdef, params = nnx.split(model, nnx.Param)
    key = jax.random.key(0) if key is None else key
    end = -1 if stop is None else stop
    out, scores = _decode(graphdef, sampler, new, nnx.to_pure_dict(params), tokens, lengths, key, jnp.int32(end))
    out, scores = np.asarray(out), np.asarray(scores)
    done = np.cumsum(out == end, axis=1) > 0
    return Decoded(out, (~done).sum(axis=1).astype(np.int32), scores)


@partial(jax.jit, static_argnums=(0, 1, 2))
def _decode(
    graphdef: Any,
    sampler: Sampler,
    new: int,
    params: Any,
    prompt_BP: jax.Array,
    lengths_B: jax.Array,
    key: jax.Array,
    stop: jax.Array,
) -> tuple[jax.Array, jax.Array]:
    """Tokens and log-probabilities [B, new]; stops early once every row has stopped."""
    model = nnx.merge(graphdef, params)
    B, P = prompt_BP.shape
    padding_B1 = (P - lengths_B)[:, None]
    places_BP = jnp.arange(P, dtype=jnp.int32)[None]
    segments = (places_BP >= padding_B1).astype(jnp.int32)
    positions = jnp.maximum(places_BP - padding_B1, 0)
    cache = model.init_cache(B, P + new, jax.tree.leaves(params)[0].dtype)
    first = model(prompt_BP, positions=positions, segments=segments, cache=cache)

    def choose(logits_BV: jax.Array, done_B: jax.Array, step: jax.Array) -> tuple[jax.Array, jax.Array]:
        token_B = sampler(logits_BV, jax.random.fold_in(key, step))
        score_B = jnp.take_along_axis(jax.nn.log_softmax(logits_BV, axis=-1), token_B[:, None], axis=-1)[:, 0]
        return jnp.where(done_B, stop, token_B), jnp.where(done_B, 0.0, score_B)

    def unfinished(carry: tuple[Any, ...]) -> jax.Array:
        step, done_B = carry[0], carry[1]
        return (step < new) & ~jnp.all(done_B)

    def advance(carry: tuple[Any, ...]) -> tuple[Any, ...]:
        step, done_B, token_B, cache, out, scores = carry
        result = model(token_B[:, None], positions=(P + step - 1) - padding_B1, cache=cache)
        token_B, score_B = choose(result.logits[:, -1], done_B, step)
        out, scores = out.at[:, step].set(token_B), scores.at[:, step].set(score_B)
        return step + 1, done_B | (token_B == stop), token_B, result.cache, out, scores

    token_B, score_B = choose(first.logits[:, -1], jnp.zeros(B, bool), jnp.int32(0))
    out = jnp.full((B, new), stop, jnp.int32).at[:, 0].set(token_B)
    scores = jnp.zeros((B, new), jnp.float32).at[:, 0].set(score_B)
    carry = (jnp.int32(1), token_B == stop, token_B, first.cache, out, scores)
    *_, out, scores = jax.lax.while_loop(unfinished, advance, carry)
    return out, scores
