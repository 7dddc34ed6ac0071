"""The files of a run folder, and the tree for the terminal."""

import io

import pytest
from rich.console import Console

from arch.spec import UserError
from experiments.config import render
from tests.experiments.config.toys import LayerNorm, Model, RMSNorm, Run


def test_a_run_folder_holds_the_configuration_and_what_was_changed(tmp_path):
    old, new = Run(), Run(model=Model(norm=LayerNorm(eps=0.5)), steps=20)
    folder = tmp_path / "runs" / "a"
    render.write(folder, new, old, "experiments/x.py:tiny")
    assert render.read(folder) == new
    assert "model.norm = LayerNorm\nmodel.norm.eps = 0.5\n" in (folder / "config.txt").read_text()
    assert (folder / "config.diff.txt").read_text().splitlines() == [
        "# experiments/x.py:tiny",
        "model.norm: RMSNorm -> LayerNorm",
        "model.norm.eps: 1e-06 -> 0.5",
        "steps: 10 -> 20",
        "model.norm.bias: (absent) -> True",
    ]
    render.write(folder, new)
    assert (folder / "config.diff.txt").read_text() == ""


def test_changes_since_a_run_was_begun(tmp_path):
    assert render.changes(tmp_path, Run()) == []
    render.write(tmp_path, Run(name="a\nb"))
    assert render.changes(tmp_path, Run(name="a\nb")) == []
    assert render.changes(tmp_path, Run(steps=3, name="c")) == ["steps: 10 -> 3", "name: a\nb -> c"]


def test_a_folder_without_a_configuration(tmp_path):
    with pytest.raises(UserError, match=r"holds no config\.json; is it a run folder\?$"):
        render.read(tmp_path)


def test_pretty_shows_every_value_and_marks_what_changed():
    old, new = Run(), Run(model=Model(norm=LayerNorm(eps=0.5)), steps=20, name="[red]x[/]", arms={"one": RMSNorm(1.0)})
    out = io.StringIO()
    Console(file=out, width=100).print(render.pretty(new, old))
    lines = [line.strip("│├└─ \n") for line in out.getvalue().splitlines()]
    assert lines[:4] == ["Run", "model Model", "width = 64", "depth = 2"]
    marked = [line for line in lines if "(was" in line or "(new)" in line]
    assert marked == [
        "norm LayerNorm (was 'RMSNorm')", "eps = 0.5 (was 1e-06)", "bias = True (new)", "steps = 20 (was 10)",
        "name = '[red]x[/]' (was 'run')", "eps = 1.0 (was 1e-06)",
    ]  # fmt: skip
    out.truncate(0)
    Console(file=out, width=100).print(render.pretty(new))
    assert "(was" not in out.getvalue()
    assert "(new)" not in out.getvalue()
