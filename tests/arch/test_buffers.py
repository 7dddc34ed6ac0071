"""Buffers: made like parameters, beside them, and advanced once by their part from its sums."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from arch.blocks import PreNorm
from arch.buffers import advance
from arch.layers.attention.softmax import Attention
from arch.layers.init.initializers import Normal
from arch.models.base import Inputs
from arch.models.decoder import Decoder
from arch.params import Buffer, ParamFactory, logical_axes, merge, metadata, split, stack_layers
from arch.spec import UserError
from arch.stacks import Cycle, Sequential
from arch.taps import Tap
from tests.arch import tiny
from tests.arch.parts import Counting, CountingLayer, drawn

D, L, B, T = 8, 3, 2, 5
MAKE = ParamFactory(jax.random.key(0), Normal())


class Holder(nnx.Module):
    """One of everything that a maker makes."""

    def __init__(self, make):
        self.weight = make.weight("weight", [(D, "embed")], [(2, None)])
        self.table = make.array([(D, "embed")], np.arange(D, dtype=np.float32), "counting", role="codebook")
        self.ones = make.buffer([(D, "embed")], 1)
        self.counts = make.buffer([(2, None)], np.array([3, 4], np.int32))
        self.noise = make.buffer([(D, "embed")], jax.random.normal(make.at("noise").key, (D,)), "normal", role="memory")
        self.layer = make.buffer([], jnp.asarray(make.layer, jnp.float32), "layer")


def test_what_a_maker_makes():
    made = Holder(MAKE)
    np.testing.assert_array_equal(made.table[...], np.arange(8.0))
    np.testing.assert_array_equal(made.ones[...], np.ones(D))
    np.testing.assert_array_equal(made.counts[...], [3, 4])
    assert [x[...].dtype for x in (made.table, made.ones, made.counts)] == [jnp.float32, jnp.float32, jnp.int32]
    parameters, buffers = metadata(made), metadata(made, Buffer)
    assert set(parameters) == {"weight", "table"}
    assert parameters["table"] == {"shape": (D,), "axes": ("embed",), "initializer": "counting", "role": "codebook"}
    assert {name: (row["initializer"], row["role"]) for name, row in buffers.items()} == {
        "ones": ("constant(1)", "buffer"),
        "counts": ("array", "buffer"),
        "noise": ("normal", "memory"),
        "layer": ("layer", "buffer"),
    }
    assert logical_axes(made, Buffer)["noise"] == ("embed",)
    with pytest.raises(ValueError, match="broadcast"):
        MAKE.buffer([(D, "embed")], np.zeros(3, np.float32))


def test_split_and_merge():
    made = Holder(MAKE)
    graphdef, params, buffers = split(made)
    assert set(params) == {"weight", "table"}
    assert set(buffers) == {"ones", "counts", "noise", "layer"}
    again = merge(graphdef, params, {**buffers, "ones": 2 * buffers["ones"]})
    np.testing.assert_array_equal(again.ones[...], 2 * np.ones(D))
    np.testing.assert_array_equal(again.weight[...], made.weight[...])
    without = split(PreNorm(mixer=Attention(heads=2)).build(D, MAKE))
    assert without[2] == {}
    assert hasattr(merge(*without), "mixer")
    abstract = split(nnx.eval_shape(lambda: Holder(MAKE)))
    assert abstract[2]["counts"].shape == (2,)

    class Other(nnx.Module):
        def __init__(self):
            self.strange = nnx.BatchStat(jnp.zeros(1))

    with pytest.raises(TypeError, match="Other holds a variable that is neither made by ParamFactory"):
        split(Other())


@pytest.mark.parametrize("layers", [None, (2, 0)])
def test_stacked_layers_have_stacked_buffers(layers):
    """Each with its own random numbers, and those of its layer wherever it stands."""
    stacked = stack_layers(Holder, MAKE, L, layers)
    numbers = layers or range(L)
    rows = metadata(stacked, Buffer)
    assert rows["noise"]["shape"] == (len(numbers), D)
    assert all(row["axes"][0] == "layers" for row in rows.values())
    np.testing.assert_array_equal(stacked.layer[...], list(numbers))
    for place, layer in enumerate(numbers):
        alone = Holder(MAKE.at_layer(layer, L))
        np.testing.assert_allclose(stacked.noise[...][place], alone.noise[...], rtol=1e-6)
    assert np.abs(stacked.noise[...][0] - stacked.noise[...][1]).max() > 0.1


SUMS = {"rows": np.float32(4), "sum": np.arange(D, dtype=np.float32)}


def counting():
    make = ParamFactory(jax.random.key(0), Normal())
    return CountingLayer(Counting(4.0), D, make)


def test_a_plain_part_advances():
    part = counting()
    _, _, buffers = split(part)
    new = advance(part, buffers, {"": SUMS})
    np.testing.assert_array_equal(new["count"], 8.0)
    np.testing.assert_allclose(new["mean"], np.arange(D) / 8)
    assert advance(part, buffers, {}) is buffers


def decoder(block):
    return Decoder(vocab=tiny.V, width=D, depth=4, block=block, stack=Sequential())


BLOCK = PreNorm(mixer=Attention(heads=2), feed_forward=Counting())
PLAIN = PreNorm(mixer=Attention(heads=2))


@pytest.mark.parametrize("pattern", [False, True])
def test_layers_of_a_model_advance_each_by_its_own_sums(pattern):
    """Against what the taps saw; twice in a row, and buffers of parts that answer nothing stay."""
    spec = decoder(Cycle((PLAIN, BLOCK)) if pattern else BLOCK)
    graphdef, params, buffers = drawn(spec)

    @tiny.jit
    def step(buffers):
        model = merge(graphdef, params, buffers)
        out = model(Inputs(tokens=jnp.asarray(tiny.tokens(B, T))), tap=Tap(save="seen"))
        return advance(model, buffers, out.statistics), out.taps["seen"]

    once, seen = step(buffers)
    twice, _ = step(once)
    below = (lambda tree: tree["stack"]["sections"]["0"]["1"]) if pattern else (lambda tree: tree["stack"]["blocks"])
    means = np.asarray(seen, np.float64).sum(axis=(1, 2))
    for new, calls in ((once, 1), (twice, 2)):
        own = below(new)["feed_forward"]
        count = calls * B * T
        np.testing.assert_array_equal(own["count"], np.full(len(means), count))
        np.testing.assert_allclose(own["mean"], calls * means / count, rtol=1e-4, atol=1e-5)
    assert jax.tree.structure(once) == jax.tree.structure(buffers)


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (lambda b: {**b, "mean": b["mean"][:1]}, r"CountingLayer \(the model\): advance must return"),
        (lambda b: {**b, "count": b["count"].astype(jnp.int32)}, r"'count': 'int32\[\]'"),
        (lambda b: {"count": b["count"]}, "advance must return buffers of the same names"),
        (lambda b: {**b, "more": b["count"]}, "advance must return buffers of the same names"),
    ],
    ids=["shape", "type", "missing", "more"],
)
def test_a_buffer_keeps_its_shape_and_type(change, line, monkeypatch):
    part = counting()
    monkeypatch.setattr(CountingLayer, "advance", lambda self, buffers, sums: change(buffers))
    with pytest.raises(UserError, match=line):
        advance(part, split(part)[2], {"": SUMS})


def test_statistics_without_advance_are_refused(monkeypatch):
    monkeypatch.delattr(CountingLayer, "advance")
    part = counting()
    with pytest.raises(UserError, match=r"CountingLayer.*has statistics, but no advance"):
        advance(part, split(part)[2], {"": SUMS})
