"""What the optimisers make of a real model's parameters, from its own axes."""

import jax
import pytest
from flax import nnx

from arch.models.decoder import Decoder
from train.optim import AdamW, Muon, Others, state_axes
from train.optim.rules import leaves_by_path


@pytest.fixture(scope="module")
def model() -> tuple[dict, dict]:
    """Abstract parameters and their axes."""
    module = nnx.eval_shape(lambda: Decoder(vocab=64, width=32, depth=2).build(rngs=nnx.Rngs(0)))
    state = nnx.state(module, nnx.Param)
    axes = jax.tree.map(lambda p: tuple(p.get_metadata()["axes"]), state, is_leaf=lambda p: isinstance(p, nnx.Param))
    return nnx.to_pure_dict(state), nnx.to_pure_dict(axes)


HIDDEN = {
    *(f"stack.blocks.mixer.{name}.kernel" for name in "qkvo"),
    *(f"stack.blocks.feed_forward.{name}.kernel" for name in ("gate", "up", "down")),
}


def test_kernels_decay_and_nothing_else(model):
    params, axes = model
    decaying = {path for path, treatment in AdamW().treatments(params, axes).items() if treatment.decay}
    assert decaying == HIDDEN | {"head.kernel"}


def test_muon_takes_the_kernels_of_the_blocks(model):
    params, axes = model
    treatments = Muon(others=Others(multiplier=0.5)).treatments(params, axes)
    assert {path for path, treatment in treatments.items() if treatment.multiplier == 1.0} == HIDDEN
    state = jax.eval_shape(Muon().build(params, 10, axes=axes).init, params)
    sizes = sum(leaf.size for leaf in jax.tree.leaves(state))
    rest = sum(leaf.size for path, leaf in leaves_by_path(params).items() if path not in HIDDEN)
    hidden = sum(leaf.size for path, leaf in leaves_by_path(params).items() if path in HIDDEN)
    assert sizes == hidden + 2 * rest + 6  # three counts and the three coefficients of optax's iteration


def test_every_array_of_the_state_has_its_axes(model):
    params, axes = model
    named = state_axes(AdamW().build(params, 10, axes=axes), params, axes)
    assert named[1].mu == axes
