"""Progress: plain lines in a log, a bar in a terminal."""

import io

import pytest
from rich.console import Console

from train.record.progress import Progress, duration


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def log_of(steps, *, every=10.0, start=0, **values):
    """What a log shows of a run with one step a second."""
    console, clock = Console(file=io.StringIO(), width=20), Clock()
    with Progress(steps, start=start, every=every, console=console, clock=clock) as progress:
        for step in range(start + 1, steps + 1):
            clock.now += 1.0
            progress.update(step, loss=3.0 - step / steps, **values)
    return console.file.getvalue()


def test_plain_lines_at_most_every_so_often_and_at_the_end():
    lines = log_of(25, tokens_per_second=51234.5, mfu=0.4124).splitlines()
    assert lines == [
        "step 1/25  loss 2.9600  51,234 tokens/s  MFU 41.2%",
        "step 11/25  loss 2.5600  51,234 tokens/s  MFU 41.2%  0:14 left",
        "step 21/25  loss 2.1600  51,234 tokens/s  MFU 41.2%  0:04 left",
        "step 25/25  loss 2.0000  51,234 tokens/s  MFU 41.2%  0:00 left",
    ]


def test_an_unknown_mfu_is_not_shown():
    text = log_of(3, tokens_per_second=10.0, mfu=None)
    assert "MFU" not in text
    assert "10 tokens/s" in text


def test_the_time_left_is_judged_by_this_sessions_steps():
    """A resumed run has made no steps in no time."""
    assert "step 1,012/1,020  loss 2.0078  0:08 left" in log_of(1020, start=1000, every=1.0)


def test_notes_are_lines_of_their_own_whatever_they_hold():
    console = Console(file=io.StringIO(), width=20)
    with Progress(5, console=console) as progress:
        progress.note("step 2: val/loss 1.5 [better] " + "x" * 40)
    assert console.file.getvalue() == "step 2: val/loss 1.5 [better] " + "x" * 40 + "\n"


def test_a_terminal_gets_a_bar():
    console = Console(file=io.StringIO(), width=100, force_terminal=True, color_system=None)
    clock = Clock()
    with Progress(10, console=console, clock=clock) as progress:
        for step in (1, 5):
            clock.now = float(step)
            progress.update(step, loss=1.25, tokens_per_second=1000.0, mfu=0.5)
        progress.note("evaluated")
    text = console.file.getvalue()
    assert "━" in text
    assert "step 5/10  loss 1.2500  1,000 tokens/s  MFU 50.0%  0:05 left" in text
    assert "evaluated" in text


def test_a_process_that_is_not_the_first_shows_nothing():
    console = Console(file=io.StringIO())
    with Progress(1, console=console, enabled=False) as progress:
        progress.update(1, loss=1.0)
        progress.note("evaluated")
    assert console.file.getvalue() == ""


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0:00"), (59.6, "1:00"), (754, "12:34"), (3723, "1:02:03"), (3600 * 24 * 3 + 5, "3d 0:00:05")],
)
def test_duration(seconds, text):
    assert duration(seconds) == text
