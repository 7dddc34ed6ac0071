"""The LayerNorm Scaling study: its sizes, its arms and its published numbers fit each other."""

import dataclasses

import pytest
from flax import nnx

from arch.blocks import PreNorm
from arch.blocks.depth_scaled import ScaledNorm
from arch.cost import parameters
from arch.models.decoder import Decoder
from arch.spec import UserError
from experiments.curse_of_depth import FORMS, LARGE, PAPER, arms, get_config
from experiments.lns_sizes import SIZES, run
from experiments.study.claims.claims import Better

SHAPES = {
    9: (4, 128, 352),
    20: (4, 256, 688),
    60: (8, 512, 1376),
    130: (12, 768, 2048),
    250: (24, 768, 2560),
    350: (24, 1024, 2736),
    1000: (24, 2048, 5461),
    7000: (32, 4096, 11008),
}
"""Millions of parameters -> (layers, width, hidden)."""


@pytest.mark.parametrize("name", [name for name in SIZES if not name.endswith("script")])
def test_sizes_are_what_they_are_called(name):
    """Two tables of 32,000 rows, four square matrices and three of the feed-forward a layer, and the gains."""
    called = int(name[:-1]) * (1000 if name[-1] == "B" else 1)
    L, D, F = SHAPES[called]
    by_hand = 2 * 32_000 * D + L * (4 * D * D + 3 * D * F + 2 * D) + D
    assert parameters(SIZES[name].model()).total == by_hand
    assert by_hand == pytest.approx(called * 1e6, rel=0.35)


@pytest.mark.parametrize("name", [name for name, size in SIZES.items() if size.recipe])
def test_recipes_give_the_tokens_that_the_paper_states(name):
    """No more tokens than places: documents are cut off and padded to 256."""
    recipe, one = SIZES[name].recipe, run(name)
    assert 0.5 * recipe.tokens < recipe.tokens <= recipe.updates * one.batch * one.data.length
    assert one.steps == recipe.updates
    assert one.optimizer.learning_rate == recipe.learning_rate
    assert round(one.optimizer.schedule.warmup * one.steps) == recipe.warmup
    assert (one.optimizer.clip, one.optimizer.weight_decay, one.data.pack) == (None, 0.0, False)


def test_the_two_learning_rates_at_350m():
    text, script = run("350M"), run("350M_script")
    assert (text.optimizer.learning_rate, script.optimizer.learning_rate) == (1e-3, 5e-4)
    assert dataclasses.replace(text, optimizer=script.optimizer) == script


def test_a_size_without_a_recipe():
    with pytest.raises(UserError, match="60M: the paper gives no recipe"):
        run("60M")


def test_every_published_arm_is_a_configuration():
    """Except OLMo's own baseline, which is another code base's."""
    known = arms(SIZES["130M"].model())
    assert {row["arm"] for row in PAPER} - set(known) == {"OLMo's own"}
    assert len({repr(model) for model in known.values()}) == len(known)


def test_every_arm_builds_with_the_parts_of_its_base():
    base = Decoder(vocab=19, width=32, depth=4, block=PreNorm(dropout=0.125))
    for name, model in arms(base).items():
        assert (model.block.mixer, model.block.dropout, model.depth) == (base.block.mixer, 0.125, 4), name
        nnx.eval_shape(lambda model=model: model.build(rngs=nnx.Rngs(0)))


def test_the_small_form_is_the_calibrated_one():
    """Widths of the injections as at 130M, several seeds at each rate, the paper's decay to a tenth."""
    study = get_config("cpu")
    assert (study.seeds, study.tuning_seeds, len(study.learning_rates)) == (8, 3, 4)
    assert isinstance(study.arms["lns"].model.block, ScaledNorm)
    assert study.primary == Better("lns", than="pre_ln")
    for arm in study.arms.values():
        assert (arm.model.depth, arm.model.width, arm.batch, arm.data.length) == (16, 32, 16, 64)
        assert (arm.steps, arm.optimizer.schedule.final) == (800, 0.1)
    init = study.arms["pre_ln"].model.init
    assert (init.std, init.base.std) == (0.02, 0.098)
    assert init.base.std == pytest.approx(0.02 * (768 / 32) ** 0.5, abs=1e-3)


@pytest.mark.parametrize("form", [*FORMS, *LARGE])
def test_claims_are_about_arms(form):
    study = get_config(form)
    for claim in study.claims:
        assert {claim.arm, getattr(claim, "than", claim.arm)} <= set(study.arms)


def test_unknown_forms():
    with pytest.raises(UserError, match="no form '60M'"):
        get_config("60M")
