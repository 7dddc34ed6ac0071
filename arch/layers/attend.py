"""The attention product: softmax(q k^T * scale + bias) v, in the form that suits the platform."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from arch.taps import NoTap, Recorder

MASKED = -1e30
"""Score of an invisible key: finite, so that a row of padding that sees nothing stays finite."""


@dataclasses.dataclass(frozen=True)
class Scores:
    """How scores are made from dot products: multiplied by `scale`, then soft-capped if `softcap` is given."""

    scale: float
    softcap: float | None = None

    def __call__(self, dots: jax.Array) -> jax.Array:
        dots = dots * self.scale
        return dots if self.softcap is None else self.softcap * jnp.tanh(dots / self.softcap)


def attend(
    q_BTNK: Float[Array, "B T N K"],
    k_BSHK: Float[Array, "B S H K"],
    v_BSHK: Float[Array, "B S H K"],
    *,
    visible: Bool[Array, "#B T S"] | None,
    bias: Float[Array, "#B N T S"] | None,
    scores: Scores,
    tap: NoTap | Recorder,
) -> Float[Array, "B T N K"]:
    """Attention of N query heads over H key-value heads (N a multiple of H: head n reads n * H // N).

    Scores and softmax are float32 whatever the inputs. A query that may see no key gets the mean of all values;
    such rows are padding and are masked wherever they could matter.
    """
    B, T, N, K = q_BTNK.shape
    H = k_BSHK.shape[2]
    q_BHGTK = q_BTNK.reshape(B, T, H, N // H, K).transpose(0, 2, 3, 1, 4)
    k_BHSK, v_BHSK = k_BSHK.transpose(0, 2, 1, 3), v_BSHK.transpose(0, 2, 1, 3)
    dots = jnp.einsum("bhgtk,bhsk->bhgts", q_BHGTK, k_BHSK.astype(q_BTNK.dtype), preferred_element_type=jnp.float32)
    score_BNTS = scores(dots).reshape(B, N, T, -1)
    if bias is not None:
        score_BNTS = score_BNTS + bias
    if visible is not None:
        score_BNTS = jnp.where(visible[:, None], score_BNTS, MASKED)
    score_BNTS = tap("attn.scores", score_BNTS)
    pattern_BNTS = tap("attn.pattern", jax.nn.softmax(score_BNTS, axis=-1).astype(q_BTNK.dtype))
    pattern_BHGTS = pattern_BNTS.reshape(B, H, N // H, T, -1)
    z_BHGTK = jnp.einsum("bhgts,bhsk->bhgtk", pattern_BHGTS, v_BHSK.astype(q_BTNK.dtype))
    return z_BHGTK.transpose(0, 3, 1, 2, 4).reshape(B, T, N, K)
