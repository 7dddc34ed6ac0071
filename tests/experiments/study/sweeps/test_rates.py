"""The learning-rate section: every rate of every arm, over one or several tuning seeds."""

import csv
import dataclasses
import io
import math

import pytest
from matplotlib.colors import to_hex

from experiments.study.report.page import every_table, page
from experiments.study.report.rate_plot import sweep
from experiments.study.report.style import look
from experiments.study.results import Arm, Cell, Results
from experiments.study.sweeps.rates import rates, sweeps
from tests.experiments.study import fake

BITS = "val/bits_per_byte"
MEASURED = {  # arm -> rate -> bits per byte over the tuning seeds; NaN: diverged
    "a": {1e-3: (2.0, 2.2), 1e-2: (1.8, 1.9), 1e-1: (3.0, math.nan)},
    "b": {1e-3: (2.5, 2.5), 1e-2: (math.nan, math.nan)},
}


def cell(arm, rate, seed, value):
    status = "diverged" if math.isnan(value) else "finished"
    return Cell(arm, "tune", seed, rate, status, {BITS: value, "test/bits_per_byte": 9.0})


def results(a=1e-2, b=1e-3, measured=MEASURED) -> Results:
    cells = [
        cell(arm, rate, 1000 + seed, value)
        for arm, tried in measured.items()
        for rate, values in tried.items()
        for seed, value in enumerate(values)
    ]
    arms = [Arm("a", {}, a, (1e-3, 1e-2, 1e-1)), Arm("b", {}, b, (1e-3, 1e-2)), Arm("untuned", {}, 1e-3)]
    return Results("rates", "?", "test/bits_per_byte", True, arms, cells, tuned_by=BITS)


def drawn(found):
    """The panel, and its caption."""
    (plot,) = sweep(found)
    (axes,) = plot.figure.axes
    return axes, plot.caption


def lines(axes, arm: int, marker: str):
    """Points of the lines of an arm that have a marker."""
    color = to_hex(look(arm)["color"])
    mine = [line for line in axes.lines if to_hex(line.get_color()) == color and line.get_marker() == marker]
    return [list(zip(map(float, line.get_xdata()), map(float, line.get_ydata()), strict=True)) for line in mine]


def test_the_table_has_the_mean_over_tuning_seeds():
    table = rates(results())
    assert table.columns == ("arm", "learning rate", "validation bits per byte", "tuning seeds", "diverged", "chosen")
    assert table.rows == (
        ("a", 1e-3, pytest.approx(2.1), 2, 0, False),
        ("a", 1e-2, pytest.approx(1.85), 2, 0, True),
        ("a", 1e-1, 3.0, 2, 1, False),
        ("b", 1e-3, 2.5, 2, 0, True),
        ("b", 1e-2, None, 2, 2, False),
    )


def test_a_rate_between_those_tried_has_a_row_and_a_bar():
    found = results(a=4e-3)
    assert [row[1:] for row in rates(found).rows if row[0] == "a" and row[-1]] == [(4e-3, None, 0, 0, True)]
    axes, caption = drawn(found)
    (((x, y),),) = lines(axes, 0, "|")
    share = math.log(4) / math.log(10)
    assert (x, y) == (4e-3, pytest.approx(2.1 + share * (1.85 - 2.1)))
    assert "a bar, one chosen between those tried" in caption
    assert "bar" not in drawn(results())[1]


def test_seeds_are_dots_and_the_line_is_their_mean():
    axes, caption = drawn(results())
    assert [(1e-3, 2.0), (1e-3, 2.2)] in lines(axes, 0, "o")
    assert [(1e-3, pytest.approx(2.1)), (1e-2, pytest.approx(1.85)), (1e-1, 3.0)] in lines(axes, 0, "o")
    assert [(1e-2, pytest.approx(1.85))] in lines(axes, 0, "o"), "the ring"
    assert [point[0] for point in lines(axes, 1, "x")[0]] == [1e-2]
    assert "Each dot is a tuning seed" in caption
    assert "diverged" in caption


def test_one_seed_a_rate():
    axes, caption = drawn(fake.study(depths=(1, 2)))
    assert "tuning seed" not in caption
    assert "diverged" not in caption
    assert len(axes.lines) == 2 * 2, "the line and the ring"


def test_an_arm_that_always_diverged_is_shown():
    found = results(measured={"b": {1e-3: (math.nan,), 1e-2: (math.nan,)}})
    axes, _ = drawn(found)
    assert [point[0] for line in lines(axes, 1, "x") for point in line] == [1e-3, 1e-2]
    assert [one.arm for one in sweeps(found)] == ["b"]


def test_the_page_and_the_files_have_the_table():
    found = results()
    (table,) = (table for table in every_table(found) if table.name == "rates")
    assert len(list(csv.DictReader(io.StringIO(table.csv())))) == 5
    said = page(found, [])
    section = said[said.index('<section id="sweep">') :].partition("</section>")[0]
    assert 'download="rates.csv"' in section
    assert all(f">{word}<" in section for word in ("2.1", "1.85", "0.001", "yes"))


def test_without_a_sweep_there_is_no_section():
    found = dataclasses.replace(fake.study(), cells=[c for c in fake.study().cells if c.phase == "seeds"])
    assert list(sweep(found)) == []
    assert 'id="sweep"' not in page(found, [])
    assert "rates" not in [table.name for table in every_table(found)]
