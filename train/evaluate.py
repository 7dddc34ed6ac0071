"""The loss over the whole validation split."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from train.forward import report
from train.setup import Program


def evaluate(
    program: Program,
    state: Mapping[str, Any],
    batches: Iterable[Mapping[str, np.ndarray]],
    abandon: Callable[[], bool] = lambda: False,
) -> dict[str, Any] | None:
    """The metrics of the objective and of the model's parts over all `batches`, each row counted once.

    The sums of each batch are added in float64 on the host, where float32 would round away single bytes after
    2^24 of them. With members each metric is a list, one value a replica.

    None if `abandon()` said so on the way, or there were no batches.
    """
    total: Any = None
    ahead: Any = None
    for batch in batches:
        if abandon():
            return None
        sums = program.eval_step(state["params"], state["buffers"], program.place(batch, train=False))
        total, ahead = _add(total, ahead), sums
    total = _add(total, ahead)
    if total is None:
        return None
    metrics = report(program.run.objective, jax.tree.map(jnp.float32, total))
    return {name: np.asarray(value).tolist() for name, value in metrics.items()}


def _add(total: Any, sums: Any) -> Any:
    """`total` and the sums of a batch, which is waited for here: after the next one was dispatched."""
    if sums is None:
        return total
    host = jax.tree.map(np.float64, jax.device_get(sums))
    return host if total is None else jax.tree.map(np.add, total, host)
