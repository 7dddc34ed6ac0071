"""Rows longer than a model has positions: refused while the configuration is checked, not at the first step."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import jax

from arch.spec import Problem, SpecError
from train.data.description import Description
from train.forward import Forward
from train.starts.beside import graphs


def too_long(run: Any, network: Any, data: Description) -> Iterator[SpecError]:
    """What `run`, whose model is `network`, reads in rows that are longer than the model has positions.

    Inputs are taken of the objective in shapes alone, and only for a model that has a bound.
    """
    limits = {"tokens": getattr(network, "limit", None), "source": getattr(network, "source_limit", None)}
    if set(limits.values()) == {None} or not data.arrays:
        return
    batch = {name: jax.ShapeDtypeStruct(*kind) for name, kind in data.batch(1).items()}
    beside, frozen = graphs(run.objective.frozen)
    try:
        forward = Forward(None, run.objective.build(data), beside=beside)
        inputs, _ = jax.eval_shape(forward.still, frozen, batch)
    except Exception:
        return  # data that the objective cannot read: the step is traced in the same way, and says why
    for name, limit in limits.items():
        read = inputs.tokens if name == "tokens" else getattr(inputs.source, "tokens", None)
        if limit is not None and read is not None and read.shape[1] > limit:
            what = "source tokens" if name == "source" else "tokens"
            allowed = f"must be at least {read.shape[1]}, the {what} of a row, or rows be shorter"
            yield SpecError(run.model, [Problem(_field(run.model, name), limit, allowed)])


def _field(model: Any, name: str) -> str:
    """The field that says how many positions there are for `tokens` or `source`."""
    half = {"tokens": "decoder", "source": "encoder"}[name]
    position = getattr(getattr(model, half, model), "position", None)
    field = "position.length" if hasattr(position, "length") else "position"
    return f"{half}.{field}" if hasattr(model, half) else field
