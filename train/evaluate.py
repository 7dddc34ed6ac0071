"""The metrics over whole splits: validation, test, and further sets."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from train.data.base import Dataset, EvaluationBatches
from train.data.description import prefix
from train.forward import Sums, report
from train.setup import CompiledRun

TEST = "test"
"""The split that is evaluated once, after the last step; the others are evaluated whenever it is due."""


def evaluation_batches(program: CompiledRun, dataset: Dataset) -> dict[str, EvaluationBatches]:
    """Split -> the batches of this process, of every split of `dataset` that is evaluated on."""
    batch, processes = program.run.batch // program.run.micro_batches, (jax.process_index(), jax.process_count())
    return {split: dataset.evaluation(split, batch, *processes) for split in dataset.description.evaluated}


def evaluate_all(
    program: CompiledRun,
    state: Mapping[str, Any],
    splits: Mapping[str, Iterable[Mapping[str, np.ndarray]]],
    abandon: Callable[[], bool] = lambda: False,
) -> dict[str, Any] | None:
    """PREFIX/NAME -> value of `evaluate` on each of `splits`: val/loss, test/loss, NAME/loss. None if abandoned."""
    found: dict[str, Any] = {}
    for split, batches in splits.items():
        metrics = evaluate(program, state, batches, abandon)
        if metrics is None and abandon():
            return None
        found |= {f"{prefix(split)}/{name}": value for name, value in (metrics or {}).items()}
    return found


def evaluate(
    program: CompiledRun,
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
    for sums in batch_sums(program, state, batches, abandon):
        if sums is None:
            return None
        total = sums if total is None else jax.tree.map(np.add, total, sums)
    if total is None:
        return None
    metrics = report(program.run.objective, jax.tree.map(jnp.float32, total))
    return {name: np.asarray(value).tolist() for name, value in metrics.items()}


def batch_sums(
    program: CompiledRun,
    state: Mapping[str, Any],
    batches: Iterable[Mapping[str, np.ndarray]],
    abandon: Callable[[], bool] = lambda: False,
) -> Iterator[Sums | None]:
    """The sums of each batch, float64 on the host, with a leading axis of replicas if there are members.

    Those of a batch are waited for after the next one was dispatched. The last is None if `abandon()` said so.
    """
    ahead: Any = None
    for batch in batches:
        if abandon():
            yield None
            return
        sums = program.eval_step(state["params"], state["buffers"], program.place(batch, train=False))
        if ahead is not None:
            yield _on_host(ahead)
        ahead = sums
    if ahead is not None:
        yield _on_host(ahead)


def _on_host(sums: Any) -> Sums:
    return jax.tree.map(np.float64, jax.device_get(sums))
