import io

import pytest

from train.data.bars import bars
from train.data.base import silent


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_a_given_progress_is_used():
    seen = []
    with bars(lambda *report: seen.append(report)) as report:
        report("fetch", 1, 2)
    assert seen == [("fetch", 1, 2)]


def test_without_a_terminal_nothing_is_shown(monkeypatch):
    monkeypatch.setattr("sys.stderr", io.StringIO())
    with bars() as report:
        assert report is silent


@pytest.mark.parametrize("total", [100, None])
def test_a_terminal_shows_bars(monkeypatch, total):
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    with bars() as report:
        report("fetch a package", 50, total)
        report("tokenise", 3, 3)
        report("fetch a package", 100, 100)
    assert "fetch a package" in terminal.getvalue()
    assert "tokenise" in terminal.getvalue()
