"""The depth panel of a toy run, against taps and rebuilt models."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from arch.layers.attention.masks import SlidingWindow
from arch.models.base import Causal, Inputs, Model, Network, Output
from arch.stacks import Cycle, LayerSubset, Sequential
from arch.taps import Tap
from experiments.study.panels import diagnostics
from experiments.study.panels.diagnostics import depth_panel
from tests.train import toys
from train.ensemble import Ensemble, pick
from train.optim import SGD, Cosine
from train.setup import prepare

L = 3
NAMES = {
    "residual_rms",
    "residual_variance",
    "angular_distance",
    "attn_contribution",
    "mlp_contribution",
    "block_contribution",
    "attn_cosine",
    "mlp_cosine",
    "attention_entropy",
    "gradient_norm",
    "layer_drop",
    "update_to_weight",
}


@pytest.fixture(scope="module")
def dataset():
    return toys.Toy().build()


@pytest.fixture(scope="module")
def program(dataset):
    return prepare(toys.run(), dataset.description)


@pytest.fixture(scope="module")
def state(program):
    return program.start()


@pytest.fixture(scope="module")
def params(state):
    return state["params"]


@pytest.fixture(scope="module")
def batch(dataset):
    return list(dataset.validation(8))[-1]  # five rows and three of padding


@pytest.fixture(scope="module")
def panel(program, state, batch):
    return depth_panel(program, state, batch)


def test_one_number_a_layer(panel):
    assert set(panel) == NAMES
    for name, values in panel.items():
        assert len(values) == L, name
        assert all(isinstance(value, float) and np.isfinite(value) for value in values), name


def test_against_taps(program, params, batch, panel):
    """The tokens that count are those outside padding; none of the rows that fill the batch up is one."""
    segments = batch["segments"][:, :-1]
    out = jax.jit(
        lambda params: (
            program.model({"params": params, "buffers": {}})(
                Inputs(
                    jnp.asarray(batch["tokens"][:, :-1]),
                    jnp.asarray(batch["positions"][:, :-1]),
                    jnp.asarray(segments),
                ),
                tap=Tap(save="resid_.*|attn_out|mlp_out"),
            ).taps
        )
    )(params)
    taps = {name: np.asarray(value, np.float64)[:, segments > 0] for name, value in out.items()}
    norm = lambda x: np.linalg.norm(x, axis=-1)  # noqa: E731
    dot = lambda x, y: np.sum(x * y, axis=-1) / norm(x) / norm(y)  # noqa: E731
    before, middle, after = taps["resid_pre"], taps["resid_mid"], taps["resid_post"]
    expected = {
        "residual_rms": np.sqrt(np.mean(before**2, axis=(1, 2))),
        "residual_variance": after.reshape(L, -1).var(axis=1),
        "angular_distance": np.mean(np.arccos(dot(before, after)) / np.pi, axis=1),
        "attn_contribution": np.mean(norm(taps["attn_out"]) / norm(before), axis=1),
        "mlp_contribution": np.mean(norm(taps["mlp_out"]) / norm(middle), axis=1),
        "block_contribution": np.mean(norm(taps["attn_out"] + taps["mlp_out"]) / norm(before), axis=1),
        "attn_cosine": np.mean(dot(taps["attn_out"], before), axis=1),
        "mlp_cosine": np.mean(dot(taps["mlp_out"], middle), axis=1),
    }
    for name, values in expected.items():
        np.testing.assert_allclose(panel[name], values, rtol=1e-4, err_msg=name)


def test_a_dropped_layer_is_a_model_rebuilt_without_it(dataset, program, params, batch, panel):
    def loss(program, params):
        loss = program.eval_step(params, {}, program.place(batch, train=False)).loss
        return float(loss.total / loss.weight)

    stack = Sequential(kept=LayerSubset((0, 2), L))
    rebuilt = prepare(toys.run(model=toys.model(dropout=0.1, depth=2, stack=stack)), dataset.description)
    blocks = jax.tree.map(lambda p: p[np.array([0, 2])], params["stack"]["blocks"])
    without = loss(rebuilt, {**params, "stack": {"blocks": blocks}})
    np.testing.assert_allclose(panel["layer_drop"][1], without - loss(program, params), rtol=1e-4, atol=1e-6)
    assert abs(panel["layer_drop"][1]) > 1e-4


def test_gradient_norms_are_those_of_training(program, params, batch, panel):
    """Without dropout, on the same rows."""
    run = program.run
    plain = dataclasses.replace(run, model=toys.model(dropout=0.0))
    learner = prepare(plain, toys.Toy().describe()).learner
    _, grads = jax.jit(learner.gradients)(params, {}, batch, jnp.int32(0))
    for layer in range(L):
        squares = [np.sum(np.square(leaf[layer])) for leaf in jax.tree.leaves(grads["stack"]["blocks"])]
        np.testing.assert_allclose(panel["gradient_norm"][layer], np.sqrt(np.sum(squares)), rtol=1e-5)


def test_update_to_weight(dataset, batch):
    """Plain gradient descent: rate * |gradient| / |weights|, at the peak rate whatever the schedule has come to."""
    optimizer = SGD(learning_rate=0.25, schedule=Cosine(final=0.0), momentum=0.0, clip=None, weight_decay=0.0)
    program = prepare(toys.run(optimizer=optimizer), dataset.description)
    state = program.start()
    weights = [
        np.sqrt(sum(np.sum(np.square(leaf[layer])) for leaf in jax.tree.leaves(state["params"]["stack"]["blocks"])))
        for layer in range(L)
    ]
    for rate, given in ((0.25, None), (0.5, 0.5)):
        values = depth_panel(program, state, batch, given)
        expected = rate * np.asarray(values["gradient_norm"]) / weights
        np.testing.assert_allclose(values["update_to_weight"], expected, rtol=1e-5)


def test_replicas_share_what_was_compiled(dataset, batch):
    program = prepare(toys.run(), dataset.description, ensemble=Ensemble(({"seed": 0}, {"seed": 1})))
    state = program.start()
    first = depth_panel(program, pick(state, 0), batch)
    made = diagnostics._latest[0][1]
    second = depth_panel(program, pick(state, 1), batch)
    assert [function._cache_size() for function in (made["activations"], made["losses"])] == [1, 1]
    assert first["residual_rms"] != second["residual_rms"]


def test_blocks_without_a_feed_forward_or_a_middle(dataset, batch):
    model = toys.model()
    for block in (dataclasses.replace(model.block, feed_forward=None),):
        program = prepare(toys.run(model=dataclasses.replace(model, block=block)), dataset.description)
        panel = depth_panel(program, program.start(), batch)
        assert set(panel) == NAMES - {"mlp_contribution", "mlp_cosine"}


@dataclasses.dataclass(frozen=True)
class Flat(Model, Causal):
    """A model without a stack."""

    vocab: int = toys.VOCAB

    def build(self, *, rngs):
        return FlatModel(rngs)


class FlatModel(Network):
    def __init__(self, rngs):
        table = jax.random.normal(rngs.params(), (toys.VOCAB, toys.VOCAB))
        self.table = nnx.Param(table, axes=("vocab", "embed"), initializer="normal", role="embedding")

    def forward(self, inputs, ctx, cache):
        return Output(self.table[...][inputs.tokens])


def test_a_model_without_a_stack_has_no_panel(dataset, batch):
    program = prepare(toys.run(model=Flat()), dataset.description)
    assert depth_panel(program, program.start(), batch) == {}


def test_a_pattern_has_the_panel_of_its_layers(dataset, batch):
    """Two blocks that differ in a window longer than the rows: the same function, laid out as two loops."""
    block = toys.model().block
    local = dataclasses.replace(block, mixer=dataclasses.replace(block.mixer, mask=SlidingWindow(4 * toys.LENGTH)))
    panels = []
    for one in (block, Cycle((local, block))):
        program = prepare(toys.run(model=toys.model(depth=5, block=one)), dataset.description)
        state = program.start()
        panels.append(depth_panel(program, state, batch))
    assert "sections" in state["params"]["stack"]
    assert set(panels[1]) == NAMES
    for name, values in panels[0].items():
        np.testing.assert_allclose(panels[1][name], values, rtol=2e-4, atol=1e-6, err_msg=name)


def test_what_only_some_layers_have_is_left_out(dataset, batch):
    block = toys.model().block
    pattern = Cycle((dataclasses.replace(block, feed_forward=None), block))
    program = prepare(toys.run(model=toys.model(depth=2, block=pattern)), dataset.description)
    panel = depth_panel(program, program.start(), batch)
    assert set(panel) == NAMES - {"mlp_contribution", "mlp_cosine"}
    assert all(len(values) == 2 for values in panel.values())
