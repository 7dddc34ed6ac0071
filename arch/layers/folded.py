"""Kernels that know rows and no further axis, under vmap: the mapped axis joins the rows.

JAX's own rules for cuDNN's attention fail where a mask is one for all heads (0.10.2 to 0.12.0) or one argument of
several is mapped (0.10.2), so that no ensemble could train on a GPU in half precision.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.custom_batching import custom_vmap


def folded(fn: Callable[..., jax.Array]) -> Callable[..., jax.Array]:
    """`fn`, under any number of vmaps in reverse mode or none, one call of `fn` on all their rows.

    Args:
      fn: of arrays whose first axis is the rows, to one such array; each row of it depends on that row of the arguments
        alone, and what its derivative keeps has rows first, or none. Arguments of a floating type are differentiated;
        None is no array.
    """

    def forward(args: tuple[Any, ...]) -> tuple[jax.Array, list[jax.Array]]:
        z, leaves, _, origin = _vjp(fn, args)
        return z, [leaf for leaf, index in zip(leaves, origin, strict=True) if index is None]

    def backward(args: tuple[Any, ...], saved: list[jax.Array], dz: jax.Array) -> tuple[Any, ...]:
        # What `pull` is besides its arrays depends on their shapes, which folding changes: it is made anew from them.
        told: list[Any] = []
        jax.eval_shape(lambda args: told.extend(_vjp(fn, args)[2:]), args)
        (structure, origin), rest = told, iter(saved)
        return structure.unflatten([next(rest) if index is None else args[index] for index in origin])(dz)

    @jax.custom_vjp
    def run(*args: Any) -> jax.Array:
        return _mapped(lambda args: fn(*args))(args)

    run.defvjp(
        lambda *args: (lambda z, saved: (z, (args, saved)))(*_mapped(forward)(args)),
        lambda kept, dz: _all(kept[0], _mapped(backward)(*kept, dz)),
    )
    return run


def _vjp(fn: Callable[..., jax.Array], args: tuple[Any, ...]) -> tuple[jax.Array, list[jax.Array], Any, list[Any]]:
    """fn(*args), and its derivative by the differentiable arguments: arrays, structure, and which of the arrays are
    arguments (None: it is another)."""
    which = _differentiable(args)

    def of(*some: jax.Array) -> jax.Array:
        every = list(args)
        for index, value in zip(which, some, strict=True):
            every[index] = value
        return fn(*every)

    z, pull = jax.vjp(of, *(args[index] for index in which))
    leaves, structure = jax.tree.flatten(pull)
    origin = [next((i for i, arg in enumerate(args) if arg is leaf), None) for leaf in leaves]
    return z, leaves, structure, origin


def _all(args: tuple[Any, ...], found: tuple[Any, ...]) -> tuple[Any, ...]:
    """The derivatives by the differentiable arguments, and none by the others."""
    every: list[Any] = [None] * len(args)
    for index, value in zip(_differentiable(args), found, strict=True):
        every[index] = value
    return tuple(every)


def _differentiable(args: tuple[Any, ...]) -> list[int]:
    return [i for i, arg in enumerate(args) if arg is not None and jnp.issubdtype(arg.dtype, jnp.floating)]


def _mapped(fn: Callable[..., Any]) -> Callable[..., Any]:
    """`fn` of pytrees whose arrays have rows first, or none at all, with the rule for vmap."""
    call = custom_vmap(fn)

    @call.def_vmap
    def _(size: int, batched: Any, *args: Any) -> tuple[Any, Any]:
        def fold(x: Any, mapped: bool) -> Any:
            if x.ndim == mapped:  # no rows
                if mapped:
                    raise ValueError("a number of each member has no rows for the kernel to keep it apart by")
                return x
            every = x if mapped else jnp.broadcast_to(x[None], (size, *x.shape))
            return every.reshape(size * every.shape[1], *every.shape[2:])

        def shape(x: Any, mapped: bool) -> jax.ShapeDtypeStruct:
            return jax.ShapeDtypeStruct(x.shape[1:] if mapped else x.shape, x.dtype)

        flags = tuple(batched)
        one = jax.eval_shape(fn, *jax.tree.map(shape, args, flags))
        out = _mapped(fn)(*jax.tree.map(fold, args, flags))
        split = jax.tree.map(lambda x, like: x.shape != like.shape, out, one)
        unfold = lambda x, like, has: x.reshape(size, *like.shape) if has else x  # noqa: E731
        return jax.tree.map(unfold, out, one, split), split

    return call
