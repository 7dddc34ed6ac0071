"""Text stays text and numbers stay numbers, through `results.json` and through a folder of cells."""

import dataclasses
import json
import math
from pathlib import Path
from types import SimpleNamespace

import pytest

from arch.spec import UserError
from experiments.study.plain import back, plain
from experiments.study.results import Arm, Cell, Results
from experiments.study.work.cells import Cells, Group
from tests.train import toys

WORDS = ("inf", "nan", "-inf", "NaN", "Infinity", "'inf'", "''nan''", "'-inf", "text")
STORED = sorted((Path(__file__).parents[3] / "experiments" / "results").glob("*/results.json"))


def same(one, other) -> bool:
    """Equal, of equal types, with NaN equal to NaN."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same(value, other[key]) for key, value in one.items())
    if isinstance(one, (list, tuple)) and isinstance(other, (list, tuple)):
        return len(one) == len(other) and all(map(same, one, other))
    numbers = isinstance(one, float) and isinstance(other, float)
    return type(one) is type(other) and (one == other or (numbers and math.isnan(one) and math.isnan(other)))


def results(word: str) -> Results:
    """`word` wherever text may stand, and a number that JSON lacks wherever a number may."""
    metrics = {word: math.nan, "val/loss": math.inf}
    layers = {word: [math.nan, 1.0]}
    cell = Cell(word, "seeds", 0, math.inf, "diverged", metrics, [{"step": 1, word: -math.inf}], layers)
    return Results(
        name=word,
        question=word,
        metric=word,
        lower_is_better=True,
        arms=[Arm(word, {"task": word, "error": math.nan, word: math.inf, "depth": 2}, math.nan, [math.inf, 1e-3])],
        cells=[cell],
        verdicts=[{"claim": word, "estimate": math.nan, "wanted": [-math.inf, math.inf], "n": 3}],
        paper=[{"arm": word, word: word, "published": math.inf}],
        notes=[word],
        provenance={word: {"text": word, "several": [word, math.nan, 1]}},
        tuned_by=word,
    )


@pytest.mark.parametrize("word", WORDS)
def test_results_come_back_as_they_were(word):
    found = results(word)
    read = Results.from_json(found.to_json())
    assert same(dataclasses.asdict(found), dataclasses.asdict(read))
    assert list(read.values(word)) == [0]


@pytest.mark.parametrize("word", WORDS)
def test_a_cell_comes_back_from_its_folder(word, tmp_path):
    (cell,), group = results(word).cells, Group(word, "seeds", toys.run(), ({"seed": 1},))
    cells = Cells(tmp_path)
    cells.finish(group, [cell])
    (read,) = cells.load(group).values()
    assert same(dataclasses.asdict(cell), dataclasses.asdict(read))


def test_numbers_of_older_files_are_read():
    """They had "nan", "inf" and "-inf" for numbers everywhere, and an arm of that name bare."""
    found = results("text")
    old = json.dumps(plain(found), indent=1)
    assert same(dataclasses.asdict(Results.from_json(old)), dataclasses.asdict(found))
    arm = json.loads(old.replace('"text"', '"inf"'))["arms"][0]
    assert back(arm, Arm).name == "inf"
    assert back(arm, Arm).shape["inf"] == math.inf


def test_json_is_strict_and_a_line_holds_a_cell():
    text = results("inf").to_json()
    json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    assert sum('"phase"' in line for line in text.splitlines()) == 1
    assert len(text.splitlines()) < 40


@pytest.mark.parametrize("file", STORED, ids=lambda file: file.parent.name)
def test_committed_results_keep_every_value(file):
    """Fields that were added since may be there as well."""

    def kept(old, new) -> bool:
        if isinstance(old, dict):
            return all(kept(value, new[key]) for key, value in old.items())
        return all(map(kept, old, new)) and len(old) == len(new) if isinstance(old, list) else same(old, new)

    text = file.read_text()
    assert kept(json.loads(text), json.loads(Results.from_json(text).to_json()))


@pytest.mark.parametrize("text", ["[]", "3", '{"name": 1}', '{"arms": {}}', '{"cells": [3]}', "{", '{"other": 1}'])
def test_what_is_no_results_is_refused(text):
    with pytest.raises((TypeError, ValueError)):
        Results.from_json(text)


def test_a_text_in_place_of_a_number_is_refused():
    with pytest.raises(ValueError, match="fast"):
        back(plain(results("a").cells[0]) | {"learning_rate": "fast"}, Cell)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe", b"[" * 20_000, b'{"arm": 3}', b"null"])
def test_a_damaged_cell_is_one_line(tmp_path, content):
    cells = Cells(tmp_path)
    path = tmp_path / "cells" / "a.json"
    path.parent.mkdir()
    path.write_bytes(content)
    group = SimpleNamespace(called=["a"], arm="wide", phase="seeds")
    with pytest.raises(
        UserError, match=r"cells/a\.json: cannot be read \(.*\); remove it, and what it held is"
    ) as told:
        cells.load(group)
    assert "\n" not in str(told.value)
