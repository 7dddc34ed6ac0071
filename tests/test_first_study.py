"""The tutorial, docs/first_study.md: its file, and every command of it in order, with few steps."""

import re
import shlex
from pathlib import Path

import pytest

from tests.launching import launched

PAGE = (Path(__file__).resolve().parents[1] / "docs" / "first_study.md").read_text()
COMMANDS = re.findall(r"^python launch\.py (.*)$", PAGE, re.MULTILINE)
SMALL = (("else 160", "else 4"), ("WikiLeads()", "WikiLeads(validation=0.002, test=0.002)"))


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder of one's own with the file of the tutorial, of few steps, evaluated on little."""
    (text,) = re.findall(r"^```python\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
    for written, small in SMALL:
        assert text.count(written) == 1
        text = text.replace(written, small)
    (tmp_path / "no_norms.py").write_text(text)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_command_on_each_line_of_the_blocks():
    lines = "".join(re.findall(r"^```sh\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)).splitlines()
    assert len(COMMANDS) == len(lines) == 6


@pytest.mark.parametrize(
    ("change", "words", "said"),
    [
        (("prompt=", "promt="), ["--config=no_norms.py"], "unexpected keyword argument 'promt'; did you mean prompt?"),
        (("", ""), ["--config=no_norms.py", "--config.arms.tanh.batch=0"], "arms.tanh.batch=0: must be at least 1"),
    ],
)
def test_a_mistake_is_one_line(change, words, said, here, capsys):
    file = here / "no_norms.py"
    file.write_text(file.read_text().replace(*change))
    assert launched("inspect", *words) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert said in line


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_every_command_in_order(here, capsys):
    said = {}
    for command in COMMANDS:
        assert launched(*shlex.split(command)) in (0, None), f"{command}: {capsys.readouterr().err}"
        said[command] = capsys.readouterr().out
    assert all("tanh" in said[command] for command in COMMANDS if command.startswith(("inspect", "train")))
    assert (here / "runs" / "no_norms" / "report.html").exists()
    more = (here / "runs" / "more" / "results.json").read_text()
    assert more.count('"seed": 4') >= 2
    assert (here / "exported" / "rms_norm" / "config.json").exists()
