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
    model: Network, prompt: Inputs, new: int, keys: jax.Array, sampler: Sampler = Sample()
) -> Int[Array, "B new"]:
    """`new` tokens after those of each row of `prompt` (no padding), one after another from a cache.

    Row b draws from `keys[b]` alone. What follows an end token is drawn as well; the caller cuts it off. The loop has a
    known length, so that its FLOPs are counted.
    """
    B, P = prompt.tokens.shape
    if model.limit is not None and P + new > model.limit:
        raise ValueError(f"{P} + {new} tokens do not fit the {model.limit} positions of this model")
    dtype = jax.tree.leaves(split(model)[1])[0].dtype

    def drawn(logits_BV: jax.Array, place: jax.Array) -> jax.Array:
        own = jax.vmap(jax.random.fold_in, (0, None))(keys, place)
        return jax.vmap(lambda logits, key: sampler(logits[None], key)[0])(logits_BV, own)

    def step(carry: tuple[jax.Array, Cache | None], place: jax.Array) -> tuple[tuple[jax.Array, Any], jax.Array]:
        logits_BV, cache = carry
        tokens = drawn(logits_BV, place)
        out = model(Inputs(tokens=tokens[:, None]), cache=cache)
        return (out.logits[:, -1], out.cache), tokens

    out = model(dataclasses.replace(prompt, positions=None), cache=model.init_cache(B, P + new, dtype))
    start = out.logits[:, -1], out.cache
    (logits_BV, _), tokens = jax.lax.scan(step, start, jnp.arange(new - 1))
    return jnp.concatenate([tokens.T, drawn(logits_BV, jnp.asarray(new - 1))[:, None]], axis=1)
