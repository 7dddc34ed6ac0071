"""What objectives over tokens share: the sums of their cross-entropy, and nats a token and bits a byte of them."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from train.data.description import Description
from train.objectives.base import Loss
from train.objectives.next_token import Targets, cross_entropy


def token_bytes(description: Description, extra: int = 0) -> Float[np.ndarray, "V"]:
    """Bytes that each token stands for, of `extra` ids above the vocabulary none; zeros where only building tells."""
    known = np.zeros(description.vocab or 0) if description.token_bytes is None else description.token_bytes
    return np.concatenate([np.asarray(known, np.float32), np.zeros(extra, np.float32)])


def token_sums(logits_BTV: Float[Array, "B T V"], targets: Targets, known: np.ndarray) -> Loss:
    """Total nats of all targets; sums: nats, bytes, targets. `known`: bytes of each token, [V]."""
    nats, _ = cross_entropy(logits_BTV, targets.tokens)
    total, weight = jnp.sum(nats * targets.weights), jnp.sum(targets.weights)
    there = jnp.sum(jnp.asarray(known)[targets.tokens] * targets.weights)
    return Loss(total, weight, {"nats": total, "bytes": there, "targets": weight})


def token_metrics(loss: Loss) -> dict[str, jax.Array]:
    """`loss`, nats a target, and `bits_per_byte` of the targets."""
    nats, targets = loss.sums["nats"], jnp.maximum(loss.sums["targets"], 1.0)
    return {"loss": nats / targets, "bits_per_byte": nats / (math.log(2.0) * jnp.maximum(loss.sums["bytes"], 1.0))}
