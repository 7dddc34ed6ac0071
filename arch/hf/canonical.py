"""Two specs of one function are one: what a default means is written out, what only training reads is left out.

Every layer stands by itself (`Listed`), so that a model of one block, a pattern and a list compare alike.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

from arch.blocks.base import Block
from arch.layers.attention.cross import CrossAttention
from arch.layers.attention.softmax import Attention
from arch.layers.feed_forward import MLP, GatedMLP
from arch.layers.heads.clipped import ClippedHead
from arch.layers.heads.scaled import ScaledTied
from arch.layers.init.initializers import Normal
from arch.layers.init.t5 import SmallQueries
from arch.layers.linear import Dense
from arch.layers.positions import ALiBi, T5Relative
from arch.models.base import Model
from arch.models.encoder_decoder import EncoderDecoder
from arch.models.trunk import Trunk
from arch.spec import Reference, flatten, reference
from arch.stacks.base import Pattern
from arch.stacks.patterns import Listed
from arch.stacks.sequential import Sequential


def canonical(model: Model) -> Model:
    """`model`, a trunk or a pair, whose layers are `Listed`, in a form that is equal for equal functions."""
    if isinstance(model, EncoderDecoder):
        encoder, decoder = trunk(model.encoder), trunk(model.decoder, memory=model.encoder.width)
        return dataclasses.replace(model, encoder=encoder, decoder=decoder, head=head(model.head, decoder.width))
    assert isinstance(model, Trunk)
    new = trunk(model)
    return dataclasses.replace(new, head=head(new.head, new.width)) if hasattr(new, "head") else new


def trunk(spec: Trunk, memory: int | None = None) -> Any:
    """A trunk in that form. `memory`: width of what its cross-attention reads."""
    listed = spec.block.layers(spec.depth) if isinstance(spec.block, Pattern) else (spec.block,) * spec.depth
    each = tuple(block(one, spec.width, memory) for one in listed)
    between = spec.stack.between if isinstance(spec.stack, Sequential) else ()
    fields: dict[str, Any] = {"block": Listed(each), "init": Normal(), "position": _position(spec.position)}
    if isinstance(spec.stack, Sequential):
        fields["stack"] = Sequential(between=between)
    return dataclasses.replace(spec, **fields)


def block(spec: Block, width: int, memory: int | None = None) -> Block:
    """A block in that form."""
    extra = tuple((name, sublayer(part, width, memory)) for name, part in spec.extra)
    fields: dict[str, Any] = {"mixer": sublayer(spec.mixer, width), "extra": extra, "dropout": 0.0}
    if spec.feed_forward is not None:
        fields["feed_forward"] = sublayer(spec.feed_forward, width)
    return dataclasses.replace(spec, **fields, order=tuple(spec.sublayers))


def sublayer(spec: Any, width: int, memory: int | None = None) -> Any:
    """A sublayer in that form; one of a kind that is not known here stays as it is."""
    fields: dict[str, Any] = {}
    if type(spec) in (Attention, CrossAttention):
        head = spec.head_dim or width // spec.heads
        fields = {"head_dim": head, "kv_heads": spec.kv_heads or spec.heads, "scale": spec.scale or head**-0.5}
        if isinstance(spec, Attention):
            fields["position"] = _position(spec.position)
        else:
            fields["memory_width"] = spec.memory_width or memory or width
    elif type(spec) is MLP:
        fields = {"hidden": spec.hidden or 4 * width}
    elif type(spec) is GatedMLP:
        fields = {"hidden": spec.hidden or -(-8 * width // 24) * 8}
    if fields and type(spec.linear) is SmallQueries:  # differs in how it starts alone
        fields["linear"] = Dense(bias=spec.linear.bias)
    return dataclasses.replace(spec, **fields) if fields else spec


def _position(spec: Any) -> Any:
    return dataclasses.replace(spec, heads=None) if isinstance(spec, (ALiBi, T5Relative)) else spec


def head(spec: Any, width: int) -> Any:
    if type(spec) is ClippedHead:
        return dataclasses.replace(spec, head=head(spec.head, width))
    if type(spec) is ScaledTied and spec.scale is None:
        return dataclasses.replace(spec, scale=width**-0.5)
    return spec


def unlike(ours: Model, theirs: Model) -> Iterator[tuple[str, Any, Any]]:
    """(path, value of `ours`, of `theirs`) where two canonical models differ; a path that one lacks has "none"."""
    left, right = flatten(ours, name=reference), flatten(theirs, name=reference)
    for path in [*left, *(path for path in right if path not in left)]:
        mine, other = left.get(path, "none"), right.get(path, "none")
        if mine != other:
            yield path, _short(mine), _short(other)


def _short(value: Any) -> Any:
    return str(value).rpartition(":")[2] if isinstance(value, Reference) else value
