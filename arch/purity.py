"""A call of a module changes nothing in it: found while tracing, an error with the name of the part.

Whatever a part assigned to itself in its call would be lost, without a word, when the compiled program runs: the module
that is called in there is made anew from the parameters each time.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from flax import nnx

from arch.spec import UserError


@contextmanager
def unchanged(root: nnx.Module) -> Iterator[None]:
    """Raises UserError if what is called inside assigns to `root` or to a part of it."""
    before = _snapshot(root)
    yield
    after = _snapshot(root)
    if before.keys() == after.keys() and all(after[key][1] is value for key, (_, value) in before.items()):
        return
    for key in [*before, *(key for key in after if key not in before)]:
        where, old = before.get(key, ("", None))
        where, new = after.get(key, (where, None))
        if old is not new:
            raise UserError(f"{where} was assigned to in a call: calls must be pure, and what they assign is lost; "
                            "make it a buffer (ParamFactory.buffer), advanced from the part's statistics")  # fmt: skip


def _items(value: Any) -> list[tuple[Any, Any]]:
    """What a plain list or dict holds, which can be changed without an assignment."""
    return list(value.items()) if isinstance(value, dict) else list(enumerate(value)) if isinstance(value, list) else []


def _snapshot(root: nnx.Module) -> dict[tuple[int, str], tuple[str, Any]]:
    """(part, attribute) -> its name for a message, and what it holds."""
    found: dict[tuple[int, str], tuple[str, Any]] = {}
    for path, node in nnx.iter_graph(root):
        if isinstance(node, nnx.Variable):
            held = node.get_raw_value() if hasattr(node, "get_raw_value") else node.raw_value
            found[(id(node), "")] = (f"{'.'.join(map(str, path))} of {type(root).__name__}", held)
        elif isinstance(node, nnx.Module):
            for name, value in vars(node).items():
                if not name.startswith("_pytree__"):
                    where = ".".join(map(str, (*path, name)))
                    told = f"{type(node).__name__}.{name} ({where})"
                    found[(id(node), name)] = (told, value)
                    for at, item in _items(value):
                        found[(id(node), f"{name}[{at!r}]")] = (told, item)
    return found
