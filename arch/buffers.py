"""Advancing buffers: once a step every part with statistics makes its new buffers of its old ones."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
from flax import nnx

from arch.params import Buffer, Tree, metadata
from arch.spec import UserError


def advance(network: nnx.Module, buffers: Tree, statistics: Mapping[str, Any]) -> Tree:
    """The buffers of `network` after a step in which its parts noted `statistics`.

    Each part's `advance(buffers, sums) -> buffers` gets its own buffers, by name, and its sums over the rows of the
    whole batch; both of one layer, where layers are stacked. Buffers of parts without statistics stay.

    Raises:
      UserError: a part without `advance`, or one that changes the shape or type of a buffer.
    """
    for path, sums in statistics.items():
        part = part_at(network, path)
        told = f"{type(part).__name__} ({path or 'the model'})"
        if not hasattr(part, "advance"):
            raise UserError(f"{told} has statistics, but no advance(buffers, sums)")
        own = _below(buffers, path)
        change = part.advance
        for _ in range(stacked(part)):
            change = jax.vmap(change)
        new = change(own, sums)
        if _kinds(new) != _kinds(own):
            raise UserError(f"{told}: advance must return buffers of the same names, shapes and types: {_kinds(own)}; "
                            f"it returned {_kinds(new)}")  # fmt: skip
        buffers = _with(buffers, path.split(".") if path else [], new)
    return buffers


def part_at(module: Any, path: str) -> Any:
    """The part of a module called `path`; empty: itself."""
    for piece in path.split(".") if path else []:
        module = module[piece] if isinstance(module, nnx.Dict) else getattr(module, piece)
    return module


def _below(tree: Tree, path: str) -> Tree:
    for piece in path.split(".") if path else []:
        tree = tree.get(piece, {})
    return tree


def _with(tree: Tree, path: list[str], new: Tree) -> Tree:
    if not path:
        return new
    return {**tree, path[0]: _with(tree.get(path[0], {}), path[1:], new)}


def stacked(part: nnx.Module) -> int:
    """How many leading axes of layers the buffers of a part have."""
    counts = {sum(axis == "layers" for axis in row["axes"]) for row in metadata(part, Buffer).values()}
    return counts.pop() if len(counts) == 1 else 0


def _kinds(tree: Any) -> dict[str, str]:
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    return {jax.tree_util.keystr(path, simple=True, separator="."): f"{x.dtype}{list(x.shape)}" for path, x in leaves}
