"""Tables as CSV: what a spreadsheet opens is what was written, and nothing that it would run."""

import csv
import io

import pytest

from experiments.study.report.table import Table

FORMULAS = ("=1+2", "=cmd|'/c calc'!A1", "@SUM(A1)", "+1+cmd", "-2+3+cmd", "\t=1", "-width", "+x")
PLAIN = ("depth=12", "-", "=", "-0.5", "+3", "-1e-3", "-inf", "", "a@b", "width-2")


def written(value):
    (_, row) = csv.reader(io.StringIO(Table("t", ("a",), ((value,),)).csv(), newline=""))
    return row[0] if row else ""


@pytest.mark.parametrize("text", FORMULAS)
def test_text_that_would_be_calculated_is_not(text):
    assert written(text) == "'" + text
    (head, _) = csv.reader(io.StringIO(Table("t", (text,), ((1,),)).csv(), newline=""))
    assert head == ["'" + text]


@pytest.mark.parametrize("text", PLAIN)
def test_other_text_is_as_it_was(text):
    assert written(text) == text


@pytest.mark.parametrize("number", [-1, -0.25, 3, float("-inf"), 1e-300])
def test_numbers_are_as_they_were(number):
    assert float(written(number)) == number
