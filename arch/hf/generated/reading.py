"""A folder with code of its own as parameters of the model that it was written of. Its code is not looked at: which
tensor is which of our arrays is told by the plan that would write them, made over arrays that are still to be filled.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import jax
import numpy as np

from arch.cost import abstract
from arch.hf import safetensors
from arch.hf.family import Facts, UnfitError
from arch.hf.folder import WEIGHTS
from arch.hf.generated.layers import STATISTICS
from arch.hf.generated.names import returned
from arch.hf.generated.tier import Generated, Placed
from arch.hf.reading import tensors
from arch.hf.tiers import joined
from arch.models.base import Model
from arch.params import Tree, nest, split
from arch.spec import UserError


@dataclasses.dataclass(frozen=True)
class Numbers:
    """What a folder holds of a model.

    Attributes:
      params, buffers: its arrays, in their types.
      fresh: paths of buffers that its function does not depend on and that no folder holds.
    """

    params: Tree
    buffers: Tree
    fresh: tuple[str, ...]


def read(folder: Path, model: Model) -> Numbers:
    """The numbers of `model` in `folder`, which was written with code of its own.

    Raises:
      UserError: in one line: tensors that are missing, left over, of another shape or not finite.
    """
    held = dict(tensors(folder))
    _, *told = split(abstract(model))
    params, buffers = (jax.tree.map(lambda leaf: np.empty(leaf.shape, np.float32), tree) for tree in told)
    try:
        plan = Generated().plan(model, joined(params, buffers) if buffers else params, Facts())
    except UnfitError as error:
        raise UserError(f"{folder}: {error}") from error
    found = [(one, _taken(held, one, folder)) for one in plan.tensors if isinstance(one, Placed)]
    if held:
        raise UserError(f"{folder}: the tensor {next(iter(held))} has no place in {type(model).__name__}; "
                        f"{len(held)} in all")  # fmt: skip
    for leaf in jax.tree.leaves((params, buffers)):
        leaf.fill(np.nan)
    for one, array in found:
        value = np.asarray(array, np.float32)
        if not np.isfinite(value).all():
            raise UserError(f"{folder}: {one.name} has numbers that are not finite")
        if one.array is not None:
            one.array[...] = returned(one.path, value, one.array.shape)
        elif not np.allclose(value, one.value(), rtol=_spacing(array), atol=_spacing(array)):
            raise UserError(f"{folder}: {one.name} is not the constant that {type(model).__name__} makes here")
    (whole, left), (beside, more) = (_filled(*pair) for pair in zip((params, buffers), told, strict=True))
    return Numbers(whole, beside, (*left, *more))


def _taken(held: dict[str, np.ndarray], one: Placed, folder: Path) -> np.ndarray:
    """The tensor for `one`, out of `held`. Raises UserError."""
    array = held.pop(one.name, None)
    if array is None:
        raise UserError(f"{folder}: the tensor {one.name} is missing")
    if array.shape != one.shape:
        raise UserError(f"{folder}: {one.name} has shape {list(array.shape)}; it must be {list(one.shape)}")
    if array.dtype.name not in ("float64", "float32", "float16", "bfloat16"):
        raise UserError(f"{folder}: {one.name} holds {array.dtype}; it must hold floating numbers, as {WEIGHTS} does")
    return array


def _spacing(array: np.ndarray) -> float:
    """How far apart numbers near 1 are in the type of `array`; of float32 with room for another way of computing."""
    return 2.0**-7 if array.dtype == safetensors.TYPES["BF16"] else max(float(np.finfo(array.dtype).eps), 1e-5)


def _filled(tree: Tree, told: Tree) -> tuple[Tree, list[str]]:
    """The arrays of `tree` that were filled, in the types of `told`, and the paths of the others."""
    filled: dict[str, Any] = {}
    fresh: list[str] = []
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    for (keys, leaf), as_told in zip(leaves, jax.tree.leaves(told), strict=True):
        path = ".".join(str(key.key) for key in keys)
        if path.rpartition(".")[2] in STATISTICS:
            fresh.append(path)
            continue
        assert not np.isnan(leaf).any(), path
        filled[path] = leaf.astype(as_told.dtype, copy=False)
    return nest(filled), fresh
