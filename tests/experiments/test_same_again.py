"""The A/A study: its arms differ in the draw alone, further draws are set from outside, and the tiny form runs."""

import re

import pytest

from arch.layers.init.initializers import Normal
from arch.layers.init.reseeded import Reseeded
from arch.spec import UserError, differences
from experiments import same_again
from experiments.config.overrides import Override, apply
from experiments.same_again import FORMS, get_config
from experiments.study.claims.claims import Better, Equivalent
from experiments.study.engine import run_study


@pytest.mark.parametrize("form", FORMS)
def test_the_arms_differ_in_the_draw_alone(form):
    study = get_config(form)
    a, b = study.arms.values()
    assert differences(a, b) == ["model.init.draw: 1 -> 2"]
    assert a.model.init == Reseeded(Normal())
    assert not list(a.conflicts(1))
    assert study.claims == (Better("b", than="a"), Equivalent("b", to="a", margin=0.02))
    assert study.has_test


def test_the_size_of_the_study():
    study = get_config()
    assert (study.seeds, len(study.learning_rates), study.arms["a"].model.depth) == (8, 3, 2)


def test_other_draws_by_the_words_of_the_docstring():
    words = re.findall(r"--config\.(\S+)=(\S+)", same_again.__doc__ or "")[:2]
    study = apply(get_config("tiny"), [Override(path, text) for path, text in words])
    assert [run.model.init.draw for run in study.arms.values()] == [3, 4]


def test_unknown_forms_are_refused():
    with pytest.raises(UserError, match="tiny"):
        get_config("large")


def test_the_tiny_form_runs(tmp_path):
    """Both arms learn, from other weights, and both claims are judged."""
    results = run_study(get_config("tiny"), "tiny", tmp_path, note=lambda line: None)
    assert all(cell.status == "finished" for cell in results.cells)
    a, b = (results.values(arm) for arm in ("a", "b"))
    assert set(a) == set(b) == {0, 1}
    assert all(a[seed] != b[seed] and abs(a[seed] - b[seed]) < 2 for seed in a)
    assert len(results.verdicts) == 2
