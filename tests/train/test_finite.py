"""The line about a step that is not finite names the first place that went wrong."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from arch.answers import Sum
from arch.bottlenecks.base import Bottleneck
from arch.models.base import Causal, Model, Network, Output
from arch.stacks import Sequential
from tests.train import toys
from train.finite import explain, unfinite
from train.setup import CompiledRun, prepare


@pytest.fixture(scope="module")
def dataset():
    return toys.Toy().build()


@pytest.fixture(scope="module")
def program(dataset) -> CompiledRun:
    return prepare(toys.run(accumulate=2), dataset.description)


@pytest.fixture(scope="module")
def batch(program, dataset):
    return program.place(next(dataset.train(8, 0)))


@pytest.fixture(scope="module")
def start(program):
    """The first state, on the host."""
    return jax.device_get(program.start())


def damaged(start: dict, path: str, index, value: float) -> dict:
    """The start with one number of one parameter replaced."""
    state = jax.tree.map(jnp.asarray, start)
    node = state["params"]
    *parents, name = path.split(".")
    for parent in parents:
        node = node[parent]
    node[name] = node[name].at[index].set(value)
    return state


@pytest.mark.parametrize(
    ("path", "index", "value", "line"),
    [
        (
            "stack.blocks.mixer.o.kernel",
            (2, 1, 0, 0),
            np.nan,
            "the first values that are not finite are in attn_out of layer 2; "
            "the parameter stack.blocks.mixer.o.kernel is not finite itself",
        ),
        (
            "stack.blocks.feed_forward.down.kernel",
            (1, 0, 0),
            np.inf,
            "the first values that are not finite are in mlp_out of layer 1; "
            "the parameter stack.blocks.feed_forward.down.kernel is not finite itself",
        ),
        (
            "stack.blocks.feed_forward.up.kernel",
            2,
            3e38,
            "the first values that are not finite are in mlp_out of layer 2",
        ),
        (
            "head.kernel",
            (0, 0),
            np.nan,
            "the first values that are not finite are in logits; the parameter head.kernel is not finite itself",
        ),
    ],
)
def test_the_first_bad_site_in_forward_order(program, batch, start, path, index, value, line):
    assert explain(program, damaged(start, path, index, value), batch) == line


def test_a_bad_embedding_is_found_in_the_micro_batch_that_uses_it(program, batch, start):
    used = int(np.asarray(batch["tokens"])[1, 0])
    state = damaged(start, "embedding.table", (used, 0), np.nan)
    assert explain(program, state, batch).startswith("the first values that are not finite are in embed;")


def test_a_bad_gradient_of_a_finite_loss(program, batch, start):
    """A loss whose value is the model's and whose gradient is infinite in one parameter."""
    learner, forward = program.learner, program.learner.forward

    def broken_forward(params, *rest, **looks):
        sums, output = forward(params, *rest, **looks)
        gain = params["norm"]["gain"]
        total = sums.loss.total + jnp.sum(jnp.sqrt(gain - jax.lax.stop_gradient(gain)))
        return dataclasses.replace(sums, loss=dataclasses.replace(sums.loss, total=total)), output

    broken_forward.placement = forward.placement
    broken = dataclasses.replace(program, learner=dataclasses.replace(learner, forward=broken_forward))
    assert (
        explain(broken, jax.tree.map(jnp.asarray, start), batch)
        == "the forward pass is finite, but the gradient of norm.gain is not"
    )


def test_unfinite_names_parameters(program, start):
    assert unfinite(program, start["params"]) == []
    bad = damaged(start, "norm.gain", 0, np.inf)["params"]
    assert unfinite(program, bad) == ["norm.gain"]


@dataclasses.dataclass(frozen=True)
class Bad(Bottleneck):
    """Passes what it is given, and answers something that is not finite."""

    what: str = "losses"

    def build(self, width, make):
        return BadLayer(self, make)


class BadLayer(nnx.Module):
    def __init__(self, spec, make):
        self.what, self.seen = spec.what, make.buffer([], 0.0)

    def __call__(self, x, ctx):
        infinite = jnp.sum(x.astype(jnp.float32)) * jnp.inf
        if self.what == "losses":
            ctx.answer(self, losses={"pull": Sum(infinite, jnp.ones(()))})
        else:
            ctx.answer(self, statistics={"seen": infinite})
        return x

    def advance(self, buffers, sums):
        return {"seen": buffers["seen"] + sums["seen"]}


@pytest.mark.parametrize(
    ("what", "line"),
    [("losses", "not finite: the loss between.pull"), ("statistics", "not finite: the statistics of stack.between.1")],
)
def test_what_a_part_answers_may_be_what_is_not_finite(dataset, batch, what, line):
    """The objective's own loss is, and so are all activations; the step changes nothing, and the line says why."""
    stack = Sequential(between=((1, Bad(what)),))
    bad = prepare(toys.run(model=toys.model(depth=1, stack=stack)), dataset.description)
    state = bad.start()
    before = jax.device_get(state)
    after, metrics = bad.train_step(state, batch, bad.go())
    assert np.isfinite(metrics["loss"])
    assert not bool(metrics["finite"])
    jax.tree.map(np.testing.assert_array_equal, jax.device_get(after), before)
    assert explain(bad, jax.tree.map(jnp.asarray, before), batch) == line


@dataclasses.dataclass(frozen=True)
class Untapped(Model, Causal):
    """A table of logits, without a single tap site."""

    vocab: int = toys.VOCAB

    def build(self, *, rngs):
        return UntappedNetwork()


class UntappedNetwork(Network):
    def __init__(self):
        self.table = nnx.Param(
            jnp.zeros((toys.VOCAB, toys.VOCAB)), axes=("vocab", None), initializer="zeros", role="head"
        )

    def forward(self, inputs, ctx, cache):
        return Output(self.table[...][inputs.tokens])


def test_a_model_without_sites_is_explained_all_the_same(dataset, batch):
    bare = prepare(toys.run(model=Untapped()), dataset.description)
    state = jax.device_get(bare.start())
    assert (
        explain(bare, damaged(state, "table", (0, 0), np.nan), batch)
        == "only the loss is not finite; the parameter table is not finite itself"
    )
