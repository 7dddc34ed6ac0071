"""Scores of a suite in a report: means over seeds, and below them what stands for no learning."""

import math

from experiments.study.report.page import every_table, page
from experiments.study.report.scores import scores
from tests.experiments.study import fake


def test_arms_by_score_and_baselines_below():
    """Each score is a column; a seed that diverged counts in none; arms on the same rows share a baseline."""
    arms = {
        "a": {fake.METRIC: [3.0, 3.1], "suite/x_bleu": [10.0, 14.0], "suite/x_gleu_score": [0.2, 0.4]},
        "b": {fake.METRIC: [3.2, math.nan], "suite/x_bleu": [8.0, math.nan], "suite/x_gleu_score": [0.1, 0.5]},
    }
    copying = {"name": "copying", "bar": False, "values": {"suite/x_bleu": 3.0, "suite/x_gleu_score": 0.05}}
    counted = ({"data": "", "name": "bigram", "bar": True, "values": {fake.METRIC: 3.5}},
               {"data": "1", **copying}, {"data": "2", **copying})  # fmt: skip
    found = fake.results(arms, baselines=counted)
    table = scores(found)
    assert table.columns == ("arm", "x bleu", "x gleu score")
    assert [row[0] for row in table.rows] == ["a", "b", "copying"]
    assert [row[1] for row in table.rows] == [12.0, 8.0, 3.0]
    assert math.isclose(table.rows[0][2], 0.3)
    assert table.rows[1][2] == 0.1
    assert "scores" in [one.name for one in every_table(found)]
    assert 'id="scores"' in page(found, [])


def test_without_a_suite_there_is_no_such_table():
    found = fake.results({"a": [3.0], "b": [3.2]})
    assert not scores(found).rows
    assert 'id="scores"' not in page(found, [])
