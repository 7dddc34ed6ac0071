"""Continuations that a model draws itself, inside a training step: for tasks with a `draw`."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int

from arch.decode.sampling import Sample, Sampler
from arch.models.base import Cache, Inputs, Network
from arch.params import split


def continuations(
    model: Network,
    prompt: Inputs,
    new: int,
    keys: jax.Array,
    sampler: Sampler = Sample(),
    vocab: int | None = None,
) -> Int[Array, "B new"]:
    """`new` tokens after those of each row of `prompt`, one after another from a cache.

    Row b draws from `keys[b]` alone, token t of it from that key with t folded in, among the first `vocab` tokens
    (None: all). Padding of a prompt, segment 0, stands before its tokens; without segments there is none. What follows
    an end token is drawn as well; the caller cuts it off. The loop has a known length, so that its FLOPs are counted.
    """
    B, P = prompt.tokens.shape
    room = P + new - 1  # the last token is not read again
    if model.limit is not None and room > model.limit:
        raise ValueError(f"{room} tokens, {new} after {P}, do not fit the {model.limit} positions of this model")
    dtype = jax.tree.leaves(split(model)[1])[0].dtype

    def drawn(logits_BV: jax.Array, place: jax.Array) -> jax.Array:
        own = jax.vmap(jax.random.fold_in, (0, None))(keys, place)
        return jax.vmap(lambda logits, key: sampler(logits[None], key)[0])(logits_BV[:, :vocab], own)

    positions = None
    if prompt.segments is not None:
        padding_B1 = jnp.sum(prompt.segments == 0, axis=1, keepdims=True, dtype=jnp.int32)
        positions = jnp.maximum(jnp.arange(P, dtype=jnp.int32)[None] - padding_B1, 0)

    def step(carry: tuple[jax.Array, Cache | None], place: jax.Array) -> tuple[tuple[jax.Array, Any], jax.Array]:
        logits_BV, cache = carry
        tokens = drawn(logits_BV, place)
        at = None if positions is None else positions[:, -1:] + place.astype(jnp.int32) + 1
        out = model(Inputs(tokens=tokens[:, None], positions=at), cache=cache)
        return (out.logits[:, -1], out.cache), tokens

    out = model(dataclasses.replace(prompt, positions=positions), cache=model.init_cache(B, room, dtype), last=1)
    start = out.logits[:, -1], out.cache
    (logits_BV, _), tokens = jax.lax.scan(step, start, jnp.arange(new - 1))
    return jnp.concatenate([tokens.T, drawn(logits_BV, jnp.asarray(new - 1))[:, None]], axis=1)
