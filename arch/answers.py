"""What parts return beside their output: losses, metrics, and statistics for their buffers.

A part, however deep inside a model, calls `ctx.answer(self, losses={"commitment": Sum(total, weight)})`. The
parts around it need not pass anything on, so nothing can be dropped on the way: stacks return what their layers noted
as results of the scanned body, and a model returns all of it in its `Output`, named by the part and the name
("feed_forward.commitment"), stacked over layers.

Every loss and metric is a sum with its weight, so that micro-batches, devices and hosts add up exactly.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

SILENT = ("stack", "blocks", "sections")
"""Pieces of a part's path that its answers are not named by."""

PLACE = re.compile(r"(\bsections\.\d+)\.\d+\b")
"""Where in its period a layer of a pattern stands, behind the loop that it is in."""


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Sum:
    """A quantity summed over a batch, and the weight of what was summed; its value is total / weight.

    Both are float32, scalars or one entry a layer. The weight is a constant: no gradient goes through it, and it must
    not depend on parameters more than choosing does (a count of tokens, of rows, of those that a router sent here).

    Attributes:
      total: sum over rows (or tokens), each with its weight.
      weight: sum of the weights.
      coupled: the total is no sum over rows: it depends on all rows of a batch together, as load balancing and the
        entropy of a codebook's use do. It is then that of the whole batch on any number of devices, and of
        micro-batches the mean of each one's own.
    """

    total: jax.Array
    weight: jax.Array
    coupled: bool = dataclasses.field(default=False, metadata={"static": True})

    @property
    def value(self) -> jax.Array:
        """total / weight; 0 where nothing had a weight."""
        return self.total / jnp.where(self.weight > 0, self.weight, jnp.ones_like(self.weight))


def coupled(value: jax.Array) -> Sum:
    """A loss or metric of a batch as a whole, which is no sum over its rows."""
    return Sum(jnp.asarray(value, jnp.float32), jnp.ones((), jnp.float32), coupled=True)


def mean_over(values: jax.Array, weights: jax.Array | None = None) -> Sum:
    """The sum of `values`, of any shape, each with its weight of the same shape (None: 1). float32."""
    values = values.astype(jnp.float32)
    if weights is None:
        return Sum(jnp.sum(values), jnp.asarray(values.size, jnp.float32))
    weights = weights.astype(jnp.float32)
    return Sum(jnp.sum(values * weights), jnp.sum(weights))


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Answer:
    """What the parts of a module noted, by path from that module.

    Attributes:
      losses: "PATH.NAME" -> what is added to the objective's loss, each total / weight, summed over layers.
      metrics: "PATH.NAME" -> what is reported, the mean over layers.
      statistics: path of a part with buffers -> its sums over rows, as its `advance` takes them.
    """

    losses: Mapping[str, Sum] = dataclasses.field(default_factory=dict)
    metrics: Mapping[str, Sum] = dataclasses.field(default_factory=dict)
    statistics: Mapping[str, Any] = dataclasses.field(default_factory=dict)


class Answers:
    """Collects the answers of the parts of one module within one trace."""

    def __init__(self) -> None:
        self._told: list[tuple[Any, Answer]] = []

    def add(self, part: Any, answer: Answer) -> None:
        """Notes the `answer` of `part` (a module); paths in `answer` count from the part."""
        self._told.append((part, answer))

    def collect(self, root: nnx.Module) -> Answer:
        """Everything noted since the last call, by path from `root`, which the parts must belong to.

        Raises:
          ValueError: a part that is not in `root`, or two answers of one name.
        """
        told, self._told = self._told, []
        if not told:
            return Answer()
        graph = nnx.iter_graph(root)
        paths = {id(node): ".".join(map(str, path)) for path, node in graph if isinstance(node, nnx.Module)}
        kinds: dict[str, dict[str, Any]] = {"losses": {}, "metrics": {}, "statistics": {}}
        for part, answer in told:
            if id(part) not in paths:
                raise ValueError(f"{type(part).__name__} answered, but is no part of the {type(root).__name__} called")
            for kind, found in kinds.items():
                for name, value in getattr(answer, kind).items():
                    full = ".".join(piece for piece in (paths[id(part)], name) if piece)
                    if full in found:
                        raise ValueError(f"{full}: answered twice in one call of {type(root).__name__}; a part that is "
                                         "called several times must add up its own answers")  # fmt: skip
                    found[full] = value
        return Answer(**kinds)


def by_name(sums: Mapping[str, Sum]) -> dict[str, Sum]:
    """`sums` under the names they are reported by: without the pieces of the path that say where in a stack a layer
    is. What then has one name is put side by side, one entry a layer."""
    groups: dict[str, dict[str, Sum]] = {}
    for path in sorted(sums, key=_natural):
        name = ".".join(piece for piece in path.split(".") if piece not in SILENT and not piece.isdigit())
        groups.setdefault(name, {})[path] = sums[path]
    return {
        name: next(iter(group.values())) if len(group) == 1 else _side_by_side(group) for name, group in groups.items()
    }


def _natural(path: str) -> list[tuple[int, int, str]]:
    """Sorts section 10 behind section 9."""
    return [(0, int(piece), "") if piece.isdigit() else (1, 0, piece) for piece in path.split(".")]


def _side_by_side(group: Mapping[str, Sum]) -> Sum:
    """One sum of all, an entry a layer, in the order of layers: the places of one period alternate."""
    loops: dict[str, list[Sum]] = {}
    for path, one in group.items():
        loops.setdefault(PLACE.sub(r"\1", path), []).append(one)

    def joined(field: str) -> jax.Array:
        columns = [jnp.stack([jnp.atleast_1d(getattr(one, field)) for one in loop], axis=1) for loop in loops.values()]
        return jnp.concatenate([column.reshape(-1) for column in columns])

    return Sum(joined("total"), joined("weight"), any(one.coupled for one in group.values()))
