"""Reseeded initialisers: the distribution stays, every number is another one, and draws do not go together."""

import jax
import numpy as np
import pytest
from flax import nnx

from arch.layers.init.deepnet import DeepNormInit
from arch.layers.init.embedding import EmbeddingInit
from arch.layers.init.initializers import ROLES, DepthScaledInit, FanIn, Normal, ScaledInit, TruncatedNormal
from arch.layers.init.plain import He
from arch.layers.init.reseeded import Reseeded
from arch.models.decoder import Decoder
from arch.params import ParamFactory, nest, roles
from arch.spec import SpecError
from tests.arch import tiny

SHAPE = (64, 400)
BASES = (
    Normal(0.3),
    TruncatedNormal(0.5, cut=2.0),
    FanIn(),
    He(),
    EmbeddingInit(Normal(), 0.1),
    ScaledInit(FanIn(2.0)),
    DepthScaledInit(),
    DeepNormInit(),
)


def numbers(init, role="linear", seed=0):
    value = init(jax.random.key(seed), SHAPE, role=role, fan_in=64, depth=6, layer=2)
    assert (value.shape, value.dtype) == (SHAPE, np.float32)
    return np.asarray(value, np.float64).ravel()


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("base", BASES, ids=lambda base: type(base).__name__)
def test_the_distribution_is_that_of_the_base(base, role):
    """Mean and std, and what is a sharper test of a cut or a heavy tail: the fourth moment."""
    plain, again = numbers(base, role), numbers(Reseeded(base), role)
    error = 1 / np.sqrt(plain.size)
    assert abs(again.mean()) < 5 * error * again.std()
    np.testing.assert_allclose(again.std(), plain.std(), rtol=5 * error)
    kurtosis = [np.mean((value / value.std()) ** 4) for value in (plain, again)]
    assert abs(kurtosis[1] - kurtosis[0]) < 5 * np.sqrt(2 * 24) * error


def test_draws_and_seeds_do_not_go_together():
    """Of the base, of five draws, of a draw of a draw and of other seeds: no two correlate."""
    base = Normal()
    inits = [base, *(Reseeded(base, draw) for draw in range(1, 6)), Reseeded(Reseeded(base))]
    drawn = np.stack([numbers(init, seed=seed) for seed in range(3) for init in inits])
    found = np.corrcoef(drawn) - np.eye(len(drawn))
    assert np.abs(found).max() < 5 / np.sqrt(drawn.shape[1])


def test_the_same_numbers_again():
    init = Reseeded(FanIn(), 3)
    np.testing.assert_array_equal(numbers(init), numbers(Reseeded(FanIn(), 3)))
    inner = FanIn()(jax.random.fold_in(jax.random.key(0), 3), SHAPE, role="linear", fan_in=64, depth=6, layer=2)
    np.testing.assert_array_equal(numbers(init), np.asarray(inner, np.float64).ravel())


def test_what_two_models_share_starts_the_same():
    """A weight depends on seed, draw, path and layer, not on what else there is."""
    make = ParamFactory(jax.random.key(0), Reseeded(Normal(), 2))
    one = make.at("blocks").weight("q", [(8, None)], [(8, None)])
    make.weight("other", [(3, None)], [(3, None)])
    np.testing.assert_array_equal(one[...], make.at("blocks").weight("q", [(8, None)], [(8, None)])[...])
    assert (one[...] != make.at("blocks").weight("k", [(8, None)], [(8, None)])[...]).all()


def test_every_weight_of_a_decoder_is_another_one():
    """Of each layer too. Gains are no draws: they stay."""

    def build(init):
        module = Decoder(vocab=19, width=32, depth=3, init=init).build(rngs=nnx.Rngs(0))
        kinds.update(nest(roles(module)))
        return nnx.to_pure_dict(nnx.state(module, nnx.Param))

    kinds: dict = {}
    plain, one, two = tiny.jit(lambda: [build(init) for init in (Normal(), Reseeded(), Reseeded(draw=2))])()

    def check(role, *drawn):
        for first, second in ((0, 1), (0, 2), (1, 2)):
            same = np.asarray(drawn[first]) == np.asarray(drawn[second])
            assert same.all() if role == "constant" else same.mean() < 1e-3, role

    jax.tree.map(check, kinds, plain, one, two)
    assert {"embedding", "linear", "residual", "head", "constant"} <= set(jax.tree.leaves(kinds))


def test_its_description_and_its_bounds():
    assert Reseeded(ScaledInit(Normal()), 2).describe("residual") == "Reseeded(ScaledInit(Normal(0.02)), 2)"
    assert Reseeded(ScaledInit(Normal())).describe("linear") == "Reseeded(Normal(0.02), 1)"
    with pytest.raises(SpecError, match=r"Reseeded\.draw=0: must be at least 1"):
        Reseeded(draw=0)
