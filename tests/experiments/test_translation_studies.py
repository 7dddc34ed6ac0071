"""The studies of encoder-decoders, recurrent translators and pairs of encoder and decoder: arms, claims, and whole runs
of their tiny forms."""

import dataclasses

import jax
import numpy as np
import pytest
from flax import nnx

from arch.cost import abstract, parameters
from arch.models.base import Inputs
from arch.models.gnmt_int8 import quantized
from arch.params import metadata
from arch.spec import UserError
from experiments import gnmt, paired_encoder_decoder, return_of_the_encoder
from experiments.study.engine import run_study
from experiments.study.from_arm import FromArm
from experiments.study.match import count
from experiments.suites.base import Asked
from experiments.suites.int8 import Int8
from train.setup import prepare
from train.trained import TrainedRun

STUDIES = {
    "gnmt": gnmt,
    "paired_encoder_decoder": paired_encoder_decoder,
    "return_of_the_encoder": return_of_the_encoder,
}


@pytest.mark.parametrize("form", ["cpu", "half", "tiny"])
def test_both_members_of_a_pair_have_one_tree(form):
    arms = paired_encoder_decoder.get_config(form).arms
    encoder, decoder = (metadata(abstract(arms[name].model)) for name in ("encoder", "decoder"))
    assert {path: row["shape"] for path, row in encoder.items()} == {
        path: row["shape"] for path, row in decoder.items()
    }
    for name, kind, start in (
        ("encoder, longer", "encoder", "encoder"),
        ("decoder, longer", "decoder", "decoder"),
        ("decoder from encoder", "decoder", "encoder"),
        ("encoder from decoder", "encoder", "decoder"),
    ):
        arm, own = arms[name], arms[kind]
        assert arm.start == FromArm(start)
        assert (arm.model, arm.objective, arm.data) == (own.model, own.objective, own.data)
        assert arm.optimizer.learning_rate == own.optimizer.learning_rate / 2
    assert len({run.steps for run in arms.values() if isinstance(run.start, FromArm)}) == 1, "one budget for going on"


def test_the_second_size_of_the_pair_is_asked_the_same():
    whole, small = (paired_encoder_decoder.get_config(form) for form in ("cpu", "half"))
    assert list(whole.arms) == list(small.arms)
    for run, other in zip(whole.arms.values(), small.arms.values(), strict=True):
        assert other == dataclasses.replace(run, model=other.model)
        assert (run.model.width, other.model.width) == (64, 32)
    assert small == dataclasses.replace(
        whole, arms=small.arms, claims=tuple(dataclasses.replace(one, margin=0.0) for one in whole.claims)
    )


@pytest.mark.parametrize("form", ["cpu", "find"])
def test_pair_and_decoder_spend_the_same(form):
    arms = dict(return_of_the_encoder.get_config(form).arms)
    spent = {name: count(run, "train_flops_total") for name, run in arms.items()}
    first = spent["4+2"]
    for name, run in arms.items():
        if "fifth" not in name:
            assert abs(spent[name] - first) <= spent[name] / run.steps, "to an update"
            assert parameters(run.model).total == pytest.approx(parameters(arms["4+2"].model).total, rel=0.03)
    assert arms["decoder"].steps < 0.6 * arms["4+2"].steps


def test_a_fifth_of_the_pairs_for_half_the_updates():
    arms = return_of_the_encoder.get_config("cpu").arms
    fifth = {name: arms[name] for name in ("4+2, a fifth", "4+2, distilled on a fifth")}
    for run in fifth.values():
        assert (run.model, run.data.data) == (arms["4+2"].model, arms["4+2"].data)
        assert run.steps == arms["4+2"].steps // 2
    teacher = fifth["4+2, distilled on a fifth"].objective.teacher
    assert (teacher.model, teacher.start) == (arms["decoder"].model, FromArm("decoder"))


def test_deep_stacks_differ_in_their_residuals_alone():
    arms = gnmt.get_config("cpu").arms
    deep, plain = arms["8+8"].model, arms["8+8, no residuals"].model
    again = dataclasses.replace(
        plain,
        encoder=dataclasses.replace(plain.encoder, residual_from=3),
        decoder=dataclasses.replace(plain.decoder, residual_from=3),
    )
    assert again == deep
    more = gnmt.get_config("reward").arms
    assert more["2+2, reward"].start == more["2+2, longer"].start == FromArm("2+2")
    assert more["2+2"] == arms["2+2"], "trained once for both forms"


@pytest.mark.parametrize("name", STUDIES)
def test_unknown_form(name):
    with pytest.raises(UserError, match="big"):
        STUDIES[name].get_config("big")


@pytest.mark.slow
@pytest.mark.parametrize("name", STUDIES)
def test_the_tiny_form_runs(name, tmp_path):
    study = STUDIES[name].get_config("tiny")
    results = run_study(study, name, tmp_path / "study", note=lambda line: None)
    assert len(results.verdicts) == len(study.claims)
    for arm in study.arms:
        assert set(results.values(arm)) == {0, 1}


def side_by_side(rows):
    """Two pairs a row, as they are packed."""
    found = {name: array.reshape(len(array) // 2, -1) for name, array in rows.items() if array.ndim == 2}
    for name in ("segments", "source_segments"):
        later = np.repeat([0, 1], rows[name].shape[1])
        found[name] = np.where(found[name] > 0, found[name] + later, 0).astype(np.int32)
    for name, of in (("positions", "tokens"), ("source_positions", "source")):
        length = rows[of].shape[1]
        found[name] = np.tile(np.arange(length, dtype=np.int32), (len(found[of]), 2))
    return found


def test_what_integers_cost():
    """The score against both networks called by hand."""
    run = gnmt.get_config("tiny").arms["1+1"]
    dataset = run.data.build()
    program = prepare(run, dataset.description)
    state = jax.tree.map(lambda x: 6.0 * x if x.ndim > 1 else x, program.start())
    asked = Asked(TrainedRun(program, state, dataset, 0), "validation", 10, batch=4)
    found = Int8(delta=1.0, rows=10).measure(asked)
    rows = asked.rows
    read = Inputs(rows["tokens"][:, :-1], None, rows["segments"][:, :-1],
                  source=Inputs(rows["source"], None, rows["source_segments"]))  # fmt: skip
    there, wanted, told = rows["segments"][:, 1:] > 0, rows["tokens"][:, 1:], []
    for network in (asked.opened.model, quantized(run.model, asked.opened.model, 1.0)):
        assert isinstance(network, nnx.Module)
        log_p = np.asarray(jax.nn.log_softmax(network(read).logits), np.float64)
        told.append((np.take_along_axis(log_p, wanted[..., None], 2)[..., 0][there], log_p.argmax(2)[there]))
    assert found["int8_loss_gap"] == pytest.approx(abs(told[0][0].mean() - told[1][0].mean()), abs=1e-5)
    assert found["int8_loss_gap"] > 0
    assert found["int8_agreement_score"] == pytest.approx((told[0][1] == told[1][1]).mean())
    asked.rows = side_by_side(rows)
    packed = Int8(delta=1.0, rows=10).measure(asked)
    assert packed == pytest.approx(found, abs=1e-5), "two pairs a row are the same pairs"
    unbounded = dataclasses.replace(run.model.encoder, cell=dataclasses.replace(run.model.encoder.cell, clip=None))
    loose = dataclasses.replace(run, model=dataclasses.replace(run.model, encoder=unbounded))
    assert "needs states that were bounded" in Int8().refusal(loose)
    assert not Int8().refusal(run)
