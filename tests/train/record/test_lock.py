"""The lock on a run folder: one holder, whoever comes at the same time; a dead one's is taken over."""

import contextlib
import json
import os
import re
import signal
import subprocess
import threading
import time

import pytest

from arch.spec import UserError
from tests.train import children, toys
from train import loop
from train.record import lock
from train.record.lock import FILE, Lock, LockedError, alive
from train.record.process import born, host, place

CHILD = "tests.train.child_lock"


def held(folder) -> dict:
    return json.loads((folder / FILE).read_text())


def write(folder, **fields) -> None:
    """A lock as another process left it."""
    mine = {"host": host(), "pid": os.getpid(), "place": place(), "born": born(os.getpid()), "started": time.time()}
    folder.mkdir(exist_ok=True)
    (folder / FILE).write_text(json.dumps({**mine, "token": "theirs", "beat": time.time(), **fields}))


def test_held_refused_and_released(tmp_path):
    folder, notes = tmp_path / "a" / "run", []
    with Lock(folder, notes.append) as first:
        assert held(folder)["pid"] == os.getpid()
        with pytest.raises(LockedError) as error, Lock(folder):
            pytest.fail("held twice")
        line = (
            f"{folder}: process {os.getpid()} on {host()}, started .*, is training here; wait for it, or give another"
        )
        assert re.fullmatch(line + " folder", str(error.value))
        first.confirm()
    assert not folder.exists(), "it was made for the lock and has stayed empty"
    with Lock(folder, notes.append):
        (folder / "metrics.jsonl").write_text("")
    assert [path.name for path in folder.iterdir()] == ["metrics.jsonl"]
    assert notes == []


def test_released_on_an_error(tmp_path):
    for error in (ValueError, KeyboardInterrupt, SystemExit):
        with pytest.raises(error), Lock(tmp_path):
            raise error
        assert not (tmp_path / FILE).exists()


def test_a_second_process_is_refused_and_sigkill_leaves_nothing_that_blocks(tmp_path):
    child = children.start(CHILD, 60, tmp_path)
    try:
        assert child.stdout.readline() == f"held {tmp_path}\n"
        with pytest.raises(LockedError, match=f"process {child.pid} on {host()}, started .*, is training here"):
            Lock(tmp_path).__enter__()
        assert held(tmp_path)["pid"] == child.pid
    finally:
        child.send_signal(signal.SIGKILL)
        children.finish(child)
    notes: list[str] = []
    with Lock(tmp_path, notes.append):
        assert held(tmp_path)["pid"] == os.getpid()
    (note,) = notes
    assert note.startswith(f"{tmp_path}: process {child.pid} on {host()}, started ")
    assert note.endswith("trained here and is gone; its lock is taken over")


def test_of_several_that_start_at_once_one_gets_it(tmp_path):
    """Fresh, and again when there is a dead one's lock to be taken over."""
    folders, starts = [tmp_path / "fresh", tmp_path / "dead"], [tmp_path / "start 0", tmp_path / "start 1"]
    write(folders[1], born="0")
    words = [str(path) for both in zip(folders, starts, strict=True) for path in both]
    several = [children.start(CHILD, "1.5", *words) for _ in range(3)]
    said = [""] * len(several)
    for start in starts:
        for index, child in enumerate(several):
            said[index] += "".join(iter(child.stdout.readline, "ready\n"))
        start.write_text("")
    said = [before + children.finish(child).stdout for before, child in zip(said, several, strict=True)]
    for folder in folders:
        mine = [[line for line in one.splitlines() if str(folder) in line] for one in said]
        (winner,) = [index for index, lines in enumerate(mine) if f"held {folder}" in lines]
        refused = [lines for index, lines in enumerate(mine) if index != winner]
        assert all(f"process {several[winner].pid} on" in lines[-1] for lines in refused), mine
    assert sum(one.count("is taken over") for one in said) == 1


def test_of_many_threads_one_gets_it_each_time(tmp_path, monkeypatch):
    """The section in which the lock is looked up and taken, with time in it for others to come between."""
    inside, most, taken, read = [], [], [], Lock._read

    def slowly(self):
        found = read(self)
        time.sleep(0.002)
        return found

    def take() -> None:
        for _ in range(10):
            with contextlib.suppress(LockedError), Lock(tmp_path, lambda line: None):
                inside.append(1)
                time.sleep(0.001)
                most.append(len(inside))
                taken.append(1)
                inside.pop()

    monkeypatch.setattr(Lock, "_read", slowly)
    threads = [threading.Thread(target=take) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert max(most) == 1
    assert len(taken) > 1
    assert not (tmp_path / FILE).exists()


@pytest.mark.parametrize(
    ("fields", "there"),
    [
        ({}, True),
        ({"born": "1"}, False),  # another process of that number
        ({"pid": 2**22 + 1}, False),
        ({"place": "elsewhere"}, True),
        ({"place": "elsewhere", "age": lock.STALE + 1}, False),
        ({"place": "elsewhere", "age": lock.STALE - 30}, True),
        ({"beat": 0}, True),  # here, where the process can be seen
    ],
)
def test_who_is_alive(tmp_path, fields, there):
    if "age" in fields:
        fields = {"place": fields["place"], "beat": time.time() - fields["age"]}
    write(tmp_path, **fields)
    assert alive(held(tmp_path)) is there
    if there:
        with pytest.raises(LockedError), Lock(tmp_path):
            pass
        assert held(tmp_path)["token"] == "theirs"
    else:
        notes: list[str] = []
        with Lock(tmp_path, notes.append):
            assert held(tmp_path)["token"] != "theirs"
        assert len(notes) == 1


def test_a_process_that_is_no_more_than_its_exit_status_is_dead():
    with subprocess.Popen(["true"]) as child:
        deadline = time.time() + 10
        while born(child.pid) and time.time() < deadline:
            time.sleep(0.01)
        assert born(child.pid) == "", "it has ended, and nobody has asked for its exit status"
    assert born(os.getpid()) == born(os.getpid()) != ""


@pytest.mark.parametrize("text", ["", "{", "[]", '{"pid": 3'])
def test_a_lock_that_was_never_written_whole_does_not_block(tmp_path, text):
    (tmp_path / FILE).write_text(text)
    with Lock(tmp_path, lambda line: None):
        assert held(tmp_path)["pid"] == os.getpid()


def test_the_heart_beats(tmp_path, monkeypatch):
    monkeypatch.setattr(lock, "BEAT", 0.02)
    with Lock(tmp_path) as mine:
        first = held(tmp_path)["beat"]
        deadline = time.time() + 5
        while held(tmp_path)["beat"] == first and time.time() < deadline:
            time.sleep(0.01)
        assert held(tmp_path)["beat"] > first
        (tmp_path / FILE).unlink()  # by someone who thought it a leftover
        mine.confirm()
        assert held(tmp_path)["pid"] == os.getpid()


def test_one_that_was_taken_over_writes_no_more(tmp_path):
    with Lock(tmp_path) as mine:
        write(tmp_path, pid=7, host="other", place="elsewhere")
        with pytest.raises(
            LockedError, match=r"was taken over by process 7 on other, started .*, while this process did"
        ):
            mine.confirm()
    assert held(tmp_path)["pid"] == 7, "and leaves the other's lock where it is"


def test_without_flock_each_looks_again(tmp_path, monkeypatch):
    """The last one to write its claim has it."""

    def none(*_):
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr("fcntl.flock", none)
    monkeypatch.setattr(lock, "SETTLE", 0.0)
    with Lock(tmp_path), pytest.raises(LockedError):
        Lock(tmp_path).__enter__()
    monkeypatch.setattr(lock.time, "sleep", lambda seconds: write(tmp_path, pid=7, place="elsewhere"))
    with pytest.raises(LockedError, match="process 7"):
        Lock(tmp_path).__enter__()


def test_the_others_of_a_group_are_refused_with_process_0(tmp_path, monkeypatch):
    monkeypatch.setattr(lock, "is_main", lambda: False)
    monkeypatch.setattr(lock, "agreed", lambda flag: True)
    with pytest.raises(LockedError, match="process 0 was refused"):
        Lock(tmp_path).__enter__()
    monkeypatch.setattr(lock, "agreed", lambda flag: False)
    with Lock(tmp_path / "new"):
        assert not (tmp_path / "new").exists(), "process 0 alone writes it"


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be written: Not a directory"):
        Lock(tmp_path / "file" / "run").__enter__()


def test_training_is_refused_before_anything_is_written(tmp_path):
    write(tmp_path)
    with pytest.raises(LockedError, match="is training here"):
        loop.train(toys.run(), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [FILE]


def test_a_folder_that_was_only_locked_is_still_new(tmp_path):
    """Its process was killed between the lock and the mark."""
    from train.record import folder

    write(tmp_path, born="1")
    assert folder.check(tmp_path, toys.run()) is False
