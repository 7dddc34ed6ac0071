"""The dials of a shape: depth, width, heads, feed-forward width, read and turned in models of one stack or of a pair.

A pair (an encoder and a decoder, `arch.models.encoder_decoder`) has a depth for each half and one value of everything
else: the attentions of both halves and the cross-attentions turn together.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

from arch.models.trunk import Trunk
from arch.spec import Spec, UserError
from arch.stacks.base import Pattern
from train.run import Run

Depth = int | tuple[int, int]
"""The layers of a model, or of the encoder and the decoder of a pair."""

DIALS: dict[str, tuple[str, ...]] = {
    "depth": ("model.depth",),
    "width": ("model.width",),
    "heads": ("model.block.mixer.heads",),
    "head_dim": ("model.block.mixer.head_dim",),
    "hidden": ("model.block.feed_forward.hidden",),
}
"""Name of a dial -> the fields of a run that it turns, in models that have them."""


def _halves(path: str) -> tuple[str, str]:
    return f"model.encoder.{path}", f"model.decoder.{path}"


PAIR_DIALS: dict[str, tuple[str, ...]] = {
    "source_depth": ("model.encoder.depth",),
    "target_depth": ("model.decoder.depth",),
    "width": (*_halves("width"), "model.decoder.block.extra.*.memory_width"),
    "heads": (*_halves("block.mixer.heads"), "model.decoder.block.extra.*.heads"),
    "head_dim": (*_halves("block.mixer.head_dim"), "model.decoder.block.extra.*.head_dim"),
    "hidden": _halves("block.feed_forward.hidden"),
}
"""The same of a pair. `*` is each further sublayer of a block that has the field."""

OPTIONAL = frozenset({"model.decoder.block.extra.*.memory_width"})
"""Fields that are turned where they are set, and that nothing is read from: None follows the others."""


class DifferError(UserError):
    """The places of a dial have no one value."""


def is_pair(run: Run) -> bool:
    """Whether the model has an encoder and a decoder."""
    return all(isinstance(getattr(run.model, half, None), Trunk) for half in ("encoder", "decoder"))


def dials(run: Run) -> dict[str, tuple[str, ...]]:
    """The dials that a run of this kind has."""
    return PAIR_DIALS if is_pair(run) else DIALS


def value(run: Run, dial: str) -> Any:
    """What a dial stands at; None: the run has none.

    Raises:
      DifferError: the blocks of a pattern, or the halves of a pair, differ in it.
    """
    found = [(path, one) for path in dials(run)[dial] if path not in OPTIONAL for one in _values(run, path)]
    for path, one in found:
        if one != found[0][1]:
            raise DifferError(f"match: {path} is {one} and {found[0][0]} is {found[0][1]}; make the arms by hand")
    return found[0][1] if found else None


def get(run: Run, dial: str) -> Any:
    """`value`, which must be there. Raises UserError."""
    if (found := value(run, dial)) is None:
        raise UserError(f"match: this run has no {dials(run)[dial][0]}, which is needed to match it")
    return found


def depth_of(run: Run) -> Depth:
    """The layers of the model, or of the halves of a pair."""
    if is_pair(run):
        return int(get(run, "source_depth")), int(get(run, "target_depth"))
    return int(get(run, "depth"))


def depth_name(depth: Depth) -> str:
    """`4`, or `4+2`."""
    return str(depth) if isinstance(depth, int) else "+".join(map(str, depth))


def head_dim(run: Run) -> int | None:
    """The width of a head; None: there are no heads."""
    heads = value(run, "heads")
    return None if heads is None else value(run, "head_dim") or int(get(run, "width")) // heads


def ratio(run: Run) -> float | None:
    """Feed-forward width over model width, where the feed-forward has one of its own."""
    hidden = value(run, "hidden")
    return hidden / get(run, "width") if hidden else None


def turned(run: Run, depth: Depth | None = None, **to: int | None) -> Run:
    """`run` with these dials turned; None leaves one as it is, and so does a part that has none."""
    if isinstance(depth, tuple):
        to = {"source_depth": depth[0], "target_depth": depth[1], **to}
    elif depth is not None:
        to = {"depth": depth, **to}
    changes = [(path, number) for name, number in to.items() if number is not None for path in dials(run)[name]]
    if not is_pair(run):
        return _changed(run, changes, "")
    # The halves are checked against each other: they change by themselves, and are put together once.
    halves = {half: _changed(getattr(run.model, half), changes, f"model.{half}.") for half in ("encoder", "decoder")}
    return dataclasses.replace(run, model=dataclasses.replace(run.model, **halves))


def _changed(spec: Any, changes: Sequence[tuple[str, int]], prefix: str) -> Any:
    """`spec` with those changes made whose path begins with `prefix`, which is that of `spec`."""
    # Deepest first: a width that the old heads do not divide is only refused when the model is built.
    for path, number in changes:
        if path.startswith(prefix):
            spec = _put(spec, path.removeprefix(prefix).split("."), number, path in OPTIONAL)
    return spec


def _values(spec: Any, path: str) -> Iterator[Any]:
    """The values at `path`, with those of every block of a pattern; none where there is no such field."""
    name, _, rest = path.partition(".")
    if isinstance(spec, Pattern) and not hasattr(spec, name):
        first, *others = [list(_values(block, path)) for block in spec.blocks]
        if any(other != first for other in others):
            raise DifferError(f"match: the blocks of {type(spec).__name__} differ in {path}; make the arms by hand")
        yield from first
    elif name == "*":
        for _, part in spec:
            yield from _values(part, rest)
    elif hasattr(spec, name):
        one = getattr(spec, name)
        if rest:
            yield from _values(one, rest)
        else:
            yield one


def _put(spec: Any, path: list[str], number: int, optional: bool) -> Any:
    name, *rest = path
    if isinstance(spec, Pattern) and not hasattr(spec, name):
        return spec.with_blocks(lambda block: _put(block, path, number, optional))
    if name == "*":
        return tuple((key, _put(part, rest, number, optional)) for key, part in spec)
    if not isinstance(spec, Spec) or not hasattr(spec, name):
        return spec
    old = getattr(spec, name)
    if rest:
        return dataclasses.replace(spec, **{name: _put(old, rest, number, optional)})
    return spec if optional and old is None else dataclasses.replace(spec, **{name: number})
