"""Vector quantisation between layers (arXiv 1711.00937): each vector becomes the nearest of C codes.

`EmaCodes` moves its codes by running sums of what chose them (appendix A.1): N <- d N + (1 - d) n,
M <- d M + (1 - d) s, e = M / N. `LearnedCodes` moves them by the gradient of |sg(x) - e|^2 (eq. 3). Both pull the
vectors to their codes by beta |x - sg(e)|^2, and let the gradient straight through. `BalancedCodes` adds the loss
C sum_c f_c p_c of a batch, with f the share of choices and p the mean of softmax(-|x - e|^2) (arXiv 2101.03961, eq. 4),
which is no sum over rows.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping

import jax
import jax.numpy as jnp
from flax import nnx

from arch.answers import Sum, coupled, mean_over
from arch.bottlenecks.base import Bottleneck
from arch.context import Context
from arch.params import Maker
from arch.spec import Problem, above, at_least, between


@dataclasses.dataclass(frozen=True)
class EmaCodes(Bottleneck):
    """`codes` is C, `decay` d, `beta` the weight of the commitment loss."""

    codes: int = 8
    decay: float = 0.9
    beta: float = 0.25

    def problems(self) -> Iterator[Problem]:
        yield from at_least(self, 1, "codes")
        yield from between(self, 0, 1, "decay")
        yield from above(self, 0, "beta")

    def build(self, width, make):
        return EmaCodesLayer(self, width, make)


class EmaCodesLayer(nnx.Module):
    def __init__(self, spec: EmaCodes, width: int, make: Maker):
        self.codes, self.decay, self.beta = spec.codes, spec.decay, spec.beta
        start = 0.02 * jax.random.normal(make.at("codes").key, (spec.codes, width))
        self.counts = make.buffer([(spec.codes, "codes")], 1.0)
        self.sums = make.buffer([(spec.codes, "codes"), (width, "embed")], start, "normal(0.02)", role="codebook")

    def __call__(self, x_BTD: jax.Array, ctx: Context) -> jax.Array:
        codes_CD = self.sums[...] / self.counts[...][:, None]
        weight_BT = _weights(x_BTD, ctx)
        chosen_BTC, _ = nearest(x_BTD, codes_CD)
        code_BTD = jnp.einsum("btc,cd->btd", chosen_BTC, codes_CD).astype(x_BTD.dtype)
        counted_BTC = chosen_BTC * weight_BT[..., None]
        share = self.counts[...] / jnp.sum(self.counts[...])
        there = jnp.sum(weight_BT)
        ctx.answer(
            self,
            losses={"commitment": _apart(x_BTD, jax.lax.stop_gradient(code_BTD), weight_BT, self.beta)},
            # Of the running counts, which are the same for every row: a sum over tokens like the others.
            metrics={"perplexity": Sum(there * jnp.exp(-jnp.sum(share * jnp.log(share + 1e-9))), there)},
            statistics={
                "counts": jnp.sum(counted_BTC, axis=(0, 1)),
                "sums": jnp.einsum("btc,btd->cd", counted_BTC, jax.lax.stop_gradient(x_BTD.astype(jnp.float32))),
            },
        )
        return straight_through(x_BTD, code_BTD)

    def advance(self, buffers: Mapping[str, jax.Array], sums: Mapping[str, jax.Array]) -> dict[str, jax.Array]:
        return {name: self.decay * old + (1 - self.decay) * sums[name] for name, old in buffers.items()}


@dataclasses.dataclass(frozen=True)
class LearnedCodes(Bottleneck):
    """`codes` is C, `beta` the weight of the commitment loss."""

    codes: int = 8
    beta: float = 0.25

    def problems(self) -> Iterator[Problem]:
        yield from at_least(self, 1, "codes")
        yield from above(self, 0, "beta")

    def build(self, width, make):
        return LearnedCodesLayer(self, width, make)


class LearnedCodesLayer(nnx.Module):
    def __init__(self, spec: LearnedCodes, width: int, make: Maker):
        self.beta = spec.beta
        self.codes = make.weight("codes", [(spec.codes, "codes")], [(width, "embed")], role="codebook")

    def __call__(self, x_BTD: jax.Array, ctx: Context) -> jax.Array:
        codes_CD = self.codes[...].astype(jnp.float32)
        weight_BT = _weights(x_BTD, ctx)
        chosen_BTC, soft_BTC = nearest(x_BTD, codes_CD)
        code_BTD = jnp.einsum("btc,cd->btd", chosen_BTC, codes_CD)
        ctx.answer(
            self,
            losses={
                "codebook": _apart(jax.lax.stop_gradient(x_BTD), code_BTD, weight_BT, 1.0),
                "commitment": _apart(x_BTD, jax.lax.stop_gradient(code_BTD), weight_BT, self.beta),
                **self.further_losses(chosen_BTC, soft_BTC, weight_BT),
            },
        )
        return straight_through(x_BTD, code_BTD.astype(x_BTD.dtype))

    def further_losses(self, chosen_BTC: jax.Array, soft_BTC: jax.Array, weight_BT: jax.Array) -> dict[str, Sum]:
        return {}


@dataclasses.dataclass(frozen=True)
class BalancedCodes(LearnedCodes):
    """Learned codes that are to be chosen equally often."""

    def build(self, width, make):
        return BalancedCodesLayer(self, width, make)


class BalancedCodesLayer(LearnedCodesLayer):
    def further_losses(self, chosen_BTC, soft_BTC, weight_BT):
        there = jnp.sum(weight_BT)
        chosen, soft = (jnp.einsum("btc,bt->c", x, weight_BT) / there for x in (chosen_BTC, soft_BTC))
        return {"balance": coupled(0.01 * chosen.size * jnp.sum(chosen * soft))}


def nearest(x_BTD: jax.Array, codes_CD: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The nearest code of each vector, one-hot [B, T, C], and softmax(-distance), both float32."""
    x_BTD = x_BTD.astype(jnp.float32)
    lengths = jnp.sum(jnp.square(codes_CD), axis=-1)[None, None]
    distance_BTC = lengths - 2 * jnp.einsum("btd,cd->btc", x_BTD, codes_CD)
    chosen = jnp.argmin(distance_BTC, axis=-1)[..., None] == jnp.arange(codes_CD.shape[0])[None, None]
    return chosen.astype(jnp.float32), jax.nn.softmax(-distance_BTC, axis=-1)


def straight_through(x: jax.Array, code: jax.Array) -> jax.Array:
    """`code`, with the gradient of `x`."""
    return x + jax.lax.stop_gradient(code - x)


def _weights(x_BTD: jax.Array, ctx: Context) -> jax.Array:
    """1 for tokens, 0 for padding, [B, T]."""
    return jnp.ones(x_BTD.shape[:2]) if ctx.segments is None else (ctx.segments > 0).astype(jnp.float32)


def _apart(x_BTD: jax.Array, code_BTD: jax.Array, weight_BT: jax.Array, beta: float) -> Sum:
    gap_BT = jnp.sum(jnp.square(x_BTD.astype(jnp.float32) - code_BTD.astype(jnp.float32)), axis=-1)
    return mean_over(beta * gap_BT, weight_BT)
