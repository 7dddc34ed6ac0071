"""What the optimisers make of a real model's parameters, from its own axes."""

import jax
import pytest
from flax import nnx

from arch.blocks import PreNorm
from arch.layers.attention.softmax import Attention
from arch.layers.attention.synthesizer import RandomSynthesizer
from arch.layers.linear import Dense
from arch.layers.positions import Learned, T5Relative
from arch.models.classifier import Classifier
from arch.models.decoder import Decoder
from arch.params import logical_axes, roles, split
from train.optim import AdamW, Muon, Others, state_axes
from train.optim.rules import leaves_by_path


def described(spec) -> tuple[dict, dict, dict]:
    """Abstract parameters, their axes and their roles."""
    module = nnx.eval_shape(lambda: spec.build(rngs=nnx.Rngs(0)))
    return split(module)[1], logical_axes(module), roles(module)


@pytest.fixture(scope="module")
def model() -> tuple[dict, dict, dict]:
    return described(Decoder(vocab=64, width=32, depth=2))


HIDDEN = {
    *(f"stack.blocks.mixer.{name}.kernel" for name in "qkvo"),
    *(f"stack.blocks.feed_forward.{name}.kernel" for name in ("gate", "up", "down")),
}


def test_kernels_decay_and_nothing_else(model):
    params, axes, roles = model
    decaying = {
        path for path, param_group in AdamW().param_groups(params, axes, roles=roles).items() if param_group.decay
    }
    assert decaying == HIDDEN | {"head.kernel"}


def test_muon_takes_the_kernels_of_the_blocks(model):
    params, axes, roles = model
    param_groups = Muon(others=Others(multiplier=0.5)).param_groups(params, axes, roles=roles)
    assert {path for path, param_group in param_groups.items() if param_group.multiplier == 1.0} == HIDDEN
    state = jax.eval_shape(Muon().build(params, 10, roles=roles, axes=axes).init, params)
    sizes = sum(leaf.size for leaf in jax.tree.leaves(state))
    rest = sum(leaf.size for path, leaf in leaves_by_path(params).items() if path not in HIDDEN)
    hidden = sum(leaf.size for path, leaf in leaves_by_path(params).items() if path in HIDDEN)
    assert sizes == hidden + 2 * rest + 6  # three counts and the three coefficients of optax's iteration


def test_every_array_of_the_state_has_its_axes(model):
    params, axes, roles = model
    named = state_axes(AdamW().build(params, 10, roles=roles, axes=axes), params, axes)
    assert named[1].mu == axes


def test_tables_of_positions_do_not_decay_and_the_heads_of_classes_do():
    block = PreNorm(mixer=Attention(heads=2, position=T5Relative(buckets=4), linear=Dense(bias=True)))
    spec = Classifier(vocab=16, width=8, depth=2, classes=3, block=block, position=Learned(6))
    params, axes, roles = described(spec)
    hidden = HIDDEN | {"head.up.kernel"}
    for optimizer in (AdamW(), Muon(others=Others(multiplier=0.5))):
        param_groups = optimizer.param_groups(params, axes, roles=roles)
        assert {path for path, param_group in param_groups.items() if param_group.decay} == hidden | {"head.out.kernel"}
    assert {path for path, param_group in param_groups.items() if param_group.multiplier == 1.0} == hidden


def test_a_learned_pattern_of_attention_is_a_matrix_of_its_layer():
    mixer = RandomSynthesizer(heads=2, head_dim=4, length=6)
    spec = Classifier(vocab=16, width=8, depth=2, block=PreNorm(mixer=mixer))
    params, axes, roles = described(spec)
    assert AdamW().param_groups(params, axes, roles=roles)["stack.blocks.mixer.pattern"].decay == 1.0
