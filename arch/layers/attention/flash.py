"""Attention without the T x T scores: cuDNN's flash attention on GPUs, splash attention (Pallas) on TPUs.

Both take a mask as a span of indices and documents as segment ids, so they serve self-attention over whole rows; cached
steps, biased scores, tapped patterns and masks without a span use the plain form in `attend.py`.
"""

from __future__ import annotations

from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from arch.layers.attention.masks import Span
from arch.layers.folded import folded

LANES = 128
"""Splash attention works on blocks of this many tokens at least."""


def cudnn_suits(q_BTNK: jax.Array, span: Span, softcap: float | None) -> bool:
    """Half precision, heads of at most 128 in steps of 8, causal or unbounded, no soft-capping."""
    head_dim = q_BTNK.shape[-1]
    half = q_BTNK.dtype in (jnp.bfloat16, jnp.float16)
    bounds = span[1] == 0 or span == (None, None)
    return half and head_dim <= 128 and head_dim % 8 == 0 and bounds and softcap is None


def cudnn(
    q_BTNK: Float[Array, "B T N K"],
    k_BTHK: Float[Array, "B T H K"],
    v_BTHK: Float[Array, "B T H K"],
    *,
    span: Span,
    segments: Int[Array, "B T"] | None,
    scale: float,
    implementation: Literal["cudnn", "xla"] = "cudnn",
) -> Float[Array, "B T N K"]:
    """cuDNN's fused attention; segments enter as a [B, 1, T, T] mask. "xla" is JAX's own form of it, for tests."""
    before, after = span

    def attention(q: jax.Array, k: jax.Array, v: jax.Array, segments: jax.Array | None) -> jax.Array:
        return jax.nn.dot_product_attention(
            q,
            k,
            v,
            mask=None if segments is None else segments[:, None, :, None] == segments[:, None, None, :],
            scale=scale,
            is_causal=after == 0,
            local_window_size=None if before is None else (before, 0),
            implementation=implementation,
        )

    return folded(attention)(q_BTNK, k_BTHK, v_BTHK, segments)


def splash_suits(q_BTNK: jax.Array) -> bool:
    """Rows of whole blocks."""
    return q_BTNK.shape[1] % LANES == 0


def splash(
    q_BTNK: Float[Array, "B T N K"],
    k_BTHK: Float[Array, "B T H K"],
    v_BTHK: Float[Array, "B T H K"],
    *,
    span: Span,
    segments: Int[Array, "B T"] | None,
    scale: float,
    softcap: float | None,
    interpret: bool = False,
) -> Float[Array, "B T N K"]:
    """Splash attention, one call a row. `interpret` runs the kernel on any platform, for tests."""
    from jax.experimental.pallas.ops.tpu.splash_attention import splash_attention_kernel as kernels
    from jax.experimental.pallas.ops.tpu.splash_attention import splash_attention_mask as masks

    length, heads = q_BTNK.shape[1:3]
    block = max(size for size in (128, 256, 512) if length % size == 0)
    sizes = kernels.BlockSizes(
        block_q=block, block_kv=block, block_q_dkv=block, block_kv_dkv=block, block_q_dq=block, block_kv_dq=block
    )
    one: masks.Mask = masks.FullMask((length, length))
    if span == (None, 0):
        one = masks.CausalMask((length, length))
    elif span != (None, None):
        one = masks.LocalMask((length, length), span, 0)
    kernel = kernels.make_splash_mha(
        masks.MultiHeadMask([one] * heads),
        head_shards=1,
        q_seq_shards=1,
        block_sizes=sizes,
        attn_logits_soft_cap=softcap,
        interpret=interpret,
    )
    q, k, v = (x.transpose(0, 2, 1, 3) for x in (q_BTNK * np.asarray(scale, q_BTNK.dtype), k_BTHK, v_BTHK))
    if segments is None:
        z = jax.vmap(kernel)(q, k, v)
    else:
        z = jax.vmap(lambda q, k, v, ids: kernel(q, k, v, kernels.SegmentIds(ids, ids)))(q, k, v, segments)
    return z.transpose(0, 2, 1, 3).astype(q_BTNK.dtype)
