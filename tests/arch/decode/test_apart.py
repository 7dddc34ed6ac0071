"""Caches of layers apart (the form on CPUs): the same steps as with stacked ones, rows turned and taken back."""

import jax
import jax.numpy as jnp
import pytest
from flax import nnx

from arch.blocks import PreNorm
from arch.layers.attention.masks import Causal, SlidingWindow
from arch.layers.attention.softmax import Attention
from arch.models.base import Inputs
from arch.models.decoder import Decoder
from arch.stacks import Cycle, Sequential
from arch.stacks.apart import FEW, Apart
from tests.arch import tiny

FULL = PreNorm(mixer=Attention(heads=2, kv_heads=1))
LOCAL = PreNorm(mixer=Attention(heads=2, mask=SlidingWindow(4)))
TOKENS = jnp.asarray(tiny.tokens(2, FEW + 6))


def calls(model, change):
    """Logits of a prompt, of two tokens, of one on rows that changed places and went back by one, and of many again."""
    row = lambda a, b: Inputs(tokens=TOKENS[:, a:b])  # noqa: E731
    cache = change(model.init_cache(2, 3 * FEW))
    found = []
    for begin, end in ((0, 3), (3, 5), (4, 5), (5, FEW + 6)):
        output = model(row(begin, end), cache=cache)
        found.append(output.logits)
        cache = output.cache
        if end == 5 and begin == 3:
            cache = cache.reordered(jnp.array([1, 0])).rewound(jnp.array([4, 4]))
    return found, cache


@pytest.mark.parametrize("block", [FULL, Cycle((LOCAL, FULL))], ids=["one block", "a pattern"])
def test_steps_are_those_of_stacked_caches(block):
    graphdef, params = tiny.draw(Decoder(vocab=tiny.V, width=16, depth=4, block=block, stack=Sequential(loop="scan")))

    @tiny.jit
    def both(params):
        model = nnx.merge(graphdef, params)
        return calls(model, lambda cache: cache), calls(model, model.apart)

    (logits, stacked), (theirs, apart) = both(params)
    found = [apart.layers] if block is FULL else [apart.layers["0"][place] for place in "01"]
    whole = [stacked.layers] if block is FULL else [stacked.layers["0"][place] for place in "01"]
    for one, other in zip(found, whole, strict=True):
        assert isinstance(one, Apart)
        tiny.close(one.stacked(), other)
    tiny.close(theirs, logits)


@pytest.mark.parametrize(("mask", "held"), [(Causal(), [13]), (SlidingWindow(5), [5, 6])], ids=["all", "a window"])
def test_a_step_reads_keys_and_values_where_they_lie(mask, held):
    """The compiled step holds no array of the cache's size in the order that layers speak of, which would be a copy."""
    rows, heads, size = 2, 3, 8
    block = PreNorm(mixer=Attention(heads=heads, head_dim=size, mask=mask))
    graphdef, params = tiny.draw(Decoder(vocab=tiny.V, width=16, depth=2, block=block))
    model = nnx.merge(graphdef, params)
    leaves, tree = jax.tree.flatten(model.apart(model.init_cache(rows, 13)))

    @tiny.jit
    def step(params, leaves):
        output = nnx.merge(graphdef, params)(Inputs(tokens=TOKENS[:, :1]), cache=jax.tree.unflatten(tree, leaves))
        return output.logits, jax.tree.leaves(output.cache)

    text = step.lower(params, leaves).compile().as_text()
    for length in held:
        assert f"{rows},{heads},{length},{size}]" in text
        assert f"{rows},{length},{heads},{size}]" not in text
