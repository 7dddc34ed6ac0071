"""Ettin's pairs: the published counts, one tree for two models, and what each layer sees."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from arch import cost
from arch.layers.attention.masks import Causal, LocalWindow, SlidingWindow
from arch.models.base import Inputs
from arch.params import merge, metadata, roles, split
from arch.spec import SpecError
from arch.taps import Tap
from experiments.ettin_sizes import SIZES, Size
from tests.arch import tiny

THETA = {"theta_global": 160_000.0, "theta_local": 10_000.0}
TINY = Size(layers=4, width=16, hidden=24, heads=2, vocab=19, radius=2)
T = 12

COUNTS = {
    "17M": (12_894_208, 16_913_600),
    "32M": (19_341_312, 32_081_344),
    "68M": (25_788_416, 68_457_664),
    "150M": (38_682_624, 149_655_232),
    "400M": (51_576_832, 395_881_664),
    "1B": (90_259_456, 1_031_314_112),
}


@pytest.mark.parametrize("name", SIZES)
def test_parameters_are_the_published_ones(name):
    for spec in (SIZES[name].encoder(**THETA), SIZES[name].decoder(**THETA)):
        found = cost.parameters(spec)
        assert (found.embedding, found.total) == COUNTS[name]


def both():
    """(encoder, decoder, parameters) of the tiny size, in shapes and numbers."""
    encoder, params = tiny.draw(TINY.encoder(**THETA))
    decoder, _ = tiny.draw(TINY.decoder(**THETA))
    return encoder, decoder, params


def logits(graphdef, params, tokens):
    return merge(graphdef, jax.tree.map(jnp.asarray, params), {})(Inputs(tokens=jnp.asarray(tokens))).logits


def test_an_encoder_and_a_decoder_have_one_tree():
    encoder, decoder = (cost.abstract(kind(**THETA)) for kind in (TINY.encoder, TINY.decoder))
    assert metadata(encoder) == metadata(decoder)
    assert jax.tree.structure(split(encoder)[1]) == jax.tree.structure(split(decoder)[1])
    paths = set(metadata(encoder))
    assert "stack.sections.0.0.mixer_norm.gain" not in paths, "the first layer reads the normed embedding as it is"
    assert "stack.sections.1.0.mixer_norm.gain" in paths
    assert {path for path in paths if path.endswith("bias")} == {"head.bias"}


def test_an_encoder_with_causal_masks_is_the_decoder_bit_for_bit():
    spec = TINY.encoder(**THETA)

    def masked(block):
        mask = SlidingWindow(block.mixer.mask.radius + 1) if isinstance(block.mixer.mask, LocalWindow) else Causal()
        return dataclasses.replace(block, mixer=dataclasses.replace(block.mixer, mask=mask))

    causal, _ = tiny.draw(dataclasses.replace(spec, block=spec.block.with_blocks(masked)))
    encoder, decoder, params = both()
    tokens = tiny.tokens(2, T)
    run = tiny.jit(lambda params: [logits(graph, params, tokens) for graph in (causal, decoder, encoder)])
    substituted, plain, whole = run(params)
    np.testing.assert_array_equal(substituted, plain)
    assert np.abs(whole - plain).max() > 0.1


def influence(graphdef, params, length=T):
    """[t, s]: how much the logits of token t depend on the embedding of token s."""
    model = merge(graphdef, jax.tree.map(jnp.asarray, params), {})

    def told(x):
        tap = Tap(edit={"embed": lambda _, layer: x})
        return model(Inputs(tokens=jnp.zeros((1, length), jnp.int32)), tap=tap).logits[0].sum(axis=-1)

    x = np.random.default_rng(0).standard_normal((1, length, TINY.width)).astype(np.float32)
    return np.abs(tiny.jit(jax.jacrev(told))(x)[:, 0]).max(axis=-1)


def test_the_decoder_sees_no_future_and_the_encoder_does():
    encoder, decoder, params = both()
    later = np.triu(np.ones((T, T), bool), 1)
    assert (influence(decoder, params)[later] == 0).all()
    assert (influence(encoder, params)[later] > 0).all()


def test_local_layers_alone_reach_as_far_as_they_are_deep():
    spec = TINY.encoder(**THETA)
    local = spec.block.period[0]
    for layers in (1, 2):
        graphdef, params = tiny.draw(dataclasses.replace(spec, block=local, depth=layers))
        found = influence(graphdef, params)
        distance = np.abs(np.arange(T)[:, None] - np.arange(T)[None])
        assert (found[distance > layers * TINY.radius] == 0).all()
        assert (found[distance <= layers * TINY.radius] > 0).all()


def test_within_the_radius_local_layers_are_global():
    everywhere = {"theta_global": 10_000.0, "theta_local": 10_000.0}
    wide = dataclasses.replace(TINY, radius=1000)
    short, long = TINY.radius + 1, TINY.radius + 2
    for kind in ("encoder", "decoder"):
        near, params = tiny.draw(getattr(TINY, kind)(**everywhere))
        far, _ = tiny.draw(getattr(wide, kind)(**everywhere))
        for length, same in ((short, True), (long, False)):
            tokens = tiny.tokens(1, length)
            a, b = (logits(graph, params, tokens) for graph in (near, far))
            assert np.allclose(a, b, rtol=1e-6, atol=1e-6) == same


def scores(params, positions=None, **theta):
    """Scores of every layer, [L, N, T, T], where the mask lets them be seen."""
    graphdef, _ = tiny.draw(TINY.encoder(**theta))
    model = merge(graphdef, jax.tree.map(jnp.asarray, params), {})
    inputs = Inputs(tokens=jnp.asarray(tiny.tokens(1, T)), positions=positions)
    found = np.asarray(model(inputs, tap=Tap(save="attn.scores")).taps["attn.scores"])
    return np.where(found > -1e9, found, 0.0)[:, 0]


def test_scores_depend_on_distance_alone_and_each_base_on_its_own_layers():
    _, _, params = both()
    plain = scores(params, **THETA)
    moved = scores(params, positions=jnp.arange(T, dtype=jnp.int32)[None] + 37, **THETA)
    np.testing.assert_allclose(moved, plain, atol=2e-3)
    # The second layer is local, and reads what the first one wrote; so the first global layer alone is compared, and
    # the first local one of a stack whose first layer does not mix.
    changed = scores(params, theta_global=100.0, theta_local=THETA["theta_local"])
    assert np.abs(changed[0] - plain[0]).max() > 0.01
    kept = jax.tree.map(np.copy, params)
    kept["stack"]["sections"]["0"]["0"]["mixer"]["o"]["kernel"][:] = 0
    silent = [scores(kept, theta_global=base, theta_local=THETA["theta_local"]) for base in (100.0, 160_000.0)]
    np.testing.assert_array_equal(silent[0][1:3], silent[1][1:3])
    assert np.abs(silent[0][3] - silent[1][3]).max() > 0.01
    near = scores(kept, theta_global=160_000.0, theta_local=100.0)
    np.testing.assert_array_equal(near[0], silent[1][0])
    assert np.abs(near[1] - silent[1][1]).max() > 0.01


@pytest.mark.parametrize("name", ["17M", "1B"])
def test_the_rate_goes_through_the_phases(name):
    recipe = SIZES[name].recipe
    ends = np.cumsum([1.7e12, *((83.3e9, 16.7e9) if name == "1B" else (250e9, 50e9))])
    rates = []
    for before, end, length in zip((0, *ends[:2]), ends, (1024, 7999, 7999), strict=True):
        schedule = recipe.optimizer(step_tokens=4608 * length, before=float(before)).schedule
        last = int((end - before) / (4608 * length)) - 1
        multiplier = schedule.build(last + 1)
        rates.append([float(multiplier(0)), float(multiplier(last))])
    np.testing.assert_allclose([last for _, last in rates], [1.0, 0.5, 0.02], atol=1e-3)
    assert rates[0][0] == pytest.approx(4608 * 1024 / recipe.warmup, rel=1e-3)
    assert 0.45 < rates[2][0] < 0.5 < 0.95 < rates[1][0] < 1


def test_gains_and_biases_do_not_decay():
    model = cost.abstract(TINY.encoder(**THETA))
    param_groups = SIZES["17M"].recipe.optimizer(step_tokens=1).param_groups(split(model)[1], roles=roles(model))
    assert {path for path, one in param_groups.items() if not one.decay} == {
        path for path in param_groups if "norm" in path or path == "head.bias"
    }
    assert param_groups["embedding.table"].decay == 1.0


def test_the_last_layer_must_be_global():
    with pytest.raises(SpecError, match=r"Size\.layers=6"):
        dataclasses.replace(TINY, layers=6)
