"""Run folders: new, this run's, another's, or no run folder at all."""

import dataclasses
import json

import pytest

from arch.spec import UserError
from tests.train import toys
from train import folder
from train.mesh import Mesh
from train.optim import AdamW, Constant
from train.run import Reports


@pytest.fixture
def marked(tmp_path):
    folder.mark(tmp_path / "run", toys.run())
    return tmp_path / "run"


def test_a_new_folder_and_an_empty_one(tmp_path):
    assert folder.check(tmp_path / "a" / "b", toys.run()) is False
    assert list(tmp_path.iterdir()) == [], "checking makes nothing"
    assert folder.check(tmp_path, toys.run()) is False


def test_the_same_run(marked):
    assert folder.check(marked, toys.run()) is True
    fields = json.loads((marked / "run.json").read_text())["fields"]
    assert fields["model.depth"] == "3"


def test_what_may_change(marked):
    changed = dataclasses.replace(toys.run(), reports=Reports(log=7, keep=9, prompt="x"), mesh=Mesh())
    assert folder.check(marked, changed) is True


def test_other_configurations_are_refused_with_each_difference(marked):
    before = sorted((path.name, path.read_bytes()) for path in marked.iterdir())
    other = toys.run(
        model=toys.model(dropout=0.1, depth=4), steps=7, optimizer=AdamW(learning_rate=0.02, schedule=Constant())
    )
    with pytest.raises(UserError) as error:
        folder.check(marked, other)
    assert str(error.value).splitlines()[1:] == [
        "  model.depth: 3 -> 4",
        "  optimizer.learning_rate: 0.01 -> 0.02",
        "  steps: 6 -> 7",
    ]
    assert sorted((path.name, path.read_bytes()) for path in marked.iterdir()) == before


def test_something_else(tmp_path):
    (tmp_path / "thesis.tex").write_text("")
    with pytest.raises(UserError, match=r"is no run folder, yet not empty \(thesis.tex\)"):
        folder.check(tmp_path, toys.run())
    with pytest.raises(UserError, match="is a file"):
        folder.check(tmp_path / "thesis.tex", toys.run())
    with pytest.raises(UserError, match=r"thesis\.tex is a file, so no folder"):
        folder.check(tmp_path / "thesis.tex" / "run", toys.run())


@pytest.mark.parametrize("text", ["", "[]", '{"format": 1}'])
def test_a_torn_mark(marked, text):
    (marked / "run.json").write_text(text)
    with pytest.raises(UserError, match=r"run\.json: cannot be read"):
        folder.check(marked, toys.run())


def test_a_folder_that_may_not_be_written(tmp_path, monkeypatch):
    monkeypatch.setattr("os.access", lambda path, mode: False)
    with pytest.raises(UserError, match=f"you may not write to {tmp_path}"):
        folder.check(tmp_path / "run", toys.run())


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be written: Not a directory"):
        folder.mark(tmp_path / "file" / "run", toys.run())
