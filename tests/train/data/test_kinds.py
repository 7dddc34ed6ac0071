"""What a file holds, by ending and content; paths that are themselves; what each kind refuses."""

import json
import os

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from arch.spec import UserError
from tests.train.data.conftest import sentences
from train.data import LocalText, TokenizerFile, cache, kinds
from train.data.local_pairs import LocalPairs
from train.data.paths import matching

LINES = "".join(json.dumps({"text": text}) + "\n" for text in sentences(30))


def texts_of(path, **fields):
    corpus = LocalText(str(path), validation=0.2, test=0, **fields).build()
    return sorted(text for split in corpus.splits for text in corpus.texts(split))


@pytest.mark.parametrize("name", ["A.JSONL", "a.json", "a.jl", "a.Ndjson", "a.data", "a"])
def test_lines_of_json_by_ending_in_any_case_or_by_content(name, tmp_path):
    (tmp_path / name).write_text(LINES, encoding="utf-8")
    assert texts_of(tmp_path / name) == sorted(sentences(30))


@pytest.mark.parametrize("name", ["P.PARQUET", "a.pq", "a.Parq", "a", "a.txt"])
def test_parquet_by_ending_in_any_case_or_by_content(name, tmp_path):
    pq.write_table(pa.table({"text": sentences(30)}), tmp_path / name)
    assert texts_of(tmp_path / name) == sorted(sentences(30))


@pytest.mark.parametrize("name", ["A.TXT.GZ", "a.gzip", "a.Zst", "a.ZIP"])
def test_compressed_files_by_ending(name, tmp_path):
    (tmp_path / name).write_bytes(b"x")
    with pytest.raises(UserError, match=f"{name} is compressed; unpack it first"):
        texts_of(tmp_path / name)


def test_compressed_files_by_content(tmp_path):
    import bz2
    import gzip
    import lzma

    for pack in (bz2, gzip, lzma):
        (tmp_path / "a.txt").write_bytes(pack.compress(b"some text"))
        for source in (LocalText(str(tmp_path / "a.txt"), format="text"), LocalPairs(*[str(tmp_path / "a.txt")] * 2)):
            with pytest.raises(UserError, match=r"a\.txt is compressed; unpack it first"):
                source.identity()


def test_one_content_read_in_two_ways_has_two_entries(tmp_path):
    for name in ("a.jsonl", "a.txt", "A.JSONL"):
        (tmp_path / name).write_text(LINES, encoding="utf-8")
    assert texts_of(tmp_path / "a.jsonl") == sorted(sentences(30))
    assert texts_of(tmp_path / "a.txt", per="line") == sorted(LINES.splitlines())
    assert texts_of(tmp_path / "a.jsonl", per="line") == sorted(sentences(30))
    names = {LocalText(str(tmp_path / name), per="line").identity() for name in ("a.jsonl", "a.txt")}
    assert len(names) == 2


@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("a.txt", lambda path: path.write_text("text")),
        ("a.data", lambda path: path.write_text("{text")),
        ("a.txt", lambda path: path.write_text("\n\n")),
        ("a.jsonl", lambda path: path.write_text("\n" + LINES)),
        ("a.jsonl", lambda path: path.write_text("\n")),
        ("a.parquet", lambda path: pq.write_table(pa.table({"text": ["x"]}), path)),
    ],
)
def test_what_was_read_rightly_keeps_its_name(name, write, tmp_path):
    write(tmp_path / name)
    assert LocalText(str(tmp_path / name))._files(str(tmp_path / name)).sha256() == [cache.file_sha256(tmp_path / name)]


def test_what_was_read_as_something_else_does_not_keep_its_name(tmp_path):
    """Else the raw lines that an older version left in the cache would be taken."""
    (tmp_path / "A.JSONL").write_text(LINES)
    assert kinds.told_apart(tmp_path / "A.JSONL", kinds.kind_of(tmp_path / "A.JSONL")) == "jsonl"


def test_two_columns_of_one_name(tmp_path):
    table = pa.Table.from_arrays([pa.array(["a"]), pa.array(["b"])], names=["text", "text"])
    pq.write_table(table, tmp_path / "a.parquet")
    with pytest.raises(UserError, match=r"a\.parquet: has two columns 'text'; which of them is the text\?"):
        texts_of(tmp_path / "a.parquet")
    (tmp_path / "a.jsonl").write_text('{"text": "a", "id": {"text": "c"}}\n{"text": "a", "text": "b"}\n')
    with pytest.raises(UserError, match=r"a\.jsonl:2: has two fields 'text'; which of them is the text\?"):
        texts_of(tmp_path / "a.jsonl")


def test_deep_json_is_one_line(tmp_path):
    for name, text in (("a.jsonl", '{"text": ' + "[" * 200_000), ("b.data", '{"a":' * 100_000)):
        (tmp_path / name).write_text(text)
        with pytest.raises(UserError, match=r"a\.jsonl:1: is nested too deeply|b: no document|local_text: no document"):
            texts_of(tmp_path / name)


def test_brackets_are_part_of_a_name(tmp_path):
    for name in ("x1.txt", "x[1].txt"):
        (tmp_path / name).write_text(name)
    assert matching(str(tmp_path / "x[1].txt")) == [tmp_path / "x[1].txt"]
    (tmp_path / "x[1].txt").unlink()
    assert matching(str(tmp_path / "x[1].txt")) == [tmp_path / "x1.txt"]


def test_folders_that_exist_are_no_patterns(tmp_path):
    for folder in ("s1", "s[1]", "s*"):
        (tmp_path / folder / "deep").mkdir(parents=True)
        (tmp_path / folder / "deep" / "a.txt").write_text(folder)
    for folder in ("s[1]", "s*"):
        assert matching(str(tmp_path / folder / "**" / "*.txt")) == [tmp_path / folder / "deep" / "a.txt"]


def test_the_home_folder(tmp_path, monkeypatch):
    home = tmp_path / "h[1]"
    home.mkdir()
    (home / "a.txt").write_text("text")
    monkeypatch.setenv("HOME", str(home))
    assert matching("~/a.txt") == matching("~/*.txt") == [home / "a.txt"]
    with pytest.raises(UserError, match=r"no such file: ~nobody_of_that_name/a\.txt"):
        matching("~nobody_of_that_name/a.txt")


@pytest.mark.parametrize("name", ["a\0b", "*\0", "\ud800", "*" * 5000, "a" * 5000, "~\0", "[", "[!", "**"])
def test_names_that_no_file_has(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError):
        matching(name)


def test_what_is_no_regular_file(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UserError, match="pipe is no regular file"):
        matching(str(tmp_path / "pipe"))
    (tmp_path / "gone").symlink_to(tmp_path / "nothing")
    with pytest.raises(UserError, match=r"no such file: .*gone"):
        matching(str(tmp_path / "gone"))


def test_a_tokenizer_file_in_a_name_with_brackets(tmp_path):
    (tmp_path / "t[1].json").write_text("{}")
    with pytest.raises(Exception, match=r"is not a tokenizer\.json"):
        TokenizerFile(str(tmp_path / "t[1].json")).build()
