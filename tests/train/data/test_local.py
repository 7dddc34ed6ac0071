import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from arch.spec import SpecError, UserError
from tests.train.data.conftest import sentences
from train.data import LocalText


def texts_of(source):
    corpus = source.build()
    return sorted(text for split in corpus.splits for text in corpus.texts(split))


def write_jsonl(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def test_a_document_per_line(local):
    assert texts_of(LocalText(str(local), validation=0.2, per="line")) == sorted(sentences(120, seed=2))


def test_a_document_per_file_keeps_its_white_space(tmp_path):
    wanted = [f" {text}\n\n  end\n" for text in sentences(40)]
    (tmp_path / "deep" / "er").mkdir(parents=True)
    for i, text in enumerate(wanted):
        (tmp_path / ("deep/er" if i % 2 else "deep") / f"{i}.txt").write_text(text, encoding="utf-8")
    assert texts_of(LocalText(str(tmp_path / "**" / "*.txt"), validation=0.2)) == sorted(wanted)


def test_paragraphs_are_parted_by_blank_lines(tmp_path):
    wanted = [f"{text}\nsecond line\n  third" for text in sentences(40)]
    path = tmp_path / "p.md"
    path.write_text("\n\n" + "\n \t\n\n".join(wanted) + "\n\n\n", encoding="utf-8")
    assert texts_of(LocalText(str(path), validation=0.2, per="paragraph")) == sorted(wanted)


def test_windows_line_ends_and_byte_order_marks_are_not_text(tmp_path):
    path = tmp_path / "w.txt"
    path.write_bytes(b"\xef\xbb\xbf" + "\r\n".join(sentences(40)).encode())
    assert texts_of(LocalText(str(path), validation=0.2, per="line")) == sorted(sentences(40))


def test_json_lines(tmp_path):
    write_jsonl(tmp_path / "a.jsonl", [{"id": i, "body": text} for i, text in enumerate(sentences(40))])
    assert texts_of(LocalText(str(tmp_path / "a.jsonl"), validation=0.2, field="body")) == sorted(sentences(40))


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string()])
def test_parquet(tmp_path, kind):
    wanted = sentences(40)
    columns = {"id": pa.array(range(41)), "body": pa.array([*wanted, None], kind)}
    pq.write_table(pa.table(columns), tmp_path / "a.parquet", row_group_size=7)
    assert texts_of(LocalText(str(tmp_path / "*.parquet"), validation=0.2, field="body")) == sorted(wanted)


def test_the_format_can_be_said(tmp_path):
    write_jsonl(tmp_path / "a.data", [{"text": text} for text in sentences(40)])
    assert texts_of(LocalText(str(tmp_path / "a.data"), validation=0.2, format="jsonl")) == sorted(sentences(40))


def test_files_can_be_the_validation_split(tmp_path):
    train, held_out = sentences(5, seed=1), sentences(3, seed=2)
    (tmp_path / "t.txt").write_text("\n".join(train), encoding="utf-8")
    (tmp_path / "v.txt").write_text("\n".join(held_out), encoding="utf-8")
    corpus = LocalText(str(tmp_path / "t.txt"), validation_files=str(tmp_path / "v.txt"), per="line").build()
    assert sorted(corpus.texts("train")) == sorted(train)
    assert sorted(corpus.texts("validation")) == sorted(held_out)


def test_files_can_be_the_test_split(tmp_path):
    """Files of a split are that split whole; the fractions divide `files` among the splits that have none."""
    texts = {"t": sentences(40, seed=1), "v": sentences(3, seed=2), "x": sentences(4, seed=3)}
    paths = {name: str(tmp_path / f"{name}.txt") for name in texts}
    for name, path in paths.items():
        (tmp_path / path).write_text("\n".join(texts[name]), encoding="utf-8")
    both = LocalText(paths["t"], validation_files=paths["v"], test_files=paths["x"], per="line")
    one = LocalText(paths["t"], validation=0.2, test_files=paths["x"], per="line")
    plain = LocalText(paths["t"], validation=0.2, test=0, per="line")
    found = {name: {s: sorted(c.texts(s)) for s in c.splits} for name, c in
             (("both", both.build()), ("one", one.build()), ("plain", plain.build()))}  # fmt: skip
    assert found["both"] == {"train": sorted(texts["t"]), "validation": sorted(texts["v"]), "test": sorted(texts["x"])}
    assert found["one"] == {**found["plain"], "test": sorted(texts["x"])}
    assert both.splits == one.splits == ("train", "validation", "test")
    assert len({both.identity(), one.identity(), plain.identity()}) == 3


def test_without_files_to_test_on_there_is_no_test_split(tmp_path):
    for name in ("t", "v"):
        (tmp_path / f"{name}.txt").write_text(f"the only document of {name}", encoding="utf-8")
    source = LocalText(str(tmp_path / "t.txt"), validation_files=str(tmp_path / "v.txt"))
    assert source.splits == tuple(source.build().splits) == ("train", "validation")


def test_new_content_is_new_data(local):
    source = LocalText(str(local), validation=0.2, per="line")
    before, texts = source.identity(), texts_of(source)
    local.write_text(local.read_text(encoding="utf-8") + "one more\n", encoding="utf-8")
    assert source.identity() != before
    assert texts_of(source) == sorted([*texts, "one more"])


def test_a_moved_file_is_the_same_data(local, tmp_path):
    before = LocalText(str(local)).identity()
    moved = local.rename(tmp_path / "moved.txt")
    assert LocalText(str(moved)).identity() == before


@pytest.mark.parametrize(
    ("name", "content", "fields", "line"),
    [
        (
            "a.jsonl",
            b'{"text": "x"}\n{"text": "y\n',
            {},
            r"a\.jsonl:2: not JSON: .*; each line must be one JSON object",
        ),
        ("a.jsonl", b'{"text": "x"}\n\n["x"]\n', {}, r"a\.jsonl:3: list where a JSON object with 'text' should be"),
        ("a.jsonl", b'{"body": "x", "id": 1}\n', {}, r"a\.jsonl:1: no field 'text'; it has 'body', 'id'"),
        ("a.jsonl", b"{}\n", {}, r"a\.jsonl:1: no field 'text'; it has none"),
        ("a.jsonl", b'{"text": 3}\n', {}, r"a\.jsonl:1: field 'text' holds int, not text"),
        ("a.jsonl", b'{"text": "\\ud800"}\n', {}, r"a\.jsonl:1: .* half a surrogate pair"),
        ("a.txt", b"good\nna\xefve\n", {}, r"a\.txt:2: byte 3 of the line \(0xef\) is not UTF-8; convert the file"),
        ("a.parquet", b"PAR1 cut short", {}, r"a\.parquet: not a whole Parquet file \("),
        ("a.jsonl.gz", b"x", {}, r"a\.jsonl\.gz is compressed; unpack it first"),
        ("a.txt", b"\n \n", {"per": "line"}, r"local_text: no document in split 'train', of 0 in all"),
        ("a.txt", b"the only document", {}, r"local_text: no document in split '.*', of 1 in all; .* smaller ones"),
    ],
)
def test_what_is_wrong_in_a_file_is_one_clear_line(name, content, fields, line, tmp_path, cache_folder):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=line) as error:
        LocalText(str(tmp_path / name), **fields).build()
    assert "\n" not in str(error.value)
    assert not list(cache_folder.glob("datasets/local*"))


def test_a_missing_column_lists_the_columns(tmp_path):
    pq.write_table(pa.table({"id": [1], "body": ["x"]}), tmp_path / "a.parquet")
    with pytest.raises(UserError, match=r"a\.parquet: no column 'text'; it has 'id', 'body'"):
        LocalText(str(tmp_path / "a.parquet")).build()
    with pytest.raises(UserError, match="column 'id' holds int64, not text"):
        LocalText(str(tmp_path / "a.parquet"), field="id").build()


def test_a_cut_parquet_file(tmp_path):
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"text": sentences(500)}), path)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(UserError, match=r"a\.parquet: not a whole Parquet file"):
        LocalText(str(path)).build()


def test_paths_that_name_nothing(tmp_path):
    (tmp_path / "folder").mkdir()
    lines = {
        "gone.txt": r"no such file: .*gone\.txt",
        "*.txt": r"no file matches .*\*\.txt",
        "folder": r"folder is a folder; name the files in it, e\.g\. .*folder/\*\*/\*\.txt",
    }
    for pattern, line in lines.items():
        with pytest.raises(UserError, match=line):
            LocalText(str(tmp_path / pattern)).build()


def test_a_file_that_cannot_be_read(local, monkeypatch):
    def invalid(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("train.data.cache.file_sha256", invalid)
    with pytest.raises(UserError, match=r"cannot read .*lines\.txt: Permission denied"):
        LocalText(str(local)).identity()


@pytest.mark.parametrize(
    ("fields", "line"),
    [
        ({"files": ""}, "LocalText.files='': must name a file or a pattern"),
        ({"files": "x", "per": "word"}, "LocalText.per='word': must be one of file, line, paragraph"),
        ({"files": "x", "format": "csv"}, "LocalText.format='csv': must be one of auto, text, jsonl, parquet"),
        ({"files": "x", "validation": 1.0}, "LocalText.validation=1.0: validation + test must leave something"),
    ],
)
def test_fields_that_are_not_defined(fields, line):
    with pytest.raises(SpecError) as error:
        LocalText(**fields)
    assert line in str(error.value)
