"""Codebook control: any strategy, while chosen codes of bottlenecks are activated (arXiv 2310.17230, section 2.2).

    one   the least similar of the k active codes is replaced by the chosen one
    all   all k of them are, by k copies of it

At every position, of the prompt as of what is written, by an edit of the tap site `SITE.codes`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from arch.decode.strategy import Strategy
from arch.spec import Problem, Spec, above, at_least
from arch.taps import Edit


@dataclasses.dataclass(frozen=True)
class Activate(Spec):
    """One code to activate.

    Attributes:
      site: where its bottleneck stands: "mlp_out", "attn.z".
      layer: 0-based.
      code: which one.
      group: of which head or group, where there are several side by side.
      slots: how many of the k active codes become it.
      amplitude: of a sparse code: how much of it; None: as much as the replaced one had.
    """

    site: str
    layer: int
    code: int
    group: int = 0
    slots: Literal["one", "all"] = "all"
    amplitude: float | None = None

    def problems(self) -> Iterator[Problem]:
        yield from at_least(self, 0, "layer", "code", "group")
        yield from above(self, 0, "amplitude")


@dataclasses.dataclass(frozen=True)
class Steered(Strategy):
    """`strategy`, with codes activated.

    Attributes:
      strategy: how tokens are chosen.
      activate: of each prompt the codes that are activated; of one entry, it is that of all prompts.
    """

    strategy: Strategy
    activate: tuple[tuple[Activate, ...], ...]

    def problems(self) -> Iterator[Problem]:
        if not self.activate:
            yield Problem("activate", self.activate, "must have an entry, for one prompt or for all")

    @property
    def rows(self):
        return self.strategy.rows

    @property
    def ahead(self):
        return self.strategy.ahead

    @property
    def watch(self):
        return self.strategy.watch

    def edits(self, prompts):
        if len(self.activate) not in (1, prompts):
            raise self.invalid("activate", f"must have one entry for each of {prompts} prompts, or one for all")
        plans = [plan for plan in self.activate for _ in range(self.rows)]
        plans = plans * (prompts if len(self.activate) == 1 else 1)
        edits: dict[str, Edit] = dict(self.strategy.edits(prompts))
        for site in sorted({one.site for plan in plans for one in plan}):
            mine = [[one for one in plan if one.site == site] for plan in plans]
            edits[f"{site}.codes"] = _edit(mine, "code", jnp.int32)
            if any(one.amplitude is not None for plan in mine for one in plan):
                edits[f"{site}.amplitudes"] = _edit(mine, "amplitude", jnp.float32)
        return edits

    def check(self, sites):
        self.strategy.check(sites)
        for one in {one: None for plan in self.activate for one in plan}:
            shape = getattr(sites.get(f"{one.site}.codes"), "shape", None)
            if shape is None:  # layers of different shapes, or a site that the model itself refuses
                continue
            groups = shape[3] if len(shape) > 4 else 1
            for what, value, count in (("layer", one.layer, shape[0]), ("group", one.group, groups)):
                if value >= count:
                    allowed = f"{one.site} has {count} {what}s, 0 to {count - 1}: {what} {value} would change nothing"
                    raise self.invalid("activate", allowed)

    def init(self, prompt):
        return self.strategy.init(prompt)

    def next(self, state, seen, key):
        return self.strategy.next(state, seen, key)

    def outcome(self, state):
        return self.strategy.outcome(state)


def _edit(plans: list[list[Activate]], field: str, dtype: Any) -> Edit:
    """Writes `field` of each row's activations into the slots that they take."""
    most = max(map(len, plans))
    columns: list[Mapping[str, np.ndarray]] = []
    for place in range(most):
        ones = [plan[place] if place < len(plan) else None for plan in plans]
        given = [one is not None and getattr(one, field) is not None for one in ones]
        columns.append({
            "given": np.array(given),
            "value": np.array([getattr(one, field) if there else 0 for one, there in zip(ones, given, strict=True)]),
            "layer": np.array([one.layer if one else 0 for one in ones], np.int32),
            "group": np.array([one.group if one else 0 for one in ones], np.int32),
            "all": np.array([one is not None and one.slots == "all" for one in ones]),
        })  # fmt: skip

    def edit(x: jax.Array, layer: Any) -> jax.Array:
        k, along = x.shape[-1], (-1, *(1,) * (x.ndim - 1))
        slot = jnp.arange(k, dtype=jnp.int32)
        group = jnp.arange(x.shape[2], dtype=jnp.int32)[:, None] if x.ndim > 3 else jnp.zeros((1,), jnp.int32)
        for column in columns:
            here = jnp.asarray(column["given"]) & (
                jnp.asarray(column["layer"]) == jnp.int32(0 if layer is None else layer)
            )
            taken = jnp.asarray(column["all"]).reshape(along) | (slot == k - 1).reshape((1,) * (x.ndim - 1) + (k,))
            groups = group.reshape((1, 1, *group.shape) if x.ndim > 3 else (1,) * x.ndim)
            mine = here.reshape(along) & (jnp.asarray(column["group"]).reshape(along) == groups) & taken
            x = jnp.where(mine, jnp.asarray(column["value"], dtype).reshape(along).astype(x.dtype), x)
        return x

    return edit
