"""Study folders: new, this study's, another's, or no study folder at all."""

import dataclasses

import pytest

from arch.spec import UserError
from experiments.study.work.folder import FILE, claim
from tests.experiments.study import toy
from tests.train import toys
from train.record import folder as run_folder


def test_a_study_goes_on_in_its_folder_though_it_has_grown(tmp_path):
    claim(tmp_path / "new" / "folder", toy.study())
    claim(tmp_path / "new" / "folder", toy.study(seeds=5))
    assert [path.name for path in (tmp_path / "new" / "folder").iterdir()] == [FILE]


def test_what_is_something_else_is_refused_and_stays(tmp_path):
    study = toy.study()
    for name, make, line in [
        ("run", lambda at: run_folder.mark(at, toys.run()), "is the folder of a run"),
        ("other", lambda at: claim(at, dataclasses.replace(study, question="Why?")), "holds the study 'Why.'; give"),
        ("thesis", lambda at: (at.mkdir(), (at / "a.tex").touch()), r"is no study folder, yet not empty \(a.tex\)"),
        ("file", lambda at: at.touch(), "is a file; give a folder for the study"),
        ("torn", lambda at: (at.mkdir(), (at / FILE).write_text("{")), "cannot be read"),
    ]:
        at = tmp_path / name
        make(at)
        before = sorted((path.name, path.read_bytes()) for path in at.glob("*"))
        with pytest.raises(UserError, match=line):
            claim(at, study)
        assert sorted((path.name, path.read_bytes()) for path in at.glob("*")) == before


def test_a_folder_that_a_killed_process_was_about_to_mark(tmp_path):
    (tmp_path / f"{FILE}.123.new").touch()
    claim(tmp_path, toy.study())
