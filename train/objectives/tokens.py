"""What objectives over tokens share: the sums of their cross-entropy, and nats a token and bits a byte of them."""

from __future__ import annotations

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from train.data.description import Description
from train.objectives.base import Loss


class Targets(NamedTuple):
    """int32 [B, T] tokens, and float32 [B, T] weights."""

    tokens: jax.Array
    weights: jax.Array


def cross_entropy(
    logits_BTV: Float[Array, "B T V"], targets_BT: Int[Array, "B T"]
) -> tuple[Float[Array, "B T"], Float[Array, "B T"]]:
    """Nats of each target, and the log partition function. float32.

    The target's logit is picked by comparison rather than by a gather: its gradient is then dense and shards with the
    logits, where a gather's is a scatter.
    """
    logits = logits_BTV.astype(jnp.float32)
    log_z = jax.nn.logsumexp(logits, axis=-1)
    picked = targets_BT[..., None] == jnp.arange(logits.shape[-1], dtype=targets_BT.dtype)[None, None]
    return log_z - jnp.sum(jnp.where(picked, logits, 0.0), axis=-1), log_z


def token_bytes(description: Description, extra: int = 0) -> Float[np.ndarray, "V"] | None:
    """Bytes that each token stands for, of `extra` ids above the vocabulary none. None where tokens stand for no text,
    and where only building tells."""
    if description.token_bytes is None or not np.any(description.token_bytes):
        return None
    return np.concatenate([np.asarray(description.token_bytes, np.float32), np.zeros(extra, np.float32)])


def token_sums(
    logits_BTV: Float[Array, "B T V"], targets: Targets, known: np.ndarray | None
) -> tuple[Loss, Float[Array, "B T"], Float[Array, "B T"]]:
    """Total nats of all targets (sums: nats, targets, and with `known` bytes), the nats of each, and the log partition
    function there. `known`: bytes of each token, [V]; None: they stand for no text."""
    nats, log_z = cross_entropy(logits_BTV, targets.tokens)
    total, weight = jnp.sum(nats * targets.weights), jnp.sum(targets.weights)
    sums = {"nats": total, "targets": weight}
    if known is not None:
        sums["bytes"] = jnp.sum(jnp.asarray(known)[targets.tokens] * targets.weights)
    return Loss(total, weight, sums), nats, log_z


def token_metrics(loss: Loss) -> dict[str, jax.Array]:
    """`loss`, nats a target, and of text `bits_per_byte` of the targets."""
    nats, targets = loss.sums["nats"], jnp.maximum(loss.sums["targets"], 1.0)
    found = {"loss": nats / targets}
    if "bytes" in loss.sums:
        found["bits_per_byte"] = nats / (math.log(2.0) * jnp.maximum(loss.sums["bytes"], 1.0))
    return found
