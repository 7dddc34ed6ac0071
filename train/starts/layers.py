"""The arrays of layers from one arrangement of a stack to another, so that a trained model can get bottlenecks between
its layers, other sections or a pattern.

`stack.blocks.*` has an axis of all layers; `stack.sections.I.J.*` one of the turns of a loop, of which the layer is one
of several that take turns (`arch.stacks.sequential`). Which layer an array is of, paths and shapes tell.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np

Arrays = Mapping[str, Mapping[str, np.ndarray]]
"""Kind ("params", "buffers") -> path -> array."""


class Place(NamedTuple):
    """Where the layers of an array stand: the path above `stack`, that below it, and the rest."""

    stack: str
    place: str
    rest: str


def placed(path: str) -> Place | None:
    """The place of an array of layers; None for another."""
    found = re.fullmatch(r"(.*\bstack)\.(blocks|sections\.\d+\.\d+)\.(.+)", path)
    return None if found is None else Place(*found.groups())


def arrangements(shapes: Iterable[tuple[str, tuple[int, ...]]]) -> dict[str, dict[str, list[int]]]:
    """Path of a stack -> "blocks" or "sections.I.J" -> its layers, for stacks of which all places are there."""
    turns: dict[str, dict[str, set[int]]] = {}
    for path, shape in shapes:
        if (at := placed(path)) is not None:
            turns.setdefault(at.stack, {}).setdefault(at.place, set()).add(shape[0] if shape else 0)
    found = {stack: _layers(places) for stack, places in turns.items()}
    return {stack: layers for stack, layers in found.items() if layers is not None}


def _layers(places: Mapping[str, set[int]]) -> dict[str, list[int]] | None:
    if any(len(lengths) > 1 for lengths in places.values()):
        return None
    lengths = {place: next(iter(each)) for place, each in places.items()}
    if set(lengths) == {"blocks"}:
        return {"blocks": list(range(lengths["blocks"]))}
    found: dict[str, list[int]] = {}
    section = first = 0
    while f"sections.{section}.0" in lengths:
        period = [place for place in lengths if place.startswith(f"sections.{section}.")]
        size, repeats = len(period), lengths[f"sections.{section}.0"]
        for index in range(size):
            if lengths.get(f"sections.{section}.{index}") != repeats:
                return None
            found[f"sections.{section}.{index}"] = list(range(first + index, first + size * repeats, size))
        section, first = section + 1, first + size * repeats
    return found if set(found) == set(lengths) else None


def rearranged(found: Arrays, wanted: Mapping[str, Mapping[str, tuple[int, ...]]]) -> dict[str, dict[str, np.ndarray]]:
    """`found` with the arrays of layers under the paths of `wanted`, kind -> path -> shape.

    Stacks that are arranged alike, and those of another number of layers, stay as they are; so does an array of which
    only some layers have a place there, or which has none.
    """
    new = {kind: dict(arrays) for kind, arrays in found.items()}
    source = arrangements((path, array.shape) for arrays in found.values() for path, array in arrays.items())
    target = arrangements(item for shapes in wanted.values() for item in shapes.items())
    for stack in source.keys() & target.keys():
        mine, theirs = source[stack], target[stack]
        if mine == theirs or sum(map(len, mine.values())) != sum(map(len, theirs.values())):
            continue
        for kind, arrays in found.items():
            _rearrange(new[kind], stack, mine, theirs, arrays, wanted.get(kind, {}))
    return new


def _rearrange(
    new: dict[str, np.ndarray],
    stack: str,
    mine: Mapping[str, list[int]],
    theirs: Mapping[str, list[int]],
    arrays: Mapping[str, np.ndarray],
    wanted: Mapping[str, tuple[int, ...]],
) -> None:
    """`new` with what is below `stack` moved; rest of a path by rest."""
    rests: dict[str, dict[int, np.ndarray]] = {}
    for path, array in arrays.items():
        if (at := placed(path)) is not None and at.stack == stack:
            rests.setdefault(at.rest, {}).update(zip(mine[at.place], array, strict=True))
    for rest, rows in rests.items():
        to = {place: layers for place, layers in theirs.items() if f"{stack}.{place}.{rest}" in wanted}
        taken = sorted(layer for layers in to.values() for layer in layers)
        if taken != sorted(rows) or len({row.shape for row in rows.values()}) > 1:
            continue
        for place in mine:
            new.pop(f"{stack}.{place}.{rest}", None)
        new |= {f"{stack}.{place}.{rest}": np.stack([rows[layer] for layer in to[place]]) for place in to}


def origin(path: str, origins: Mapping[str, str]) -> str | None:
    """Where the array at `path` comes from: from the array of its name, or those of its layers arranged otherwise."""
    if path in origins or (at := placed(path)) is None:
        return origins.get(path)
    alike = [
        text
        for other, text in origins.items()
        if (own := placed(other)) is not None and (own.stack, own.rest) == (at.stack, at.rest)
    ]
    return " and ".join(alike) or None
