"""The study of codebook features: what its arms share, and the tiny form."""

import dataclasses

import pytest

from arch.bottlenecks.several import PerHead
from arch.spec import UserError
from experiments.codebook_features import ATTENTION, BASE, FORMS, LONGER, both, get_config
from experiments.study.engine import run_study
from experiments.study.from_arm import parent
from train.data.state_machine import StateMachine

MACHINES = [form for form in FORMS if isinstance(get_config(form).arms[BASE].data, StateMachine)]


@pytest.mark.parametrize("form", FORMS)
def test_arms_go_on_from_the_base_and_differ_in_codes_alone(form):
    arms = get_config(form).arms
    longer = arms[LONGER]
    for name, run in arms.items():
        assert not list(run.conflicts(1)), name
        assert parent(run) == (None if name == BASE else BASE)
        if name != BASE:
            block = dataclasses.replace(run.model.block, at=())
            assert dataclasses.replace(run, model=dataclasses.replace(run.model, block=block)) == longer, name
    assert (
        dataclasses.replace(longer, start=None, steps=0 + arms[BASE].steps, optimizer=arms[BASE].optimizer)
        == (arms[BASE])
    )


@pytest.mark.parametrize("form", MACHINES)
def test_codes_stand_where_the_paper_has_them(form):
    study = get_config(form)
    (site, part), = study.arms[ATTENTION].model.block.at  # fmt: skip
    assert (site, type(part), part.each.k) == ("attn.z", PerHead, 1)
    ks = []
    for name, run in study.arms.items():
        if name.startswith("attention and MLP"):
            (attention, heads), (mlp, codes) = run.model.block.at
            assert (attention, mlp, heads.each) == ("attn.z", "mlp_out", codes)
            assert name == both(codes.k)
            ks.append(codes.k)
    assert ks == sorted(ks)
    assert ks[0] == 1


def test_the_cpu_form_has_more_states_than_twice_the_width_and_unknown_forms_are_refused():
    base = get_config("cpu").arms[BASE]
    assert base.data.states > 2 * base.model.width
    with pytest.raises(UserError, match="tiny"):
        get_config("large")


@pytest.mark.slow
def test_the_tiny_form_runs(tmp_path):
    study = get_config("tiny")
    results = run_study(study, "tiny", tmp_path, note=lambda line: None)
    assert all(cell.status == "finished" for cell in results.cells)
    for cell in results.cells:
        assert 0 <= cell.metrics["suite/valid_transition_score"] <= 1
        assert ("suite/code_precision_score" in cell.metrics) == ("MLP" in cell.arm)
        assert ("suite/mlp_distance_error" in cell.metrics) == ("MLP" in cell.arm)
        assert ("suite/attention_distance_error" in cell.metrics) == (cell.arm not in (BASE, LONGER))
    assert len(results.verdicts) == len(study.claims)
