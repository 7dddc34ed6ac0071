"""The wide-attention study: its layouts, its sizes in closed form, its kinds, and a whole run of the tiny form."""

import dataclasses
import math

import pytest

from arch.cost import abstract, metadata, parameters
from arch.spec import UserError
from experiments.study.claims.on_average import OnAverage
from experiments.study.engine import run_study
from experiments.wide_attention import CHEAP, FORMS, LAYOUTS, get_config, mixers, shape

D, K, F, TOTAL = 64, 8, 128, 48


@pytest.fixture(scope="module")
def studies():
    return {form: get_config(form) for form in FORMS}


@pytest.mark.parametrize("form", ["listops", "bytes"])
def test_layouts(studies, form):
    """48 heads of width 8 in all, attention constant, the feed-forwards and norms as many as the layers."""
    arms = studies[form].arms
    assert list(arms) == [f"{form} {kind} {layout}" for kind in CHEAP for layout in (*LAYOUTS, "1x48 matched")]
    for kind in ("softmax", "linear"):
        sizes = {layout: parameters(arms[f"{form} {kind} {layout}"].model).total for layout in LAYOUTS}
        for layout, depth in zip(LAYOUTS, (6, 3, 2, 1), strict=True):
            model = arms[f"{form} {kind} {layout}"].model
            assert (model.depth, model.depth * model.block.mixer.heads, model.block.mixer.head_dim) == (depth, TOTAL, K)
            assert sizes[layout] - sizes["1x48"] == (depth - 1) * (2 * D * F + 4 * D)
            rows = metadata(abstract(model))
            attention = sum(math.prod(row["shape"]) for path, row in rows.items() if ".mixer." in path)
            assert attention == 4 * D * K * TOTAL
        matched = parameters(arms[f"{form} {kind} 1x48 matched"].model).total
        assert sizes["6x8"] - matched == 5 * 4 * D  # only the norms differ


def test_claims_compare_the_ends_of_each_task_and_kind(studies):
    for form in ("cpu", "listops", "bytes", ""):
        study = studies[form]
        mean, *claims = study.claims
        assert mean == OnAverage(tuple(claims))
        pairs = [(claim.arm, claim.than) for claim in claims]
        assert len(set(pairs)) == len(pairs) == {"cpu": 2, "": 40}.get(form, 3)
        for wide, deep in pairs:
            assert wide.removesuffix("1x48") == deep.removesuffix("6x8")
            one, other = study.arms[wide], study.arms[deep]
            assert dataclasses.replace(one, model=other.model) == other


def test_the_paper_form_has_the_ten_kinds_on_four_tasks(studies):
    arms = studies[""].arms
    assert len(arms) == 4 * 10 * len(LAYOUTS)
    assert {name.rsplit(" ", 2)[0] for name in arms} == {"listops", "imdb tokens", "imdb bytes", "matching"}
    for name in ("listops sinkhorn 1x48", "matching bigbird 6x8", "imdb tokens performer 2x24"):
        run = arms[name]
        assert run.model.width == 256
        assert not list(run.conflicts(1))


@pytest.mark.parametrize("heads", [8, 48])
def test_kinds_are_built_for_their_heads(heads):
    kinds = mixers(heads, K, 64)
    assert len(kinds) == 10
    assert all((kind.heads, kind.head_dim) == (heads, K) for kind in kinds.values())


def test_shapes():
    assert [shape(layout) for layout in LAYOUTS] == [(6, 8, 1), (3, 16, 1), (2, 24, 1), (1, 48, 1)]
    assert shape("1x48 matched") == (1, 48, 6)


def test_unknown_form():
    with pytest.raises(UserError, match="big"):
        get_config("big")


def test_the_tiny_form_runs(tmp_path, monkeypatch):
    monkeypatch.setenv("STRATA_CACHE", str(tmp_path / "cache"))
    study = dataclasses.replace(get_config("tiny"), seeds=2)
    results = run_study(study, "wide_attention", tmp_path / "study", note=lambda line: None)
    assert [arm.name for arm in results.arms] == list(study.arms)
    for arm in study.arms:
        values = results.values(arm)
        assert set(values) == {0, 1}
        assert all(0 <= value <= 1 for value in values.values())
    assert len(results.verdicts) == 1
