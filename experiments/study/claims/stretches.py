"""How much a metric depends on which rows were measured: the jackknife over stretches of a split.

A split is cut into stretches of consecutive rows, so that rows of one document stay together. The pseudo-value of
stretch b is B m - (B - 1) m_b, where m is the metric of all rows and m_b that of all but the stretch (Tukey 1958). It
needs nothing but the sums of which the objective makes its metrics, so that it serves every metric; for a mean of
rows it is the mean of the stretch.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from train.data.description import prefix
from train.evaluate import batch_sums
from train.setup import CompiledRun

FEWEST, MOST = 10, 64
"""Stretches: fewer do not say how rows differ, more say it no better."""


def pseudo_values(
    program: CompiledRun, state: Mapping[str, Any], split: str, batches: Iterable[Mapping[str, np.ndarray]]
) -> dict[str, np.ndarray]:
    """PREFIX/NAME -> [stretches], with members [stretches, R], of every metric of the objective on `split`.

    Empty if the split has fewer than `FEWEST` batches, of which stretches are made.
    """
    sums = [one.loss for one in batch_sums(program, state, batches) if one is not None]
    if len(sums) < FEWEST:
        return {}
    each = jax.tree.map(lambda *parts: np.stack(parts), *sums)
    edges = np.linspace(0, len(sums), min(len(sums), MOST) + 1).astype(int)[:-1]
    stretches = jax.tree.map(lambda parts: np.add.reduceat(parts, edges, axis=0), each)
    whole = jax.tree.map(lambda parts: parts.sum(axis=0), stretches)
    without = jax.tree.map(lambda total, parts: total[None] - parts, whole, stretches)
    metrics = program.run.objective.metrics
    of_all, of_most = metrics(_float32(whole)), jax.vmap(metrics)(_float32(without))
    count = len(edges)
    return {
        f"{prefix(split)}/{name}": count * np.asarray(whole, np.float64) - (count - 1) * np.asarray(of_most[name])
        for name, whole in of_all.items()
    }


def _float32(tree: Any) -> Any:
    return jax.tree.map(jnp.float32, tree)
