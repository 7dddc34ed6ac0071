"""A frozen network with adapters (Houlsby et al., arXiv 1902.00751): x + W_up act(W_down x), W_up starting at zero.

What is frozen is a matter of the optimiser's patterns alone: `optimizer.freeze` names everything but the adapters.
What the frozen arrays start from is the run's: `start=FromRun(...)`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import jax
from flax import nnx

from arch.context import Context, Result
from arch.layers.feed_forward import ACTIVATIONS, Activation
from arch.layers.sublayer import FeedForward
from arch.params import ParamFactory
from arch.spec import Problem, at_least

FREEZE = r"^(?!.*\.adapter)"
"""Every parameter but those of sublayers called `adapter` and of the norms before them."""


@dataclasses.dataclass(frozen=True)
class Adapter(FeedForward):
    """`rank`: units between the two maps."""

    rank: int = 4
    activation: Activation = "gelu"

    def problems(self) -> Iterator[Problem]:
        yield from at_least(self, 1, "rank")

    def build(self, width, make):
        return AdapterLayer(self, width, make)


class AdapterLayer(nnx.Module):
    def __init__(self, spec: Adapter, width: int, make: ParamFactory):
        self.activation = spec.activation
        self.down = make.weight("down", [(width, "embed")], [(spec.rank, None)])
        self.up = make.array([(spec.rank, None), (width, "embed")], 0.0, "zero", role="linear")

    def __call__(self, x_BTD: jax.Array, ctx: Context) -> Result:
        inside = ACTIVATIONS[self.activation](x_BTD @ self.down[...].astype(x_BTD.dtype))
        return Result(ctx.tap("inside", inside) @ self.up[...].astype(x_BTD.dtype))
