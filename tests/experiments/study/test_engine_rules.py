"""What the engine trains: rates that go on from an edge, seeds that are added, and what it tells before it begins."""

import dataclasses
import math

import pytest

from arch.spec import SpecError
from experiments.study.claims.claims import Better, NoWorse
from experiments.study.claims.until import Until
from experiments.study.engine import run_study
from experiments.study.results import Results
from experiments.study.study import EXTENSIONS, TUNING_SEED
from tests.experiments.study import toy
from tests.experiments.study.simulated import METRIC, Simulated, noisy

ARMS = ("depth=1", "depth=2")


def parabola(best, bend=0.2):
    """The loss by arm, with its best rate."""
    return lambda arm, seed, rate: 2.0 + bend * math.log(rate / best[arm]) ** 2 + 0.001 * (seed % 7)


def run(folder, loss, notes=None, **fields):
    executor = Simulated(loss)
    found = run_study(
        toy.study(**fields), "toy", folder, executor=executor, note=([] if notes is None else notes).append
    )
    return found, executor.trained


def test_all_arms_have_the_same_rates_and_seeds_of_tuning(tmp_path):
    rates = (1e-3, 2e-3, 4e-3, 8e-3)
    loss = parabola({"depth=1": 3e-3, "depth=2": 2e-3})
    found, trained = run(tmp_path, loss, learning_rates=rates, tuning_seeds=3)
    tuned = [cell for cell in trained if cell[1] == "tune"]
    for arm in ARMS:
        assert sorted({cell[2] for cell in tuned if cell[0] == arm}) == [TUNING_SEED + k for k in range(3)]
        assert sorted({cell[3] for cell in tuned if cell[0] == arm}) == list(rates)
    assert [arm.learning_rate for arm in found.arms] == [pytest.approx(3e-3, rel=1e-4), pytest.approx(2e-3, rel=1e-4)]
    assert {cell[3] for cell in trained if cell[:2] == ("depth=1", "seeds")} == {found.arms[0].learning_rate}


def test_a_grid_goes_on_from_an_edge_for_all_arms(tmp_path):
    """One arm's best rate lies two steps above the grid: both arms try both steps."""
    notes = []
    loss = parabola({"depth=1": 2e-3, "depth=2": 16e-3})
    found, _ = run(tmp_path, loss, notes, learning_rates=(1e-3, 2e-3, 4e-3), tuning_seeds=2)
    for arm in found.arms:
        assert arm.tried == (1e-3, 2e-3, 4e-3, 8e-3, 16e-3, 32e-3)[: len(arm.tried)]
        assert len(arm.tried) == 3 + EXTENSIONS
    assert [arm.at_edge for arm in found.arms] == [False, True], "bounded: the verdict is marked instead"
    assert "the learning rate of depth=2 is at the edge of its grid" in found.verdicts[0]["note"]
    assert "the best rate of an arm is at the edge: all arms try 0.008 too" in notes


def test_a_grid_goes_on_downwards_and_stops_where_it_has_an_end(tmp_path):
    loss = parabola(dict.fromkeys(ARMS, 6e-4))
    found, _ = run(tmp_path, loss, learning_rates=(1e-3, 2e-3, 4e-3), tuning_seeds=1)
    assert found.arms[0].tried == (2.5e-4, 5e-4, 1e-3, 2e-3, 4e-3)
    assert not found.arms[0].at_edge


def test_a_rate_that_diverged_is_the_end_of_a_grid(tmp_path):
    shape = parabola(dict.fromkeys(ARMS, 1.0))
    loss = lambda arm, seed, rate: math.nan if rate > 3e-3 else shape(arm, seed, rate)  # noqa: E731
    found, _ = run(tmp_path, loss, learning_rates=(1e-3, 2e-3, 4e-3), tuning_seeds=2)
    assert [(arm.learning_rate, arm.at_edge) for arm in found.arms] == [(2e-3, False)] * 2


def test_seeds_are_added_until_the_primary_claim_is_decided(tmp_path):
    rule = Until("primary", most=8)
    loss = noisy({"depth=1": 1.3, "depth=2": 1.0}, scale=0.06, draw=1)
    notes = []
    found, trained = run(tmp_path, loss, notes, learning_rates=(), seeds=rule)
    count = len(found.values("depth=1"))
    assert 3 <= count < 8
    assert [look["seeds"] for look in found.looks] == list(range(3, count + 1))
    assert [look["verdicts"] for look in found.looks] == [["undecided"]] * (count - 3) + [["supported"]]
    assert found.level == 1 - rule.alpha()
    assert found.verdicts[0]["verdict"] == "supported"
    assert len(trained) == 2 * count
    assert f"look at {count} seeds, level {found.level:.4g}: supported" in notes
    assert Results.from_json(found.to_json()).to_json() == found.to_json()


def test_what_cannot_be_decided_ends_with_the_last_seed(tmp_path):
    same = noisy(dict.fromkeys(ARMS, 1.0), scale=0.1, draw=3)
    found, _ = run(tmp_path, same, learning_rates=(), seeds=Until("all", most=5))
    assert [look["seeds"] for look in found.looks] == [3, 4, 5]
    assert found.verdicts[0]["verdict"] == "undecided"


def test_all_claims_are_waited_for_if_asked(tmp_path):
    loss = noisy({"depth=1": 1.2, "depth=2": 1.0}, scale=0.004)
    claims = (Better("depth=2", than="depth=1"), NoWorse("depth=1", than="depth=2", margin=0.2))
    first, _ = run(tmp_path / "primary", loss, learning_rates=(), claims=claims, seeds=Until("primary", most=5))
    both, _ = run(tmp_path / "all", loss, learning_rates=(), claims=claims, seeds=Until("all", most=5))
    assert (len(first.looks), len(both.looks)) == (1, 3), "the margin is the difference: never decided"


def test_a_stopped_study_looks_as_often_as_one_that_was_not(tmp_path):
    loss = noisy({"depth=1": 1.1, "depth=2": 1.0}, scale=0.06, draw=1)
    fields = {"learning_rates": (), "seeds": Until("primary", most=8)}
    whole, _ = run(tmp_path / "whole", loss, **fields)

    class StoppedError(Exception):
        pass

    def stopping(arm, seed, rate):
        if seed == 3:
            raise StoppedError
        return loss(arm, seed, rate)

    with pytest.raises(StoppedError):
        run(tmp_path / "again", stopping, **fields)
    again, trained = run(tmp_path / "again", loss, **fields)
    assert (again.looks, again.verdicts) == (whole.looks, whole.verdicts)
    assert min(seed for _, _, seed, _ in trained) == 3, "the first three are not trained again"


def test_what_is_told_before_anything_is_trained(tmp_path):
    notes = []
    rates = (1e-3, 2e-3, 4e-3)
    best = parabola(dict.fromkeys(ARMS, 2e-3))

    def loss(arm, seed, rate):
        cell = f"{arm} {rate}"
        return best(arm, seed, rate) + noisy({cell: 0.0}, 0.01)(cell, seed, rate)

    found, _ = run(tmp_path, loss, notes, learning_rates=rates, tuning_seeds=3, seeds=3)
    before = notes[: next(index for index, note in enumerate(notes) if note.startswith("tune"))]
    assert "3 seeds decide the primary claim in 4 of 5 studies if its effect is 3.3 sd of a paired difference" in before
    told = next(note for note in notes if note.startswith("by the noise of the sweep"))
    assert METRIC in told
    assert found.registration["cells"] == 0


def test_an_edit_is_listed_with_all_cells_that_were_there(tmp_path):
    """Also where the edit changes the grid, so that none of the cells is one of the new study's."""
    best = parabola(dict.fromkeys(ARMS, 2e-3))
    first, trained = run(tmp_path, best, learning_rates=(1e-3, 2e-3, 4e-3), tuning_seeds=1)
    edited, _ = run(tmp_path, best, learning_rates=(1.1e-3, 2.1e-3, 4.1e-3), tuning_seeds=1)
    (edit,) = edited.registration["edits"]
    assert (first.registration["cells"], first.registration["edits"]) == (0, [])
    assert (edit["field"], edit["cells"]) == ("learning_rates", len(trained))


@pytest.mark.parametrize(
    ("fields", "line"),
    [
        ({"tuning_seeds": 0}, "tuning_seeds=0"),
        ({"seeds": 1001}, "where the seeds of tuning begin"),
        ({"claims": (Better("depth=1", than="depth=1"),)}, "compares an arm with itself"),
        ({"claims": (Better("depth=1", than="depth=2", metric="val/wobble"),)}, "val/wobble does not tell"),
        ({"metric": "val/wobble"}, "val/wobble does not tell"),
        ({"claims": (Better("depth=1", than="depth=7"),)}, "is no arm"),
    ],
)
def test_what_is_no_study_is_refused(fields, line):
    with pytest.raises(SpecError, match=line):
        toy.study(**fields)


def test_the_direction_follows_the_metric():
    assert toy.study().lower
    assert not toy.study(metric="val/accuracy").lower
    assert dataclasses.replace(toy.study(), lower_is_better=False).lower is False
