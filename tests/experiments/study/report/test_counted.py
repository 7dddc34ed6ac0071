"""Baselines in a study and its report: counted on its data, beside its arms, and said where no arm beats them."""

import dataclasses

import pytest

from experiments.study.baselines import baselines, data_name, lines
from experiments.study.claims.claims import Better
from experiments.study.claims.judge import judge_all
from experiments.study.report import tables
from experiments.study.report.counted import rows, unbeaten
from experiments.study.report.page import page
from tests.experiments.study import fake, toy
from tests.experiments.study.test_judged import shown
from tests.train import toys

COUNTED = (
    {"data": "", "name": "unigram", "bar": False, "values": {fake.METRIC: 4.5}},
    {"data": "", "name": "bigram", "bar": True, "values": {fake.METRIC: 3.5}},
    {"data": "", "name": "trigram", "bar": False, "values": {fake.METRIC: 2.9}},
)


def judged(arms, counted=COUNTED):
    found = fake.results(arms, baselines=counted)
    verdicts = judge_all([Better("a", "b")], found)
    return dataclasses.replace(found, verdicts=[verdict.plain() for verdict in verdicts])


def test_they_stand_below_the_arms():
    found = judged({"a": [3.0, 3.1, 2.9], "b": [3.2, 3.3, 3.1]})
    assert rows(found) == [("unigram", 4.5), ("bigram, the bar", 3.5), ("trigram", 2.9)]
    assert [row[0] for row in tables.finals(found).rows] == ["a", "b", "unigram", "bigram, the bar", "trigram"]
    assert [row[0] for row in tables.summary(found).rows] == ["a", "b", "unigram", "bigram, the bar", "trigram"]
    assert "bigram, the bar" in shown(found)
    assert list(unbeaten(found)) == [], "the trigram is no bar"


def test_no_arm_beats_the_baseline():
    found = judged({"a": [3.6, 3.7, 3.5], "b": [4.2, 4.3, 4.1]})
    (line,) = unbeaten(found)
    assert line == "No arm beats the baseline, bigram with 3.5: nothing is concluded of their shape."
    assert line in shown(found)
    assert line in page(found, [])
    assert found.verdicts[0]["verdict"] == "undecided"


def test_the_bar_is_the_best_of_what_is_no_better_than_it():
    """Naive Bayes is overconfident: its loss may be behind the majority's, which then has to be beaten."""
    counted = (
        {"data": "", "name": "majority", "bar": False, "values": {fake.METRIC: 1.4}},
        {"data": "", "name": "naive Bayes", "bar": True, "values": {fake.METRIC: 1.8}},
        {"data": "", "name": "naive Bayes on pairs", "bar": False, "values": {fake.METRIC: 1.1}},
    )
    (line,) = unbeaten(judged({"a": [1.6, 1.7, 1.5], "b": [1.62, 1.72, 1.5]}, counted))
    assert "majority with 1.4" in line


def test_a_study_counts_on_the_split_that_it_is_judged_on():
    study = toy.study()
    found = baselines(study)
    run = study.arms["depth=1"]
    assert [row["name"] for row in found] == ["unigram", "bigram", "trigram"]
    assert {row["data"] for row in found} == {data_name(run)}
    direct = run.objective.baselines(run.data.build(), "validation")
    assert found[1]["values"]["val/bits_per_byte"] == pytest.approx(direct[1].values["bits_per_byte"])
    (line,) = lines(found, "val/bits_per_byte")
    assert "(the bar)" in line
    tested = {name: dataclasses.replace(run, data=toys.Toy(test=9)) for name, run in study.arms.items()}
    assert set(baselines(toy.study(arms=tested))[0]["values"]) == {"test/loss", "test/bits_per_byte"}
