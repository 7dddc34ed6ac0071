"""The verb `report`: from a folder with `results.json` to its page, and one line for anything else."""

import json
from pathlib import Path

import pytest

from arch.spec import UserError
from experiments.study.report.report import write_report
from experiments.study.report.stored import report
from tests.experiments.study import fake

STORED = Path(__file__).parents[4] / "experiments" / "results"


def files(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def study(tmp_path):
    folder = tmp_path / "study"
    folder.mkdir()
    (folder / "results.json").write_text(fake.study(depths=(1, 2)).to_json())
    return folder


def test_the_page_is_that_of_the_study(study, tmp_path, capsys):
    write_report(fake.study(depths=(1, 2)), tmp_path / "wanted")
    before = files(study)
    report([str(study)], str(tmp_path / "out" / "deep"))
    assert files(tmp_path / "out" / "deep") == files(tmp_path / "wanted")
    assert files(study) == before
    said = capsys.readouterr().out
    assert "depth 2" in said
    assert f"report  {tmp_path / 'out' / 'deep' / 'report.html'}" in said


def test_without_out_it_goes_into_the_folder(study):
    before = files(study)
    report([f"{study}/"])
    after = files(study)
    assert before.items() <= after.items()
    assert {"report.html", "plots/results.svg", "tables/cells.csv"} <= after.keys()


def test_several_get_a_folder_each(study, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    (other / "results.json").write_text(fake.results({"a": [1.0, 2.0]}).to_json())
    report([str(study), str(other)], str(tmp_path / "out"))
    assert "depth 2" in (tmp_path / "out" / "study" / "report.html").read_text()
    assert "depth 2" not in (tmp_path / "out" / "other" / "report.html").read_text()
    twin = tmp_path / "deeper" / "study"
    twin.mkdir(parents=True)
    (twin / "results.json").write_bytes((study / "results.json").read_bytes())
    with pytest.raises(UserError, match=r"two of the folders are named study"):
        report([str(study), str(twin)], str(tmp_path / "out"))


@pytest.mark.parametrize(
    ("name", "content", "line"),
    [
        (None, None, r"no such folder; report takes the folder of a study, which has a results.json"),
        ("other.txt", "", r"has no results.json; report takes the folder of a study"),
        ("run.json", "{}", r"holds a run, not a study; python launch.py compare"),
        ("study.json", "{}", r"this study has no results.json yet; train it to its end first"),
        ("results.json", "{", r"cannot be read as the results of a study \(Expecting property name.*\); restore it"),
        ("results.json", "[1]", r"cannot be read as the results of a study \(list in place of a dict\)"),
        ("results.json", '{"name": "a"}', r"cannot be read as the results of a study .*question"),
        ("results.json", b"\xff\xfe", r"cannot be read as the results of a study .*decode"),
        ("results.json", "[" * 100_000, r"cannot be read as the results of a study .*recursion"),
    ],
)
def test_what_is_no_study_is_one_line(tmp_path, name, content, line):
    folder = tmp_path / "folder"
    if name is not None:
        folder.mkdir()
        (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(UserError, match=line) as caught:
        report([str(folder)])
    assert str(caught.value).startswith(str(folder))
    assert "\n" not in str(caught.value)


def test_all_that_is_wrong_is_told_before_anything_is_written(study, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError) as caught:
        report([str(study), str(tmp_path / "no"), str(tmp_path / "file")])
    assert [line.partition(":")[0] for line in str(caught.value).splitlines()] == [
        str(tmp_path / "no"), str(tmp_path / "file")
    ]  # fmt: skip
    assert [path.name for path in study.iterdir()] == ["results.json"]
    with pytest.raises(UserError, match=r"file: cannot be written: .*; give another --out"):
        report([str(study)], str(tmp_path / "file"))


def test_what_is_committed_is_small_and_has_no_page():
    for folder in (path for path in STORED.iterdir() if path.is_dir()):
        json.loads((folder / "results.json").read_text())
        plots = list((folder / "plots").glob("*.svg"))
        assert plots
        assert sum(path.stat().st_size for path in plots) < 300_000, folder
