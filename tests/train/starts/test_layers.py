"""Arrays of layers in another arrangement of their stack: each layer keeps its own, whatever stands between them."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from arch.bottlenecks.base import Opening
from arch.bottlenecks.codebook import Codebook
from arch.bottlenecks.vector_quantized import VectorQuantized
from arch.models.base import Inputs
from arch.params import merge, split
from arch.spec import UserError
from arch.stacks.patterns import Cycle
from arch.stacks.sequential import Sequential
from tests.arch import tiny
from tests.train import toys
from train.starts.codes_from_data import KMeansCodes
from train.starts.from_arrays import FromArrays
from train.starts.layers import arrangements, origin, rearranged
from train.starts.start import KINDS, begin

BARE = toys.model(depth=3)
WITH = dataclasses.replace(BARE, stack=Sequential(between=((1, Codebook(codes=9)), (2, VectorQuantized(codes=5)))))


def state(spec, seed):
    graphdef, *arrays = split(spec.build(rngs=nnx.Rngs(seed)))
    return graphdef, dict(zip(KINDS, arrays, strict=True))


def logits(graphdef, state, **told):
    tokens = np.random.default_rng(0).integers(0, toys.VOCAB, (2, 7)).astype(np.int32)
    run = tiny.jit(lambda *arrays: merge(graphdef, *arrays)(Inputs(tokens=jnp.asarray(tokens)), **told).logits)
    return np.asarray(run(*(state[kind] for kind in KINDS)))


@pytest.fixture(scope="module")
def bare():
    graphdef, arrays = state(BARE, 0)
    return arrays, logits(graphdef, arrays)


def test_bottlenecks_between_the_layers_of_a_model_that_had_none(bare):
    """Open, they leave its logits as they were; back without them it is itself."""
    arrays, wanted = bare
    said = []
    graphdef, fresh = state(WITH, 1)
    found = begin(FromArrays.of(arrays), fresh, said.append)
    assert said[0].endswith("; fresh: stack.between.1.codes, stack.between.1.counts, stack.between.2.codes, "
                            "stack.between.2.counts")  # fmt: skip
    np.testing.assert_array_equal(logits(graphdef, found, tap=Opening()), wanted)
    assert np.abs(logits(graphdef, found) - wanted).max() > 1e-2
    for kind in KINDS:
        assert found[kind]["stack"]["between"].keys() == fresh[kind]["stack"]["between"].keys()
    without = FromArrays.of(found, take="^(?!stack.between)")
    graphdef, fresh = state(BARE, 2)
    jax.tree.map(np.testing.assert_array_equal, begin(without, fresh, said.append), arrays)


@pytest.mark.slow
def test_codes_from_data_between_layers(bare):
    """The codes are centres of the trained model's vectors, not of those of fresh layers."""
    arrays, wanted = bare
    data = toys.Toy().build()
    run = toys.run(model=WITH, start=KMeansCodes(FromArrays.of(arrays), rows=8, steps=2))
    graphdef, fresh = state(WITH, 1)
    found = begin(run.start.within(run, data), fresh, lambda line: None)
    np.testing.assert_array_equal(logits(graphdef, found, tap=Opening()), wanted)
    assert (np.asarray(found["params"]["stack"]["between"]["1"]["codes"])
            != np.asarray(fresh["params"]["stack"]["between"]["1"]["codes"])).all()  # fmt: skip


def test_a_pattern_and_a_list_of_sections():
    """Layers 0, 2 and 1, 3 take turns; then one of its own."""
    period = {"stack.sections.0.0.a": (2, 3), "stack.sections.0.1.a": (2, 3), "stack.sections.1.0.a": (1, 3)}
    assert arrangements(period.items()) == {
        "stack": {"sections.0.0": [0, 2], "sections.0.1": [1, 3], "sections.1.0": [4]}
    }
    rows = np.arange(15.0).reshape(5, 3)
    found = rearranged({"params": {"stack.blocks.a": rows, "head": rows}}, {"params": {**period, "head": (5, 3)}})
    assert found["params"].keys() == {*period, "head"}
    for path, layers in zip(period, ([0, 2], [1, 3], [4]), strict=True):
        np.testing.assert_array_equal(found["params"][path], rows[layers])
    back = rearranged(found, {"params": {"stack.blocks.a": (5, 3)}})
    np.testing.assert_array_equal(back["params"]["stack.blocks.a"], rows)


def test_stacks_of_a_pair_are_arranged_each_by_itself():
    """That of the encoder is the same in both; buffers tell how many layers there are too."""
    rows = np.arange(4.0)
    found = {"params": {"encoder.stack.blocks.a": rows, "decoder.stack.blocks.a": rows},
             "buffers": {"decoder.stack.blocks.b": rows}}  # fmt: skip
    wanted = {"params": {"encoder.stack.blocks.a": (4,), "decoder.stack.sections.0.0.a": (3,),
                         "decoder.stack.sections.1.0.a": (1,)},
              "buffers": {"decoder.stack.sections.0.0.b": (3,), "decoder.stack.sections.1.0.b": (1,)}}  # fmt: skip
    new = rearranged(found, wanted)
    assert {kind: set(arrays) for kind, arrays in new.items()} == {kind: set(shapes) for kind, shapes in wanted.items()}
    np.testing.assert_array_equal(new["buffers"]["decoder.stack.sections.1.0.b"], [3])


@pytest.mark.parametrize(
    "wanted",
    [
        {"stack.sections.0.0.a": (2,), "stack.sections.1.0.a": (3,)},  # of five layers
        {"stack.sections.0.0.a": (2,), "stack.sections.1.0.b": (2,)},  # two of which have no such array
        {"stack.sections.1.0.a": (4,)},  # and nobody knows what stands before them
    ],
)
def test_what_has_no_place_for_each_layer_stays_under_its_name(wanted):
    found = {"params": {"stack.blocks.a": np.arange(4.0)}}
    assert rearranged(found, {"params": wanted})["params"].keys() == {"stack.blocks.a"}


def test_a_model_of_another_depth_is_refused(bare):
    deeper = dataclasses.replace(WITH, depth=4)
    with pytest.raises(UserError, match=r"the model has no stack\.blocks\."):
        begin(FromArrays.of(bare[0]), state(deeper, 1)[1], lambda line: None)
    other = dataclasses.replace(BARE, block=Cycle((BARE.block, dataclasses.replace(BARE.block, feed_forward=None))))
    with pytest.raises(UserError, match=r"the model has no stack\.blocks\.feed_forward"):
        begin(FromArrays.of(bare[0]), state(other, 1)[1], lambda line: None)


def test_where_an_array_comes_from():
    origins = {"stack.blocks.a": "run 3 stack.blocks.a", "head": "run 3 head"}
    assert origin("head", origins) == "run 3 head"
    assert origin("stack.sections.1.0.a", origins) == "run 3 stack.blocks.a"
    assert origin("stack.between.1.codes", origins) is None
    parts = {f"stack.sections.{i}.0.a": f"run 3 sections.{i}" for i in range(2)}
    assert origin("stack.blocks.a", parts) == "run 3 sections.0 and run 3 sections.1"
