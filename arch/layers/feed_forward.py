"""Feed-forwards: the plain two-layer MLP and the gated one (GLU variants, arXiv 2002.05202)."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from functools import partial
from typing import Literal, get_args

import jax
from flax import nnx
from jaxtyping import Array, Float

from arch.context import Context, Result
from arch.layers.linear import Dense, Linear
from arch.layers.sublayer import FeedForward
from arch.params import ParamFactory
from arch.spec import Problem, at_least, one_of

Activation = Literal["relu", "gelu", "gelu_tanh", "silu"]
ACTIVATIONS: dict[str, Callable[[jax.Array], jax.Array]] = {
    "relu": jax.nn.relu,
    "gelu": partial(jax.nn.gelu, approximate=False),
    "gelu_tanh": partial(jax.nn.gelu, approximate=True),
    "silu": jax.nn.silu,
}


@dataclasses.dataclass(frozen=True)
class MLP(FeedForward):
    """W_out act(W_in x). `hidden` is F; None: 4 * width. "gelu" is exact, "gelu_tanh" its tanh approximation."""

    hidden: int | None = None
    activation: Activation = "gelu"
    linear: Linear = Dense()

    def problems(self) -> Iterator[Problem]:
        yield from at_least(self, 1, "hidden")
        yield from one_of(self, "activation", get_args(Activation))

    def build(self, width, make):
        return MLPLayer(self, width, make)


class MLPLayer(nnx.Module):
    def __init__(self, spec: MLP, width: int, make: ParamFactory):
        self.activation = spec.activation
        hidden = (spec.hidden or 4 * width, "mlp")
        self.up = spec.linear.build([(width, "embed")], [hidden], make, name="up", role="feed_forward")
        self.down = spec.linear.build([hidden], [(width, "embed")], make, name="down", role="residual")

    def __call__(self, x_BTD: Float[Array, "B T D"], ctx: Context) -> Result:
        pre_BTF = ctx.tap("mlp.pre", self.up(x_BTD))
        return Result(self.down(ctx.tap("mlp.post", ACTIVATIONS[self.activation](pre_BTF))))


@dataclasses.dataclass(frozen=True)
class GatedMLP(FeedForward):
    """W_out (act(W_gate x) * W_in x): SwiGLU with "silu" (default), GeGLU with "gelu" or "gelu_tanh".

    `hidden` is F; None: 8/3 * width rounded up to a multiple of 8 (the parameters of an MLP of 4 * width).
    """

    hidden: int | None = None
    activation: Activation = "silu"
    linear: Linear = Dense()

    def problems(self) -> Iterator[Problem]:
        yield from at_least(self, 1, "hidden")
        yield from one_of(self, "activation", get_args(Activation))

    def build(self, width, make):
        return GatedMLPLayer(self, width, make)


class GatedMLPLayer(nnx.Module):
    def __init__(self, spec: GatedMLP, width: int, make: ParamFactory):
        self.activation = spec.activation
        hidden = (spec.hidden or -(-8 * width // 24) * 8, "mlp")
        self.gate = spec.linear.build([(width, "embed")], [hidden], make, name="gate", role="feed_forward")
        self.up = spec.linear.build([(width, "embed")], [hidden], make, name="up", role="feed_forward")
        self.down = spec.linear.build([hidden], [(width, "embed")], make, name="down", role="residual")

    def __call__(self, x_BTD: Float[Array, "B T D"], ctx: Context) -> Result:
        pre_BTF = ctx.tap("mlp.pre", self.gate(x_BTD))
        linear_BTF = ctx.tap("mlp.pre_linear", self.up(x_BTD))
        # Its factors are cheaper to compute again in the backward pass than to keep: both are [B, T, F].
        gated = jax.checkpoint(lambda pre, linear: ACTIVATIONS[self.activation](pre) * linear)
        return Result(self.down(ctx.tap("mlp.post", gated(pre_BTF, linear_BTF))))
