"""Matrices and pictures of scores: kept in the results, a table of means, and drawn for every arm."""

import dataclasses

import numpy as np

from experiments.study.report.exhibited import ACROSS, exhibited, matrices
from experiments.study.report.page import every_table
from experiments.study.report.report import write_report
from experiments.study.report.style import style
from experiments.study.results import Results
from experiments.suites.exhibits import Matrix, Pictures
from tests.experiments.study import fake

VALUES = np.arange(12.0).reshape(2, 2, 3) / 12


def results():
    found = fake.results({"a": [1.0, 2.0], "b": [3.0, float("nan")]})
    pictures = [Pictures("prototypes", list("uvwxyz"), np.full((6, 2, 3), 0.5).tolist(), "What they are.")]
    cells = []
    for cell in found.cells:
        shown = [Matrix("accuracy", ["p", "q"], ["x", "y", "z"], VALUES[cell.seed].tolist(), "down", "across")]
        cells.append(dataclasses.replace(cell, matrices=shown, pictures=pictures if cell.arm == "a" else ()))
    return dataclasses.replace(found, cells=cells)


def test_they_are_kept_in_the_file():
    kept = Results.from_json(results().to_json())
    assert kept.cells[0].matrices == results().cells[0].matrices
    assert kept.cells[0].pictures == results().cells[0].pictures


def test_the_table_has_the_mean_over_seeds_that_finished():
    table = matrices(results())
    assert len(table.rows) == 12
    found = {row[:4]: row[4:] for row in table.rows}
    assert found["a", "accuracy", "q", "y"] == (VALUES[:, 1, 1].mean(), 2)
    assert found["b", "accuracy", "q", "y"] == (VALUES[0, 1, 1], 1)
    assert "matrices" in [one.name for one in every_table(results())]
    assert "matrices" not in [one.name for one in every_table(fake.results({"a": [1.0]}))]


def test_every_arm_has_its_plots(tmp_path):
    with style():
        plots = {plot.title: plot for plot in exhibited(results())}
    assert list(plots) == ["Accuracy: a", "Prototypes: a", "Accuracy: b"]
    heat, sheet = (plots[title].figure.axes[0] for title in ("Accuracy: a", "Prototypes: a"))
    np.testing.assert_allclose(heat.images[0].get_array(), VALUES.mean(axis=0))
    drawn = np.asarray(sheet.images[0].get_array().filled(np.nan))
    assert drawn.shape == (2 * (2 + 2), ACROSS * 4 - 1)
    assert np.sum(drawn == 0.5) == 6 * 2 * 3
    assert [text.get_text() for text in sheet.texts] == list("uvwxyz")
    page = write_report(results(), tmp_path).read_text()
    assert all(words in page for words in ("What the scores show", "Prototypes: a", "matrices.csv"))
