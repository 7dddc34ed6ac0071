"""A recurrent decoder that begins with the states its encoder ended in (tensorflow/nmt, `pass_hidden_state`).

Layer l of the decoder takes c and h of layer l of the encoder after the last token of the source; of a first layer in
both directions, those of the one that reads from the end, after the first token. GNMT's paper does not say how the
decoder begins; without this it does from zeros.

Both are caches: those that the encoder is left with are those that the decoder goes on from, as if the target followed
in the same document.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from arch.layers.caches import Recurrent

Caches = Mapping[str, Any]


def begun_from(caches: Caches, states: Caches) -> dict[str, Any]:
    """The decoder's empty `caches` ("first", "layers"), with the encoder's `states` in place of zeros."""
    below = states["first"]
    last: Recurrent = below["backward"] if isinstance(below, Mapping) else below
    held = jax.tree.map(lambda leaf: leaf[None], last.state)
    bottom: Recurrent = caches["first"]["state"]
    _, context = bottom.state.state  # the bottom layer holds the context that it read last: none yet
    bottom = dataclasses.replace(bottom, state=held._replace(state=(held.state, context)))

    sections, layers, at = states["layers"], {}, 0
    if sections:
        above = [sections[number].state for number in sorted(sections, key=int)]
        above = jax.tree.map(lambda *leaves: jnp.concatenate(leaves), *above)
        for number in sorted(caches["layers"], key=int):
            old: Recurrent = caches["layers"][number]
            end = at + len(old.state.document)
            layers[number] = dataclasses.replace(old, state=jax.tree.map(lambda leaf: leaf[at:end], above))  # noqa: B023
            at = end
    return {"first": {**caches["first"], "state": bottom}, "layers": layers}
