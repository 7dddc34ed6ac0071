"""What codes stand for: their vectors, which codes are near each other, and what each does to the logits.

Nothing here knows how a bottleneck or a layer is made. A row of tokens is read in which every token has another code
of the site (an edit of `SITE.codes`), and what comes out at the site are the codes' vectors. What a code writes into
the residual stream is what its sublayer writes less what it writes of zeros, which is exact where what lies between is
linear, as the output projection of attention is. The last block is then made to return that, and the model's own final
norm and head do the rest (the logit lens of a code; arXiv 2310.17230 labels codes by what they fire on alone).
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from arch.models.base import Causal, Inputs, Seq2Seq
from arch.params import merge, split
from arch.taps import Tap
from experiments.codes.reading import Reader, Site, is_between

ROWS, LENGTH = 16, 64
"""Of a call of the head: so many rows of so many tokens, fewer where the model has fewer positions."""

SUBLAYERS = {"attn": "attn_out", "mlp": "mlp_out"}
"""Scope of a site inside a sublayer -> the site of what the sublayer writes; else NAME_out."""


@dataclasses.dataclass(frozen=True)
class Effects:
    """Of the codes of one site, S = L * sets of them.

    Attributes:
      vectors: float32 [S, C, w].
      near: int32 [S, C, n], the codes of the same set with the most similar vectors by cosine.
      up, down: int32 [S, C, n], the tokens whose logits are highest and lowest; None: the model has no such logits.
      lift: float32 [S, C, n], how far above the mean logit those of `up` are; None likewise.
    """

    vectors: np.ndarray
    near: np.ndarray
    up: np.ndarray | None = None
    down: np.ndarray | None = None
    lift: np.ndarray | None = None


def effects(reader: Reader, site: Site, most: int = 5) -> Effects:
    """The effects of all codes of `site`."""
    vectors = vectors_of(reader, site)
    near = np.stack([_near(one, most) for one in vectors])
    model = reader.opened.program.run.model
    told = isinstance(model, Causal) and not isinstance(model, Seq2Seq) and site.stages == 1
    written = _written(reader, site, vectors) if told else None
    if written is None:
        return Effects(vectors, near)
    try:
        found = _lens(reader)(written.reshape(-1, written.shape[-1]), most)
    except ValueError:  # no stack of blocks, one after the other
        return Effects(vectors, near)
    up, lift, down = (one.reshape(*vectors.shape[:2], -1) for one in found)
    return Effects(vectors, near, up, down, lift)


def _length(reader: Reader) -> int:
    limit = reader.opened.model.limit
    return LENGTH if limit is None else min(limit, LENGTH)


def _inputs(rows: int, length: int) -> Inputs:
    return Inputs(tokens=jnp.zeros((rows, length), jnp.int32))


def vectors_of(reader: Reader, site: Site) -> np.ndarray:
    """The vectors of the codes of a site, float32 [S, C, w]."""
    if site.stages > 1:
        return _staged(reader, site)
    length = _length(reader)
    rows = -(-site.size // length)
    ids = np.minimum(np.arange(rows * length), site.size - 1).reshape(rows, length).astype(np.int32)
    found = _call(reader, rows, length, site, ids, site.name)  # [L, B, T, ...]
    if site.sparse:  # without the bias, which is there whatever code is
        found = found - _call(reader, rows, length, site, ids, site.name, amplitude=0)
    cut = found.reshape(site.layers, rows * length, site.groups, -1)[:, : site.size]
    return np.swapaxes(cut, 1, 2).reshape(site.layers * site.groups, site.size, -1)


def _staged(reader: Reader, site: Site) -> np.ndarray:
    """Those of quantisers in stages: what a code of one stage adds when the others stay at their first."""
    length = _length(reader)
    rows = -(-site.size // length)
    ids = np.minimum(np.arange(rows * length), site.size - 1).reshape(rows, length).astype(np.int32)
    out = []
    for stage in range(site.stages):
        found = _call(reader, rows, length, site, ids, site.name, stage)
        cut = found.reshape(site.layers, rows * length, site.groups, -1)[:, : site.size]
        out.append(np.swapaxes(cut - cut.mean(axis=1, keepdims=True), 1, 2))
    return np.stack(out, axis=2).reshape(site.layers * site.sets, site.size, -1)


def _call(
    reader: Reader,
    rows: int,
    length: int,
    site: Site,
    ids: np.ndarray,
    save: str,
    stage: int | None = None,
    amplitude: int = 1,
) -> np.ndarray:
    """What is at tap site `save` when each token [B, T] has the code `ids` in every group and slot, or in one stage."""

    def chosen(codes: jax.Array, layer: Any) -> jax.Array:
        each = jnp.broadcast_to(jnp.asarray(ids).reshape(*ids.shape, *(1,) * (codes.ndim - 2)), codes.shape)
        if stage is None:
            return each
        slot = jnp.broadcast_to(jnp.arange(codes.shape[-1]).reshape((1,) * (codes.ndim - 1) + (-1,)), codes.shape)
        return jnp.where(slot // (site.slots // site.stages) == stage, each, jnp.zeros_like(each))

    def full(amplitudes: jax.Array, layer: Any) -> jax.Array:
        return jnp.zeros_like(amplitudes).at[..., 0].set(amplitude)

    edit: dict[str, Any] = {f"{site.name}.codes": chosen, f"{site.name}.amplitudes": full}
    found = _taps(reader, rows, length, save, edit)
    return found[None] if is_between(site.name) and save == site.name else found


def _taps(reader: Reader, rows: int, length: int, save: str, edit: dict[str, Any]) -> np.ndarray:
    graphdef, params, buffers = split(reader.opened.model)
    tap = Tap(save=save.replace(".", r"\."), edit=edit, strict=False)

    @jax.jit
    def run(params: Any, buffers: Any) -> Any:
        return merge(graphdef, params, buffers)(_inputs(rows, length), tap=tap).taps[save].astype(jnp.float32)

    return np.asarray(run(params, buffers))


def _written(reader: Reader, site: Site, vectors: np.ndarray) -> np.ndarray | None:
    """[S, C, D]: what each code adds to the residual stream; None: nobody can tell."""
    scope = site.name.split(".")
    inside = scope[0] in SUBLAYERS or len(scope) > 1
    if not inside:
        return vectors if site.groups == 1 else _placed(vectors, site)
    save = SUBLAYERS.get(scope[0], f"{scope[0]}_out")
    length = _length(reader)
    rows = -(-site.size // length)
    spare = rows * length - site.size
    grid = np.pad(vectors.reshape(site.layers, site.groups, site.size, -1), ((0, 0), (0, 0), (0, spare), (0, 0)))
    found = []
    for group in range(-1, site.groups):  # -1: zeros everywhere

        def value(x: jax.Array, layer: Any, group: int = group) -> jax.Array:
            if group < 0:
                return jnp.zeros_like(x)
            mine = jnp.asarray(grid[:, group])[0 if layer is None else layer].reshape(rows, length, -1)
            whole = jnp.zeros((rows, length, site.groups, mine.shape[-1])).at[:, :, group].set(mine)
            return whole.reshape(x.shape).astype(x.dtype)

        try:
            taken = _taps(reader, rows, length, save, {site.name: value})
        except KeyError:
            return None
        found.append(taken.reshape(site.layers, rows * length, -1)[:, : site.size])
    out = np.stack([one - found[0] for one in found[1:]], axis=1)
    return out.reshape(site.layers * site.groups, site.size, -1)


def _placed(vectors: np.ndarray, site: Site) -> np.ndarray:
    """Vectors of one group each among zeros for the others."""
    S, C, w = vectors.shape
    out = np.zeros((S, C, site.groups, w), np.float32)
    for one in range(S):
        out[one, :, one % site.groups] = vectors[one]
    return out.reshape(S, C, -1)


def _lens(reader: Reader) -> Callable[[np.ndarray, int], tuple[np.ndarray, ...]]:
    """`(vectors [n, D], most) -> (up, lift, down)`: the tokens whose logits are highest and lowest behind the final
    norm and head. `up` and `down` are int32 [n, most].

    The last block is made to return the vectors. Raises ValueError for a model without one.
    """
    graphdef, params, buffers = split(reader.opened.model)
    depth = int(getattr(reader.opened.program.run.model, "depth", 1))
    length = _length(reader)
    most_tokens = int(reader.description.vocab or 1)

    @functools.partial(jax.jit, static_argnums=3)
    def run(params: Any, buffers: Any, vectors: jax.Array, most: int) -> Any:
        def last(x: jax.Array, layer: Any) -> jax.Array:
            return jnp.where(jnp.asarray(layer) == depth - 1, vectors.astype(x.dtype), x)

        tap = Tap(edit={"resid_post": last})
        logits = merge(graphdef, params, buffers)(_inputs(ROWS, length), tap=tap).logits[..., :most_tokens]
        logits = logits.astype(jnp.float32)
        lift, up = jax.lax.top_k(logits - jnp.mean(logits, axis=-1, keepdims=True), most)
        return up, lift, jax.lax.top_k(-logits, most)[1]

    def answer(vectors: np.ndarray, most: int) -> tuple[np.ndarray, ...]:
        size, out = ROWS * length, []
        for start in range(0, len(vectors), size):
            block = vectors[start : start + size]
            padded = np.pad(block, ((0, size - len(block)), (0, 0))).reshape(ROWS, length, -1)
            found = run(params, buffers, jnp.asarray(padded), min(most, most_tokens))
            out.append([np.asarray(x).reshape(size, -1)[: len(block)] for x in found])
        return tuple(np.concatenate(one) for one in zip(*out, strict=True))

    return answer


def _near(vectors: np.ndarray, most: int) -> np.ndarray:
    """[C, n], by cosine, without the code itself."""
    most = min(most, len(vectors) - 1)
    unit = vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-12)
    out = np.zeros((len(vectors), most), np.int32)
    for start in range(0, len(vectors), 1024):
        scores = unit[start : start + 1024] @ unit.T
        scores[np.arange(len(scores)), start + np.arange(len(scores))] = -np.inf
        best = np.argpartition(-scores, range(most), axis=-1)[:, :most] if most else out[: len(scores)]
        out[start : start + 1024] = best
    return out
