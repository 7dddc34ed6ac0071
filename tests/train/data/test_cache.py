import logging
import multiprocessing

import pytest

from arch.spec import UserError
from train.data import cache


def write(text):
    def make(folder):
        (folder / "sub").mkdir()
        (folder / "sub" / "file").write_text(text)

    return make


def invalid(folder):
    raise AssertionError("made again")


def test_an_entry_is_made_once(cache_folder):
    folder = cache.entry("kind", "key", write("content"))
    assert folder == cache_folder / "kind" / "key"
    assert cache.entry("kind", "key", invalid) == folder
    assert (folder / "sub" / "file").read_text() == "content"


@pytest.mark.parametrize("harm", ["changed", "cut", "gone", "no manifest", "broken manifest"])
def test_a_damaged_entry_is_made_again_and_said(harm, caplog):
    folder = cache.entry("kind", "key", write("content"))
    file, manifest = folder / "sub" / "file", folder / cache.MANIFEST
    {
        "changed": lambda: file.write_text("CONTENT"),
        "cut": lambda: file.write_text("cont"),
        "gone": file.unlink,
        "no manifest": manifest.unlink,
        "broken manifest": lambda: manifest.write_text('{"files": [["sub/fi'),
    }[harm]()
    with caplog.at_level(logging.WARNING):
        cache.entry("kind", "key", write("content"))
    assert file.read_text() == "content"
    assert "damaged" in caplog.text
    cache.entry("kind", "key", invalid)


def test_a_make_that_fails_leaves_nothing(cache_folder):
    def make(folder):
        (folder / "half").write_text("ha")
        raise UserError("the source is gone")

    with pytest.raises(UserError, match="the source is gone"):
        cache.entry("kind", "key", make)
    assert [path for path in (cache_folder / "kind").iterdir() if path.is_dir()] == []


def test_what_a_killed_process_left_is_removed(cache_folder):
    left = cache_folder / "kind" / ".key.tmp-dead"
    left.mkdir(parents=True)
    other = cache_folder / "kind" / ".other.tmp-alive"
    other.mkdir()
    cache.entry("kind", "key", write("content"))
    assert not left.exists()
    assert other.exists()


def test_an_unwritable_cache_is_one_clear_line(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("STRATA_CACHE", str(tmp_path / "file"))
    with pytest.raises(UserError, match=r"cannot write the cache .*file.*: Not a directory; set STRATA_CACHE to") as e:
        cache.entry("kind", "key", write(""))
    assert "\n" not in str(e.value)


def test_a_full_disk_is_one_clear_line():
    def make(folder):
        raise OSError(28, "No space left on device")

    with pytest.raises(UserError, match=r"cannot write the cache .*: No space left on device; .* with room"):
        cache.entry("kind", "key", make)


def test_without_locks_the_first_rename_wins():
    target = cache.root() / "kind" / "key"
    target.parent.mkdir(parents=True)

    def overtaken(folder):
        write("content")(folder)
        cache._make(target, write("content"), locked=False)  # another process comes first

    cache._make(target, overtaken, locked=False)
    assert cache.intact(target)
    assert [path.name for path in target.parent.iterdir()] == ["key"]


def _count(counter, barrier):
    def make(folder):
        with counter.get_lock():
            counter.value += 1
        write("content")(folder)

    barrier.wait()
    cache.entry("kind", "key", make)


def test_two_processes_make_an_entry_once():
    spawn = multiprocessing.get_context("spawn")
    counter, barrier = spawn.Value("i", 0), spawn.Barrier(2)
    processes = [spawn.Process(target=_count, args=(counter, barrier)) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0]
    assert counter.value == 1


def test_digest_depends_on_every_part():
    names = {cache.digest("a", 1), cache.digest("a", 2), cache.digest("a"), cache.digest(["a", 1]), cache.digest("a1")}
    assert len(names) == 5
    assert cache.digest({"x": 1, "y": 2}) == cache.digest({"y": 2, "x": 1})
