import json

import pytest

from arch.spec import SpecError, UserError
from train.data.local_pairs import LocalPairs
from train.data.parallel import Sides, Swapped

PAIRS = [(f"the {i} house", f"das {i} Haus") for i in range(80)]


def two_files(folder, pairs=PAIRS, name="x"):
    paths = [folder / f"{name}.en", folder / f"{name}.de"]
    for path, side in zip(paths, zip(*pairs, strict=True), strict=True):
        path.write_text("\n".join(side) + "\n", encoding="utf-8")
    return [str(path) for path in paths]


def found(source):
    corpus = source.build()
    return {split: sorted(corpus.pairs(split)) for split in source.splits}


def test_the_same_pairs_from_lines_and_from_tables(tmp_path):
    lines = found(LocalPairs(*two_files(tmp_path), validation=0.2, test=0.2))
    (tmp_path / "x.tsv").write_text("".join(f"{a}\t{b}\n" for a, b in PAIRS), encoding="utf-8")
    (tmp_path / "x.jsonl").write_text("".join(json.dumps({"en": a, "de": b}) + "\n" for a, b in PAIRS))
    tabs = found(LocalPairs(str(tmp_path / "x.tsv"), validation=0.2, test=0.2))
    records = LocalPairs(str(tmp_path / "x.jsonl"), "", "en", "de", validation=0.2, test=0.2)
    assert lines == tabs == found(records)
    assert list(lines) == ["train", "validation", "test"]
    assert sorted(pair for pairs in lines.values() for pair in pairs) == sorted(PAIRS)
    assert min(map(len, lines.values())) > 5


def test_swapped_pairs_stay_in_their_splits(tmp_path):
    source = LocalPairs(*two_files(tmp_path), validation=0.2, test=0.2)
    forth, back = found(source), found(Swapped(source))
    assert {split: sorted((b, a) for a, b in pairs) for split, pairs in back.items()} == forth
    assert Swapped(source).identity() != source.identity()


def test_sides_as_documents(tmp_path):
    """Both sides in turn, or one; in the order of the pairs."""
    source = LocalPairs(*two_files(tmp_path), validation=0.2, test=0)
    pairs = list(source.build().pairs("train"))
    assert list(Sides(source).build().texts("train")) == [text for pair in pairs for text in pair]
    assert list(Sides(source, "source").build().texts("train")) == [pair[0] for pair in pairs]
    assert list(Sides(source, "target").build().texts("train")) == [pair[1] for pair in pairs]
    assert len({Sides(source, side).identity() for side in ("both", "source", "target")}) == 3


def test_a_block_goes_to_one_split(tmp_path):
    files = two_files(tmp_path)
    splits = found(LocalPairs(*files, validation=0.3, test=0.3, block=8))
    number = {pair: i for i, pair in enumerate(PAIRS)}
    blocks = [{number[pair] // 8 for pair in pairs} for pairs in splits.values()]
    assert sum(map(len, blocks)) == 10
    assert all(len(pairs) == 8 * len(own) for pairs, own in zip(splits.values(), blocks, strict=True))


def test_splits_with_files_of_their_own(tmp_path):
    files, held = two_files(tmp_path), two_files(tmp_path, [("a cat", "eine Katze"), ("a dog", "ein Hund")], "held")
    source = LocalPairs(*files, validation_files=tuple(held))
    assert found(source) == {"train": sorted(PAIRS), "validation": [("a cat", "eine Katze"), ("a dog", "ein Hund")]}
    both = LocalPairs(*files, validation_files=tuple(held), test_files=tuple(held))
    assert both.splits == ("train", "validation", "test")


def test_the_identity_is_of_the_content(tmp_path):
    files = two_files(tmp_path)
    before = LocalPairs(*files).identity()
    assert LocalPairs(*two_files(tmp_path, name="y")).identity() == before
    assert LocalPairs(*files, block=2).identity() != before
    two_files(tmp_path, [*PAIRS, ("one more", "noch eins")])
    assert LocalPairs(*files).identity() != before


def test_blank_lines_on_both_sides_are_left_out(tmp_path):
    files = two_files(tmp_path, [*PAIRS, ("", ""), (" ", "")])
    assert sum(map(len, found(LocalPairs(*files)).values())) == len(PAIRS)


@pytest.mark.parametrize(
    ("english", "german", "line"),
    [
        ("a\nb\nc\n", "x\ny\n", r"x\.en has 3 lines and .*x\.de 2; line n of one must be the translation of line n"),
        ("a\n", "x\ny\n", r"x\.en has 1 lines and .*x\.de 2"),
        ("a\nb\n", "x\n \n", r"x\.de: line 2 has an empty target; take the pair out"),
        ("\nb\n", "x\ny\n", r"x\.en: line 1 has an empty source"),
        (b"\xff\n", "x\n", r"x\.en:1: byte 1 of the line \(0xff\) is not UTF-8"),
        ("a\n", None, r"no such file: .*x\.de .*; LocalPairs reads the two sides"),
    ],
)
def test_bad_lines_are_one_clear_line(tmp_path, english, german, line):
    for name, content in (("x.en", english), ("x.de", german)):
        if content is not None:
            (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(UserError, match=line) as error:
        LocalPairs(str(tmp_path / "x.en"), str(tmp_path / "x.de")).build()
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "content", "line"),
    [
        ("x.tsv", "a\tx\nb\n", r"x\.tsv:2: 1 columns where a source, a tab and a target should be"),
        ("x.tsv", "a\tx\ty\n", r"x\.tsv:1: 3 columns"),
        ("x.tsv", "a\t\n", r"x\.tsv: line 1 has an empty target"),
        ("x.jsonl", '{"source": "a"}\n', r"x\.jsonl:1: no field 'target'; it has 'source'"),
        ("x.jsonl", '{"source": "a", "target": ""}\n', r"x\.jsonl: record 1 has an empty target"),
    ],
)
def test_bad_tables_are_one_clear_line(tmp_path, name, content, line):
    (tmp_path / name).write_text(content)
    with pytest.raises(UserError, match=line) as error:
        LocalPairs(str(tmp_path / name)).build()
    assert "\n" not in str(error.value)


def test_fields_that_are_not_defined(tmp_path):
    with pytest.raises(SpecError, match=r"must name the file with the translations of x\.en; one file alone must end"):
        LocalPairs("x.en")
    with pytest.raises(SpecError, match="must name a file"):
        LocalPairs("")
    with pytest.raises(SpecError, match=r"must be \(source, target\) or \(table,\)"):
        LocalPairs("x.tsv", test_files=("a", "b", "c"))
    two_files(tmp_path)
    with pytest.raises(UserError, match="matches 2 files"):
        LocalPairs(str(tmp_path / "x.*"), "y").build()
