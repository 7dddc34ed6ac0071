"""The attention product: softmax(q k^T * scale + bias) v, in the form that suits the platform.

The plain form serves every case and is the one counted in FLOPs. On GPUs and TPUs self-attention over whole rows goes
through the fused kernels of `flash.py`, each device on its own rows and heads; on CPUs through `blockwise.py`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from arch import sharding
from arch.layers.attention import flash
from arch.layers.attention.blockwise import blockwise
from arch.layers.attention.masks import MASKED, Mask, Span
from arch.layers.shapes import Known
from arch.taps import NoTap, Recorder

Kernel = Callable[..., jax.Array]
_plain_only: ContextVar[bool] = ContextVar("plain_only", default=False)


@contextmanager
def plain_form() -> Iterator[None]:
    """Traces made inside use the plain form whatever the platform."""
    token = _plain_only.set(True)
    try:
        yield
    finally:
        _plain_only.reset(token)


@dataclasses.dataclass(frozen=True)
class Scores:
    """How scores are made from dot products: multiplied by `scale`, then soft-capped if `softcap` is given."""

    scale: float
    softcap: float | None = None

    def __call__(self, dots: jax.Array) -> jax.Array:
        dots = dots * self.scale
        return dots if self.softcap is None else self.softcap * jnp.tanh(dots / self.softcap)


@dataclasses.dataclass(frozen=True)
class Visibility:
    """Which keys each query sees: what the mask allows, within one document, and never padding.

    Attributes:
      mask: the rule on positions.
      positions, key_positions: [1 or B, T] and [1 or B, S]; they rise by one within a document.
      segments, key_segments: [B, T] and [B, S], documents, 0 for padding; None: one document.
      cached: whether the keys are others than the queries' own tokens: they come from a cache or, in cross-attention,
        from another part. Kernels for whole rows of self-attention are then not used.
      key_prefix: [B, S], the keys that every query of their document sees whatever the mask says; None: none. Fused
        kernels know of no such keys and are then not used.
    """

    mask: Mask
    positions: Int[Known, "#B T"]
    key_positions: Int[Known, "#B S"]
    segments: Int[Array, "B T"] | None
    key_segments: Int[Array, "B S"] | None
    cached: bool = False
    key_prefix: Bool[Array, "B S"] | None = None

    @property
    def span(self) -> Span | None:
        """The rule as a span of positions, where it is nothing but one."""
        return None if self.key_prefix is not None else self.mask.span

    def dense(self) -> Bool[Array, "#B T S"] | None:
        """The pairs that see each other; None: all."""
        visible = self.mask.allowed(self.positions[:, :, None], self.key_positions[:, None, :])
        if visible is not None and self.key_prefix is not None:
            visible = visible | self.key_prefix[:, None, :]
        if self.segments is None or self.key_segments is None:
            return None if visible is None else jnp.asarray(visible)
        keys = self.key_segments[:, None, :]
        same = (self.segments[:, :, None] == keys) & (keys > 0)
        return same if visible is None else same & visible


def attend(
    q_BTNK: Float[Array, "B T N K"],
    k_BSHK: Float[Array, "B S H K"],
    v_BSHV: Float[Array, "B S H V"],
    *,
    visibility: Visibility,
    bias: Float[Array, "#B N T S"] | None,
    scores: Scores,
    tap: NoTap | Recorder,
) -> Float[Array, "B T N V"]:
    """Attention of N query heads over H key-value heads (N a multiple of H: head n reads n * H // N).

    Scores and softmax are float32 whatever the inputs. What a query that may see no key gets is not defined, and
    finite; such rows are padding and are masked wherever they could matter.
    """
    watched = [tap.wants(site) for site in ("attn.scores", "attn.pattern")]
    whole = not (_plain_only.get() or visibility.cached or any(watched))
    kernel = _fused(q_BTNK, visibility, bias, scores) if whole and v_BSHV.shape[3] == k_BSHK.shape[3] else None
    if kernel is None:
        visible = visibility.dense()
        if whole and sharding.platform() == "cpu":
            return blockwise(q_BTNK, k_BSHK, v_BSHV, span=visibility.span, visible=visible, bias=bias, scores=scores)
        return plain(q_BTNK, k_BSHK, v_BSHV, visible=visible, bias=bias, scores=scores, tap=tap)
    queries, keys = ("batch", "length", "heads", "head_dim"), ("batch", "length", "kv", "head_dim")
    if k_BSHK.shape[2] % sharding.parts("kv"):
        # Fewer key-value heads than devices to share them: every query head gets a copy of its own.
        k_BSHK, v_BSHV = (jnp.repeat(x, q_BTNK.shape[2] // x.shape[2], axis=2) for x in (k_BSHK, v_BSHV))
    if visibility.segments is None:
        return sharding.split(partial(kernel, segments=None), (queries, keys, keys), queries)(q_BTNK, k_BSHK, v_BSHV)
    inputs = (queries, keys, keys, ("batch", "length"))
    run = sharding.split(lambda q, k, v, segments: kernel(q, k, v, segments=segments), inputs, queries)
    return run(q_BTNK, k_BSHK, v_BSHV, visibility.segments)


def _fused(q_BTNK: jax.Array, visibility: Visibility, bias: jax.Array | None, scores: Scores) -> Kernel | None:
    """The fused kernel that serves self-attention over whole rows on this platform; None: none does."""
    span, platform = visibility.span, sharding.platform()
    if bias is not None or span is None:
        return None
    if platform == "tpu" and flash.splash_suits(q_BTNK):
        return partial(flash.splash, span=span, scale=scores.scale, softcap=scores.softcap)
    if platform in ("gpu", "cuda") and flash.cudnn_suits(q_BTNK, span, scores.softcap):
        return partial(flash.cudnn, span=span, scale=scores.scale)
    return None


def plain(
    q_BTNK: Float[Array, "B T N K"],
    k_BSHK: Float[Array, "B S H K"],
    v_BSHV: Float[Array, "B S H V"],
    *,
    visible: Bool[Array, "#B T S"] | None,
    bias: Float[Array, "#B N T S"] | None,
    scores: Scores,
    tap: NoTap | Recorder,
) -> Float[Array, "B T N V"]:
    """All scores at once, in [B, N, T, S]. A query that may see no key gets the mean of all values."""
    B, T, N, K = q_BTNK.shape
    H = k_BSHK.shape[2]
    q_BHGTK = q_BTNK.reshape(B, T, H, N // H, K).transpose(0, 2, 3, 1, 4)
    k_BHSK, v_BHSV = k_BSHK.transpose(0, 2, 1, 3), v_BSHV.transpose(0, 2, 1, 3)
    dots = jnp.einsum("bhgtk,bhsk->bhgts", q_BHGTK, k_BHSK.astype(q_BTNK.dtype), preferred_element_type=jnp.float32)
    score_BNTS = scores(dots).reshape(B, N, T, -1)
    if bias is not None:
        score_BNTS = score_BNTS + bias
    if visible is not None:
        score_BNTS = jnp.where(visible[:, None], score_BNTS, MASKED)
    score_BNTS = tap("attn.scores", score_BNTS)
    pattern_BNTS = tap("attn.pattern", jax.nn.softmax(score_BNTS, axis=-1).astype(q_BTNK.dtype))
    pattern_BHGTS = pattern_BNTS.reshape(B, H, N // H, T, -1)
    z_BHGTV = jnp.einsum("bhgts,bhsv->bhgtv", pattern_BHGTS, v_BHSV.astype(q_BTNK.dtype))
    return z_BHGTV.transpose(0, 3, 1, 2, 4).reshape(B, T, N, v_BSHV.shape[3])
