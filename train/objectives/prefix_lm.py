"""The prefix language model: a first part of each document is read from both sides, the rest predicted token by token.

arXiv 1910.10683, section 3.2.1 (there also "prefix LM"); arXiv 1801.10198. The model is a causal one that takes which
tokens are of the prefix (`Inputs.prefix`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import jax
import jax.numpy as jnp

from arch.models.base import Inputs
from train.objectives import next_token
from train.objectives.base import Task
from train.objectives.next_token import NextToken
from train.objectives.prefixes import without_prefixes
from train.objectives.rows import places
from train.objectives.tokens import Targets


@dataclasses.dataclass(frozen=True)
class PrefixLM(NextToken):
    """Cross-entropy of the tokens behind the prefix, as in `NextToken`, whose batches it takes.

    Each document of n tokens is split by itself: the prefix has 1 to n - 1 tokens, all equally likely, drawn by the key
    of the row. A document of one token is all prefix.
    """

    def refusals(self, model):
        yield from without_prefixes(model)

    def build(self, description):
        task = super().build(description)
        return Task(prepare, task.loss)

    def baselines(self, dataset, split):
        return ()  # they count every token of a document


def prepare(batch: Mapping[str, jax.Array], keys: jax.Array) -> tuple[Inputs, Targets]:
    """Rows of T + 1 tokens as T inputs and the T that follow them, of which those behind a prefix count."""
    inputs, targets = next_token.prepare(batch, keys)
    at = places(batch["segments"])
    draw = jax.vmap(lambda key: jax.random.uniform(key, (at.place.shape[1],)))(keys)
    share = jnp.take_along_axis(draw, at.first, axis=1)  # one draw a document: that of its first token
    cut = 1 + jnp.floor(share * (at.length - 1).astype(jnp.float32)).astype(jnp.int32)
    cut = jnp.minimum(cut, jnp.maximum(at.length - 1, 1))  # share * n may round up to n
    prefix = (at.place < cut) & (batch["segments"] > 0)
    behind = (~prefix[:, 1:]).astype(jnp.float32)
    return dataclasses.replace(inputs, prefix=prefix[:, :-1]), Targets(targets.tokens, targets.weights * behind)
