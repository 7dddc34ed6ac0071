"""Rate against recovery: how much of what a model knows passes its bottlenecks, and in how many bits.

    recovered = (L_ablated - L_through) / (L_ablated - L_off)

with the objective's loss of the model with its bottlenecks (`through`), without them (`off`, gates closed), and with
what stands at their sites replaced (`ablated`): by zeros, by its mean over the data, or by that of another row (as
faithfulness of sparse autoencoders is measured: arXiv 2406.04093, section 4.1; arXiv 2404.16014, section 4). Off is
exactly 1 and zeros in place of the bottlenecks exactly 0. Beside it the divergence KL(off || through) in nats, and the
bits that the codes of a token take: their entropy over these rows, and the ceiling. Sparse codes of which not always k
are active take as many times k codes' bits as are active on the mean.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from arch.bottlenecks.several import innermost
from arch.context import Gates
from arch.models.base import Bidirectional, Causal, Classification, Seq2Seq
from arch.params import merge, split
from arch.spec import Problem
from arch.taps import Tap
from experiments.codes.reading import (
    LAYERS,
    SAVED,
    by_layer,
    counts_shape,
    is_between,
    quantizer_of,
    sites_of,
    stands_at,
)
from experiments.suites.base import Asked, Score
from train.forward import ROW
from train.run import Run

ABLATIONS = ("zero", "mean", "resample")

FILLED = "filled"
"""The array of a batch that says which rows are there."""

Open = Mapping[str, jax.Array]


@dataclasses.dataclass(frozen=True)
class Recovery(Score):
    """`recovered_score` against zeros with all bottlenecks on, `recovered_mean_score` and `recovered_resample_score`
    against the other ablations, `kl_gap` and `bits_used`, `bits_ceiling` a token over all of them; with `sites` each of
    the same of every site alone, as `recovered_mlp_out_score`.

    Of a model without bottlenecks nothing is lost: 1, and no bits.
    """

    kinds: ClassVar[tuple[type, ...]] = (Causal, Bidirectional, Classification)

    sites: bool = True
    batch: int = 32

    def problems(self) -> Iterator[Problem]:
        yield from super().problems()
        if self.batch < 2:
            yield Problem("batch", self.batch, "must be at least 2, for rows are exchanged")

    def refusal(self, run: Run) -> str:
        if isinstance(run.model, Seq2Seq):
            return "Recovery scores models of one stack; an encoder-decoder has two"
        return super().refusal(run)

    def measure(self, asked):
        found = _Scored(asked, self.batch)
        all_on = dict.fromkeys(found.sites, True)
        told = found.told(all_on, "")
        if self.sites and len(found.sites) > 1:
            for site in found.sites:
                told |= found.told({one: one == site for one in found.sites}, f"{site}_")
        return told


class _Scored:
    """A model on the rows that are scored."""

    def __init__(self, asked: Asked, batch: int):
        model = asked.opened.model
        self.batches = list(_batches(asked.rows, batch))
        task = asked.opened.program.learner.forward.task
        graphdef, *arrays = split(model)
        self.run = functools.partial(_pass, task, graphdef, *arrays)
        shapes = jax.eval_shape(
            functools.partial(_saved, f"{SAVED}|{LAYERS}", task, graphdef), *arrays, self.batches[0]
        )
        self.sites = {site.name: site for site in sites_of(model, shapes)}
        there = functools.partial(_saved, _any(map(stands_at, self.sites)), task, graphdef)
        shapes = jax.eval_shape(there, *arrays, self.batches[0])
        self.quantizers = {name: quantizer_of(model, name) for name in self.sites}
        values = {name: shapes[stands_at(name)] for name in self.sites}
        self.means = {name: jnp.zeros((x.shape[0], *x.shape[3:])) for name, x in values.items()}
        self.off = self._sums({}, "")
        vectors = self.off["vectors"]
        self.means = {name: jnp.asarray(sum_ / vectors[name], jnp.float32) for name, sum_ in self.off["values"].items()}

    def told(self, on: Mapping[str, bool], name: str) -> dict[str, float]:
        """The scores with the bottlenecks of some sites on, against those sites ablated."""
        if not self.sites:
            names = ("recovered_score", *(f"recovered_{kind}_score" for kind in ABLATIONS[1:]))
            return {**dict.fromkeys(names, 1.0), "kl_gap": 0.0, "bits_used": 0.0, "bits_ceiling": 0.0}
        through, off, told = self._sums(on, ""), _loss(self.off), {}
        for kind in ABLATIONS:
            ablated = _loss(self._sums(on, kind))
            label = "recovered_" if kind == "zero" else f"recovered_{kind}_"
            told[f"{label}{name}score"] = (ablated - _loss(through)) / (ablated - off) if ablated != off else math.nan
        told[f"kl_{name}gap"] = float(through["kl"] / through["there"])
        mine = [site for site, there in on.items() if there]
        told[f"bits_{name}used"] = sum(self._bits(site, through) for site in mine)
        told[f"bits_{name}ceiling"] = sum(self._bits(site) for site in mine)
        return told

    def _gates(self, on: Mapping[str, bool]) -> dict[str, jax.Array]:
        return {name: jnp.full((site.layers,), on.get(name, False)) for name, site in self.sites.items()}

    def _sums(self, on: Mapping[str, bool], ablation: str) -> dict[str, Any]:
        """What `_pass` returns, added over all batches, with codes counted: with the sites that are `on` as they are,
        or ablated."""
        gates, changed = self._gates({} if ablation else on), self._gates(on if ablation else {})
        way, total = jnp.int32(ABLATIONS.index(ablation) if ablation else 0), None
        sparse: set[str] = set()
        for batch in self.batches:
            told = jax.device_get(self.run(batch, gates, changed, way, self.means))
            there, codes = told.pop("mask"), told.pop("codes")
            told = jax.tree.map(np.float64, told) | {"counts": {}}
            for name, site in self.sites.items():
                fires = there[..., None] & np.ones_like(site.flat(codes[name]), bool)
                if f"{name}.amplitudes" in codes:
                    sparse.add(name)
                    fires &= site.beside(codes[f"{name}.amplitudes"]) > 0
                numbers = site.flat(codes[name])[fires]
                told["counts"][name] = np.bincount(numbers, minlength=site.layers * site.sets * site.size)
            total = told if total is None else jax.tree.map(np.add, total, told)
        return {**(total or {}), "sparse": sparse}

    def _bits(self, name: str, sums: Mapping[str, Any] | None = None) -> float:
        """Of one token's codes at a site, over all layers: the ceiling, or what was in use."""
        part, site = self.quantizers[name], self.sites[name]
        if sums is None:
            return float(site.layers * part.bits())
        counts = sums["counts"][name]
        by_layer = jnp.asarray(counts, jnp.float32).reshape(site.layers, *counts_shape(part))
        bits = float(sum(part.bits(layer) for layer in by_layer))
        k = getattr(innermost(part), "k", None)
        if name not in sums["sparse"] or k is None:
            return bits
        return bits * counts.sum() / (sums["vectors"][name] * site.layers * site.sets * k)


def _loss(sums: Mapping[str, Any]) -> float:
    return float(sums["loss"] / sums["weight"])


def _batches(rows: Mapping[str, np.ndarray], size: int) -> Iterator[dict[str, np.ndarray]]:
    """Batches of about `size` rows, the last filled up with rows that count nowhere; each row knows its number. No
    batch has one row alone, unless there is no other, for rows are exchanged."""
    count = len(next(iter(rows.values())))
    parts = -(-count // size)
    if parts > 1 and count % -(-count // parts) == 1:
        parts -= 1
    size = -(-count // parts)
    for start in range(0, count, size):
        which = np.arange(start, min(start + size, count))
        part = {name: array[which] for name, array in rows.items()}
        missing = size - len(which)
        yield {name: np.pad(x, [(0, missing)] + [(0, 0)] * (x.ndim - 1)) for name, x in part.items()} | {
            ROW: np.arange(start, start + size), FILLED: np.arange(size) < len(which)
        }  # fmt: skip


def _prepared(task: Any, batch: Mapping[str, Any]) -> tuple[Any, Any]:
    keys = jax.vmap(jax.random.fold_in, (None, 0))(jax.random.key(0), batch[ROW])
    return task.prepare({name: x for name, x in batch.items() if name not in (ROW, FILLED)}, keys)


def _any(names: Iterable[str]) -> str:
    return "|".join(map(re.escape, names))


def _saved(save: str, task: Any, graphdef: Any, params: Any, buffers: Any, batch: Any) -> Any:
    inputs, _ = _prepared(task, batch)
    saved = merge(graphdef, params, buffers)(inputs, tap=Tap(save=save, strict=False)).taps
    return {name: by_layer(name, value) for name, value in saved.items()}


@functools.partial(jax.jit, static_argnums=(0, 1))
def _pass(
    task: Any, graphdef: Any, params: Any, buffers: Any, batch: Any, gates: Open, changed: Open, way: Any, means: Any
) -> dict[str, Any]:
    """Sums over the rows of a batch.

    Args:
      gates: site -> bool [L], where its bottleneck is on.
      changed: site -> bool [L], where what stands there is replaced, by zeros, `means` or that of the row before, as
        `way` says, 0 to 2.

    Returns:
      loss, weight: of the objective. kl: KL(off || this) over the answers that are there. there: how many.
      values: site -> [L, ...], the sum of what stands at the site. vectors: site -> how many that are, of one layer.
      mask: bool [B, T], the tokens that are there.
      codes: what the bottlenecks chose.
    """
    model = merge(graphdef, params, buffers)
    inputs, targets = _prepared(task, batch)
    filled = batch[FILLED]
    before = (jnp.arange(len(filled)) - 1) % jnp.maximum(jnp.sum(filled), 1)  # the row before, of those that count

    def ablated(name: str) -> Any:
        def edit(x: jax.Array, layer: Any) -> jax.Array:
            layer = 0 if is_between(name) else layer
            mean = means[name][layer].reshape(1, 1, *x.shape[2:])
            ways = (jnp.zeros_like(x), jnp.broadcast_to(mean, x.shape).astype(x.dtype), x[before])
            return jnp.where(changed[name][layer], jax.lax.select_n(way, *ways), x)

        return edit

    tap = Tap(
        save=f"{SAVED}|{_any(map(stands_at, gates))}",
        edit={stands_at(name): ablated(name) for name in gates},
        strict=False,
    )
    out = model(inputs, gates=Gates(gates), tap=tap)
    off = model(inputs, gates=Gates({name: jnp.zeros_like(gate) for name, gate in gates.items()}))
    loss = task.loss(out, targets)
    log_p, log_q = (jax.nn.log_softmax(one.logits.astype(jnp.float32), axis=-1) for one in (off, out))
    divergence = jnp.sum(jnp.exp(log_p) * (log_p - log_q), axis=-1)
    there = filled[:, None] if inputs.tokens is None else jnp.broadcast_to(filled[:, None], inputs.tokens.shape)
    if inputs.segments is not None:
        there = there & (inputs.segments > 0)
    counted = (there if divergence.ndim > 1 else filled).astype(jnp.float32)
    taps = {name: by_layer(name, saved) for name, saved in out.taps.items()}
    values = {name: taps.pop(stands_at(name)) for name in gates}
    return {
        "loss": loss.total,
        "weight": loss.weight,
        "kl": jnp.sum(divergence * counted),
        "there": jnp.sum(counted),
        "values": {name: _sum(value, there) for name, value in values.items()},
        "vectors": {name: _sum(jnp.ones(value.shape[:3]), there)[0] for name, value in values.items()},
        "mask": there,
        "codes": {name.removesuffix(".codes"): value for name, value in taps.items()},
    }


def _sum(x: jax.Array, there: jax.Array) -> jax.Array:
    """[L, B, T, ...] summed over the tokens that are there."""
    weights = there.astype(jnp.float32).reshape(1, *there.shape, *(1,) * (x.ndim - 3))
    return jnp.sum(x.astype(jnp.float32) * weights, axis=(1, 2))
