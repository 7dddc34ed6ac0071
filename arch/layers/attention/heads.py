"""What mixers with heads share: free heads and head width, the projections, and padding without influence.

Parameters have the paths and shapes of softmax attention's (`q.kernel` D N K, `o.kernel` N K D), so that heads can be
counted, cut and joined alike in every kind.
"""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float

from arch.context import Context
from arch.layers.attention.masks import MASKED
from arch.layers.caches import Room
from arch.layers.linear import Dense, Linear
from arch.layers.sublayer import Mixer
from arch.params import ParamFactory
from arch.spec import Problem, at_least
from arch.taps import NoTap, Recorder


@dataclasses.dataclass(frozen=True)
class HeadMixer(Mixer, abc.ABC):
    """A mixer of N heads of width K, free of the model width. Positions come from the model.

    Rows hold one document and padding; a row with several documents gives NaN rather than mixing them.

    Attributes:
      heads: N.
      head_dim: K; None: width // heads.
      linear: the kind of the projections.
    """

    heads: int = 8
    head_dim: int | None = None
    linear: Linear = Dense()

    def problems(self) -> Iterator[Problem]:
        yield from at_least(self, 1, "heads", "head_dim")

    @property
    def causal(self) -> bool | None:
        return False  # these kinds read whole rows, but for those that say otherwise

    def size(self, width: int) -> int:
        """K in a model of `width`. Raises SpecError if neither is it given nor do the heads divide the width."""
        if self.head_dim is None and width % self.heads:
            raise self.invalid("heads", f"must divide the width {width}, or give head_dim")
        return self.head_dim or width // self.heads


class HeadLayer(nnx.Module):
    """The projections of a `HeadMixer`: those of `inputs` into the heads, and the output's."""

    def __init__(self, spec: HeadMixer, width: int, make: ParamFactory, inputs: tuple[str, ...] = ("q", "k", "v")):
        self.kind, self.heads, self.head_dim = type(spec).__name__, spec.heads, spec.size(width)
        embed, heads, head = (width, "embed"), (self.heads, "heads"), (self.head_dim, "head_dim")
        for name in inputs:
            role = "value" if name == "v" else "linear"
            setattr(self, name, spec.linear.build([embed], [heads, head], make, name=name, role=role))
        self.o = spec.linear.build([heads, head], [embed], make, name="o", role="residual")

    def project(self, name: str, x_BTD: Float[Array, "B T D"], ctx: Context) -> Float[Array, "B T N K"]:
        """The heads' view of `x` called `name`, tapped."""
        return ctx.tap(f"attn.{name}", getattr(self, name)(x_BTD))

    def output(self, z_BTNK: Float[Array, "B T N K"], ctx: Context) -> Float[Array, "B T D"]:
        """What the heads write together."""
        return self.o(ctx.tap("attn.z", z_BTNK))

    def init_cache(self, room: Room) -> Any:
        """These kinds read whole rows. Raises ValueError."""
        raise ValueError(f"{self.kind} reads whole rows and has no cached decoding; use Attention to generate")

    def refuse_longer(self, given: int, length: int) -> None:
        """Raises ValueError if a row has more tokens than the part was built for."""
        if given > length:
            raise ValueError(f"{given} tokens do not fit {self.kind}(length={length})")


def visible_tokens(ctx: Context) -> Bool[Array, "B T"] | None:
    """Which tokens are text; None: all."""
    return None if ctx.segments is None else ctx.segments > 0


def zero_padding(x_BTNK: Float[Array, "B T N K"], visible: Bool[Array, "B T"] | None) -> Float[Array, "B T N K"]:
    """`x` with zeros at padding."""
    return x_BTNK if visible is None else jnp.where(visible[:, :, None, None], x_BTNK, jnp.zeros((), x_BTNK.dtype))


def one_document(x: Float[Array, "B *rest"], ctx: Context) -> Float[Array, "B *rest"]:
    """`x`, with NaN in the rows that hold more than one document."""
    if ctx.segments is None:
        return x
    several = jnp.max(ctx.segments, axis=1) > 1
    return jnp.where(several.reshape(-1, *[1] * (x.ndim - 1)), jnp.full((), jnp.nan, x.dtype), x)


def weigh(
    score_BNTS: Float[Array, "#B N T S"],
    v_BSNK: Float[Array, "B S N K"],
    visible: Bool[Array, "B S"] | None,
    tap: NoTap | Recorder,
) -> Float[Array, "B T N K"]:
    """softmax(score) v over the visible keys; scores and softmax are float32."""
    score_BNTS = score_BNTS.astype(jnp.float32)
    if visible is not None:
        score_BNTS = jnp.where(visible[:, None, None, :], score_BNTS, MASKED)
    score_BNTS = tap("attn.scores", score_BNTS)
    pattern_BNTS = tap("attn.pattern", jax.nn.softmax(score_BNTS, axis=-1).astype(v_BSNK.dtype))
    if pattern_BNTS.shape[0] == 1:
        return jnp.einsum("nts,bsnk->btnk", pattern_BNTS[0], v_BSNK)
    return jnp.einsum("bnts,bsnk->btnk", pattern_BNTS, v_BSNK)
