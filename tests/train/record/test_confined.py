"""What is written in a folder stays in it: links that lead out of it, at any depth, are refused in one line."""

import json

import pytest

from arch.spec import UserError
from experiments.codes.command import show
from experiments.study.report.report import WRITTEN, write_kept, write_report
from experiments.study.results import Results
from experiments.study.study import Study
from experiments.study.work import folder as study_folder
from experiments.study.work.cells import Cells
from tests.train import toys
from train import loop
from train.record import folder as run_folder
from train.record.confined import confined


@pytest.fixture
def outside(tmp_path):
    """A folder that nothing may be written to, moved into or cleared."""
    folder = tmp_path / "outside"
    (folder / "3").mkdir(parents=True)
    (folder / "3" / "kept.txt").write_text("mine")
    yield folder
    assert [str(path.relative_to(folder)) for path in sorted(folder.rglob("*"))] == ["3", "3/kept.txt"]


@pytest.fixture
def sent(tmp_path):
    folder = tmp_path / "sent"
    folder.mkdir()
    return folder


LINKS = ("checkpoints", "damaged", "metrics.jsonl", "run.json.lock", "run.json.new", "config.txt", "tensorboard",
         "checkpoints/3", "groups/0123/checkpoints", "cells", "cells/01.23.json")  # fmt: skip


def link(folder, name, outside):
    at = folder / name
    at.parent.mkdir(parents=True, exist_ok=True)
    at.symlink_to(outside / "new.json" if "." in at.name else outside)


@pytest.mark.parametrize("name", LINKS)
def test_nothing_is_trained_through_a_link(sent, outside, name):
    link(sent, name, outside)
    (sent / run_folder.FILE).write_text("{}")
    with pytest.raises(UserError, match=f"{name}: is a link to {outside}.*not in {sent}"):
        loop.train(toys.run(), sent)


@pytest.mark.parametrize("name", [*WRITTEN, "tables/arms.csv"])
def test_no_report_is_written_through_a_link(sent, outside, name):
    link(sent, name, outside)
    empty = Results("a", "?", "val/loss", True, (), ())
    for written in (write_report, write_kept):
        with pytest.raises(UserError, match="is a link"):
            written(empty, sent)


def test_nor_are_codes(sent, outside):
    link(sent, "codes.html", outside)
    with pytest.raises(UserError, match=r"codes\.html: is a link"):
        show(None, str(sent), sent)


def test_codes_that_cannot_be_written_are_not_gathered(sent, monkeypatch):
    monkeypatch.setattr("os.access", lambda path, mode, **more: False)
    (sent / "file").write_text("")
    for out in (sent, sent / "new", sent / "file"):
        with pytest.raises(UserError, match=r"codes\.html cannot be written; give another --out"):
            show(None, str(sent), out)


def test_nor_a_study(sent, outside):
    link(sent, "cells", outside)
    (sent / study_folder.FILE).write_text("{}")
    study = Study(question="?", arms={"a": toys.run()}, claims=())
    with pytest.raises(UserError, match="is a link"):
        study_folder.claim(sent, study)


@pytest.mark.parametrize(
    "key", ["../../escaped", "/tmp/escaped", "a/../../b", "..", ".", "", "a.b.c", "a\n", "a.b\0", "x" * 300]
)
def test_no_cell_is_outside(sent, key):
    """Neither is it looked for: not even whether it is there."""
    group = sent / "groups" / "0123" / "group.json"
    group.parent.mkdir(parents=True)
    group.write_text(json.dumps({"01ab.23cd": {}, key: {"arm": "x"}}))
    before = sorted(sent.parent.rglob("*"))
    for act in (Cells(sent).settle, lambda: Cells(sent).place(key)):
        with pytest.raises(UserError, match="is no name of a cell") as caught:
            act()
        assert str(caught.value).isprintable()
    assert sorted(sent.parent.rglob("*")) == before


@pytest.mark.parametrize("text", ["{", "[]", "3", '{"01ab": 3}', "[" * 100_000])
def test_a_group_that_cannot_be_read_is_one_line(sent, text):
    group = sent / "groups" / "0123" / "group.json"
    group.parent.mkdir(parents=True)
    group.write_text(text)
    with pytest.raises(UserError, match=r"group\.json: cannot be read") as caught:
        Cells(sent).settle()
    assert "\n" not in str(caught.value)


def test_links_that_stay_inside_and_a_folder_that_is_one_are_fine(sent, tmp_path):
    (sent / "a").mkdir()
    (sent / "b").symlink_to("a")
    (tmp_path / "elsewhere").symlink_to(sent)
    confined(sent)
    confined(tmp_path / "elsewhere")
    confined(tmp_path / "none")
    confined("gs://bucket/run")
    (sent / "c").symlink_to(tmp_path)  # above it
    with pytest.raises(UserError, match="c: is a link"):
        confined(tmp_path / "elsewhere")
    confined(sent, "a", "b")
    (tmp_path / "sent2").mkdir()  # whose name begins the same
    (sent / "c").unlink()
    (sent / "a" / "d").symlink_to(tmp_path / "sent2")
    with pytest.raises(UserError, match="a/d: is a link"):
        confined(sent, "a")
