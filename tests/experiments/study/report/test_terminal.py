"""The summary in a terminal: no wider than it, and no number cut."""

import dataclasses
import io
from pathlib import Path

import pytest
from rich.console import Console

from experiments.study.report import tables
from experiments.study.report.report import terminal_table
from experiments.study.report.table import short
from experiments.study.results import Results
from tests.experiments.study import fake

STORED = sorted((Path(__file__).parents[4] / "experiments" / "results").glob("*/results.json"))


def test_terminal_table(results):
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(terminal_table(results))
    said = console.export_text()
    for row in tables.summary(results).rows:
        assert all(short(value) in said for value in row)
    assert max(map(len, said.splitlines())) <= 80
    for fields in results.verdicts:
        role = "" if fields["role"] == "secondary" else f", {fields['role']}"
        assert f"\n{fields['verdict']}{role}: {fields['claim'][:20]}" in said


def seen(found: Results, width: int = 80) -> list[str]:
    """The summary in a terminal."""
    console = Console(width=width, record=True, file=io.StringIO())
    columns = tables.summary(found).columns
    console.print(tables.summary(found).rich(whole=[columns.index("95% interval")]))
    return console.export_text().splitlines()


def test_columns_that_say_the_same_are_left_out_of_the_summary():
    """An arm has many counts of one thing; the table of the arms has all of them."""
    found = fake.study()
    shape = lambda arm: {"hidden": 9 * arm.shape["depth"], "body": arm.shape["parameters"] - 99, "same": 3} | arm.shape  # noqa: E731
    more = [dataclasses.replace(arm, shape={**shape(arm), "again": arm.shape["width"]}) for arm in found.arms]
    said = tables.summary(dataclasses.replace(found, arms=more))
    assert said.columns[:4] == ("arm", "parameters without embeddings and head", "depth", "width")
    assert not {"parameters", "hidden", "again", "same"} & set(said.columns)
    assert "parameters" in tables.summary(found).columns


@pytest.mark.parametrize("file", STORED, ids=lambda file: file.parent.name)
def test_tables_of_real_studies_fit_a_terminal(file):
    found = Results.from_json(file.read_text())
    body = [dataclasses.replace(arm, shape={"body": arm.shape["parameters"] - 99, **arm.shape}) for arm in found.arms]
    for one in (found, dataclasses.replace(found, arms=body)):
        said = seen(one)
        assert max(map(len, said)) <= 80
        assert "parameters without embeddings" not in tables.summary(one).columns
        assert "…" not in "".join(said)
        numbers = [short(value) for row in tables.summary(one).rows for value in row[1:]]
        assert all(number in "\n".join(said) for number in numbers)


def test_names_fold_where_it_is_narrow_and_numbers_do_not():
    found = fake.study()
    said = seen(found, width=56)
    assert max(map(len, said)) <= 56
    numbers = [short(value) for row in tables.summary(found).rows for value in row[1:]]
    assert all(number in "\n".join(said) for number in numbers)


def test_a_long_name_folds_and_no_number_is_cut():
    found = fake.results({"an arm of many words " * 5: [1.25, 1.75], "b" * 90: [2.25, 2.75]})
    said = seen(found)
    assert max(map(len, said)) <= 80
    assert "…" not in "".join(said)
    assert all(number in "".join(said) for number in ("1.5", "2.5", tables.summary(found).rows[0][-1]))
