"""Pooling: from the vectors of a row's tokens to one vector. Padding has no part in it."""

from __future__ import annotations

import abc
import dataclasses

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from arch.spec import Spec


@dataclasses.dataclass(frozen=True)
class Pooling(Spec, abc.ABC):
    """A way of making one vector of many. A row of nothing but padding gives zeros."""

    @abc.abstractmethod
    def __call__(self, x_BTD: Float[Array, "B T D"], visible: Bool[Array, "B T"] | None) -> Float[Array, "B D"]:
        """The vector of each row; `visible` tells text from padding, None: all is text."""


@dataclasses.dataclass(frozen=True)
class MeanPooling(Pooling):
    """The mean over the text of a row."""

    def __call__(self, x_BTD, visible):
        if visible is None:
            return jnp.mean(x_BTD, axis=1)
        weights = visible.astype(x_BTD.dtype)
        total = jnp.sum(jnp.where(visible[:, :, None], x_BTD, jnp.zeros((), x_BTD.dtype)), axis=1)
        return total / jnp.maximum(jnp.sum(weights, axis=1, keepdims=True), jnp.ones((), x_BTD.dtype))


@dataclasses.dataclass(frozen=True)
class FirstPooling(Pooling):
    """The first token of the text, which reads the others for it (BERT, arXiv 1810.04805, section 3)."""

    def __call__(self, x_BTD, visible):
        if visible is None:
            return x_BTD[:, 0]
        first = visible & (jnp.cumsum(visible.astype(jnp.int32), axis=1) == 1)
        return jnp.sum(jnp.where(first[:, :, None], x_BTD, jnp.zeros((), x_BTD.dtype)), axis=1)


@dataclasses.dataclass(frozen=True)
class LastPooling(Pooling):
    """The last token of the text, which in a causal model alone has read all of it (arXiv 2401.00368, section 3)."""

    def __call__(self, x_BTD, visible):
        if visible is None:
            return x_BTD[:, -1]
        count = jnp.cumsum(visible.astype(jnp.int32), axis=1)
        last = visible & (count == count[:, -1:])
        return jnp.sum(jnp.where(last[:, :, None], x_BTD, jnp.zeros((), x_BTD.dtype)), axis=1)
