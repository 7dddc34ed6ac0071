"""The embedder: each text of a pair as if it were alone, whatever stands beside it and however it is padded."""

import jax.numpy as jnp
import numpy as np
import pytest

from arch.blocks import PreNorm
from arch.layers.attention.masks import Bidirectional
from arch.layers.attention.softmax import Attention
from arch.layers.feed_forward import MLP
from arch.layers.heads.pooling import FirstPooling, LastPooling, MeanPooling
from arch.layers.positions import NoPosition
from arch.models.base import Inputs
from arch.models.embedder import Embedder
from arch.params import merge
from tests.arch import tiny
from tests.arch.parts import drawn

RNG = np.random.default_rng(0)
FIRST, SECOND = (RNG.integers(0, 19, (3, length)).astype(np.int32) for length in (7, 5))
LENGTHS = np.array([5, 2, 4])
SEGMENTS = (np.arange(5)[None] < LENGTHS[:, None]).astype(np.int32)


@pytest.mark.parametrize("pooling", [MeanPooling(), FirstPooling(), LastPooling()])
def test_a_text_of_a_pair_is_that_text_alone(pooling):
    block = PreNorm(mixer=Attention(heads=2, mask=Bidirectional()), feed_forward=MLP(hidden=16))
    spec = Embedder(vocab=19, width=16, depth=1, block=block, position=NoPosition(), pooling=pooling)
    graphdef, params, buffers = drawn(spec)
    call = tiny.jit(lambda inputs: merge(graphdef, params, buffers)(inputs).logits)
    second = Inputs(jnp.asarray(SECOND), segments=jnp.asarray(SEGMENTS))
    both = call(Inputs(jnp.asarray(FIRST), second=second))
    assert both.shape == (3, 2, 16)
    tiny.close(both[:, :1], call(Inputs(jnp.asarray(FIRST))))
    tiny.close(both[:, 1:], call(second))
    tiny.close(both[1, 1], call(Inputs(jnp.asarray(SECOND[1:2, :2])))[0, 0])
    assert np.abs(np.asarray(both[:, 0] - both[:, 1])).max() > 0.1
