"""StableAdamW: AdamW whose updates are clipped by their root mean square (arXiv 2304.13013, algorithm 2).

    m, v = running means of g and g^2, without their bias
    r = sqrt(mean(g^2 / max(v, eps^2)))         of each parameter by itself
    u = m / (sqrt(v) + eps) / max(1, r)

r is near 1 while v is what g^2 is now, and large where v is out of date, which is where Adam's steps are too long;
with it the gradient's norm needs no clipping. The paper divides the learning rate by max(1, r), and with it the weight
decay; here the decay is decoupled from that too.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import optax

from arch.spec import Problem, above
from train.optim.layout import Layout
from train.optim.optimizers import Optimizer, decay_problems, map_with_path, promoting


@dataclasses.dataclass(frozen=True)
class StableAdamW(Optimizer):
    """AdamW with update clipping. Of layers that run under a scan, each one's parameter is clipped by itself."""

    needs_axes: ClassVar[bool] = True

    clip: float | None = None
    weight_decay: float = 0.1
    b1: float = 0.9
    b2: float = 0.98
    eps: float = 1e-6

    def problems(self) -> Iterator[Problem]:
        yield from super().problems()
        yield from decay_problems(self, "b1", "b2")
        yield from above(self, 0, "eps")

    def direction(self, layouts: Mapping[str, Layout]) -> optax.GradientTransformation:
        adam = promoting(optax.scale_by_adam(self.b1, self.b2, self.eps))

        def update(grads: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
            directions, state = adam.update(grads, state, params)
            unbiased = 1.0 - jnp.float32(self.b2) ** state.count.astype(jnp.float32)

            def clipped(path: str, u: jax.Array, g: jax.Array, v: jax.Array) -> jax.Array:
                ratio = jnp.square(g) / jnp.maximum(v / unbiased.astype(v.dtype), self.eps**2)
                mean = jnp.mean(ratio, axis=layouts[path].block, keepdims=True)
                return u / jnp.maximum(jnp.sqrt(mean), 1.0)

            return map_with_path(clipped, directions, grads, state.nu), state

        return optax.GradientTransformation(adam.init, update)
