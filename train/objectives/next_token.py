"""Next-token prediction: cross-entropy of each token given what came before it in its document.

Reported as `loss`, nats per target token, and `bits_per_byte`, total nats / (ln 2 * UTF-8 bytes of the targets), which
compares across tokenizers. Targets cross neither document borders nor padding; the end-of-document token is a target
of zero bytes.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from arch.spec import Problem, at_least
from train.objectives.base import Loss, Objective


@dataclasses.dataclass(frozen=True)
class NextToken(Objective):
    """Cross-entropy of the next token.

    A batch has `tokens` and `segments`, int32 [B, T + 1], `positions` if documents are packed, and may have `weights`,
    float32 [B, T + 1], of each token as a target. `z_loss` adds z_loss * logsumexp(logits)^2 (arXiv 2204.02311,
    section 5).
    """

    z_loss: float = 0.0

    def problems(self) -> Iterator[Problem]:
        yield from at_least(self, 0, "z_loss")

    def build(self, dataset):
        # A byte count per token as a constant of the program: V small integers.
        token_bytes = np.asarray(dataset.token_bytes, np.float32)

        def loss(model, batch: Mapping[str, jax.Array], key: jax.Array | None) -> Loss:
            tokens, segments = batch["tokens"], batch["segments"]
            targets = tokens[:, 1:]
            weights = ((segments[:, 1:] == segments[:, :-1]) & (segments[:, 1:] > 0)).astype(jnp.float32)
            if "weights" in batch:
                weights = weights * batch["weights"][:, 1:]
            positions = batch["positions"][:, :-1] if "positions" in batch else None
            out = model(tokens[:, :-1], positions=positions, segments=segments[:, :-1], key=key)
            nats, log_z = cross_entropy(out.logits, targets)
            total, weight = jnp.sum(nats * weights), jnp.sum(weights)
            sums = {"nats": total, "bytes": jnp.sum(jnp.asarray(token_bytes)[targets] * weights), "targets": weight}
            if isinstance(self.z_loss, jax.Array) or self.z_loss:  # traced, it may be any number
                total = total + self.z_loss * jnp.sum(jnp.square(log_z) * weights)
            for name, value in out.aux.items():
                if name.startswith("loss/"):
                    total = total + weight * jnp.sum(value)
                    sums[name] = weight * jnp.sum(value)
            return Loss(total, weight, sums)

        return loss

    def metrics(self, loss):
        nats, targets = loss.sums["nats"], jnp.maximum(loss.sums["targets"], 1.0)
        extra = {name: value / targets for name, value in loss.sums.items() if name.startswith("loss/")}
        return {
            "loss": nats / targets,
            "bits_per_byte": nats / (math.log(2.0) * jnp.maximum(loss.sums["bytes"], 1.0)),
            **extra,
        }


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
