"""Whatever is thrown at the data room, it gives the right rows or says one line: never a traceback, never a text on
both sides. Thrown are names, endings, encodings, damage, patterns, expressions of splits, and labels."""

import bz2
import collections
import contextlib
import gzip
import json
import os
import pathlib
import tempfile

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from arch.spec import SpecError, UserError
from tests.train.data import test_catalogue  # noqa: F401  (registers its builders)
from tests.train.data.test_labelled import TEXTS, SomeLabels
from train.data import LocalText, Tfds
from train.data.classes import TextClasses
from train.data.corpus import folded_hash
from train.data.local import Files
from train.data.local_pairs import LocalPairs

STEMS = ("a", "b", "x1", "x[1]", "s*", "c d", "é", "-f", "~g", "%20#", "[!a]", "A")
TEXT_ENDINGS, OTHER_ENDINGS = (".txt", ".TXT", ".md"), ("", ".data", ".JSONx")
JSON_ENDINGS, TABLE_ENDINGS = (".jsonl", ".JSONL", ".json", ".jl", ".NDJson"), (".parquet", ".PQ")
PACKED_ENDINGS = (".gz", ".TXT.GZ", ".gzip", ".Zip")
ENDINGS = TEXT_ENDINGS + OTHER_ENDINGS + JSON_ENDINGS + TABLE_ENDINGS + PACKED_ENDINGS
CHARACTERS = st.characters(exclude_categories=["Cs", "Cc", "Zl", "Zp"], exclude_characters="{\x85")
TEXT = st.text(CHARACTERS, min_size=1, max_size=12).filter(str.strip) | st.integers(0, 99).map("Text {}".format)
DOCUMENTS = st.lists(TEXT, min_size=5, max_size=12)
TAME = [(".txt", "lines"), (".jsonl", "json"), (".JSON", "json"), ("", "json"), (".data", "lines"), (".PQ", "parquet")]
ENCODINGS = st.sampled_from(["utf-8"] * 4 + ["utf-8-sig", "utf-16", "latin-1"])
HARMS = ("cut", "flip", "gzip", "bz2", "deep", "junk", "empty")
DEPTH = 50_000


def examples(quick, slow):
    """How many are tried: few, and as a slow test many."""
    return pytest.mark.parametrize("tried", [quick, pytest.param(slow, marks=pytest.mark.slow)])


def tried_on(tried, **strategies):
    """Runs the property at once, on the same examples every time."""

    def run(holds):
        same = {"derandomize": True, "database": None, "deadline": None, "suppress_health_check": list(HealthCheck)}
        settings(max_examples=tried, **same)(given(**strategies)(holds))()

    return run


@contextlib.contextmanager
def folder():
    """A new working folder, with a cache of its own."""
    with tempfile.TemporaryDirectory() as name, pytest.MonkeyPatch.context() as patch:
        here = pathlib.Path(name, "data")
        here.mkdir()
        patch.chdir(here)
        patch.setenv("STRATA_CACHE", os.path.join(name, "[cache]"))
        yield here


def or_one_line(make):
    """What `make()` gives; None if it refused in one line. Anything else that it raises is a failure."""
    try:
        return make()
    except (UserError, SpecError) as error:
        refusal = error
    assert len(str(refusal).split("\n")) == len(getattr(refusal, "problems", "1"))  # of a spec, one for each field
    return None


@st.composite
def files(draw, wild=4):
    """Name, content, and its documents by line: None where it must be refused, ... where nobody can say."""
    texts, is_wild = draw(DOCUMENTS), draw(st.integers(1, 5)) > 5 - wild
    ending, kind, encoding, harm = *draw(st.sampled_from(TAME)), "utf-8", "none"
    if is_wild:
        ending, kind = draw(st.sampled_from(ENDINGS)), draw(st.sampled_from(["lines", "json", "parquet"]))
        encoding, harm = draw(ENCODINGS), draw(st.sampled_from(("none",) * 6 + HARMS))
    name = draw(st.sampled_from(STEMS)) + ending
    if kind == "parquet":
        stream = pa.BufferOutputStream()
        pq.write_table(pa.table({"text": texts}), stream)
        content, found = stream.getvalue().to_pybytes(), texts
    else:
        lines = [json.dumps({"text": text}) for text in texts] if kind == "json" else texts
        content = "\n".join(lines).encode(encoding, errors="replace")
        reads_json = ending in JSON_ENDINGS or (ending in OTHER_ENDINGS and kind == "json")
        found = texts if kind == "json" and reads_json else lines
        if ending in TABLE_ENDINGS or (reads_json and kind == "lines"):
            found = None
        elif not encoding.startswith("utf-8") and (kind == "lines" or encoding == "utf-16"):
            found = None if encoding == "utf-16" else ...
    if harm == "cut":
        content, found = content[: draw(st.integers(0, len(content)))], ...
    elif harm == "flip":
        at = draw(st.integers(0, len(content) - 1))
        content, found = content[:at] + bytes([content[at] ^ draw(st.integers(1, 255))]) + content[at + 1 :], ...
    elif harm in ("gzip", "bz2"):
        content, found = {"gzip": gzip, "bz2": bz2}[harm].compress(content), None
    elif harm == "deep":
        content, found = b'{"text": "' + b'x", "a":' + b"[" * DEPTH, ...
    elif harm == "junk":
        content, found = draw(st.binary(min_size=1, max_size=64)), ...
    elif harm == "empty":
        content, found = b"", None if ending in TABLE_ENDINGS else []
    return name, content, None if ending in PACKED_ENDINGS else found


@examples(60, 1500)
def test_a_file_gives_its_documents_or_one_line(tried):
    @tried_on(tried, file=files())
    def holds(file):
        name, content, expected = file
        with folder() as here:
            (here / name).write_bytes(content)
            read = Files(name, "auto", "text", "line")
            found = or_one_line(lambda: list(read.documents()))
            assert expected is ... or found == expected
            assert found is None or len(or_one_line(read.sha256)) == 1


@examples(30, 400)
def test_splits_hold_the_right_documents_and_none_of_another(tried):
    patterns = st.sampled_from([None, "*", "**/*", "[ab]*", "x[1]*", "x*", "?*", "{a,b}*", "gone", "~g*", "[", "."])
    own = st.sampled_from([None, None, "x*", "[ab]*", "s*"]) | patterns
    fields = ("files", "validation_files", "test_files")
    several = st.lists(files(wild=1), min_size=2, max_size=5, unique_by=lambda one: one[0])
    built = []

    @tried_on(tried, made=several, given=st.tuples(patterns, own, own), first=st.booleans())
    def holds(made, given, first):
        with folder() as here:
            for name, content, _ in made:
                (here / name).write_bytes(content)
            named = dict(zip(fields, (made[0][0] if first else given[0] or "*", *given[1:]), strict=True))
            source = or_one_line(lambda: LocalText(**named, validation=0.3, test=0.3, per="line"))
            corpus = or_one_line(source.build)
            if corpus is None:
                return
            found = {split: list(corpus.texts(split)) for split in corpus.splits}
            read = {
                name: list(Files(given, "auto", "text", "line").documents()) for name, given in named.items() if given
            }
        built.append(corpus)
        hashes = [{folded_hash(text) for text in texts} for texts in found.values()]
        assert len(set.union(*hashes)) == sum(map(len, hashes))
        given = [text for texts in read.values() for text in texts]
        assert {text for texts in found.values() for text in texts} <= set(given)
        assert set.union(*hashes) == {folded_hash(text) for text in given}  # each text is in some split
        for split in ("test", "validation"):  # the first that has files of its own keeps all that is in them
            if f"{split}_files" in read:
                assert collections.Counter(found[split]) == collections.Counter(read[f"{split}_files"])
                break

    assert len(built) >= tried // 10


@examples(15, 200)
def test_pairs_stand_on_one_side(tried):
    side = st.integers(0, 200).map(lambda at: {0: "A ", 1: "d  e", 2: "f\x00", 3: "{}", 4: ""}.get(at, f"A{at} "))
    pairs = st.lists(st.tuples(side, side.map(str.lower)), min_size=12, max_size=30)
    endings = st.sampled_from([".tsv", ".TSV", ".jsonl", ".json", ".txt"])
    built = []

    @tried_on(tried, rows=pairs, held=st.just([]) | pairs, block=st.integers(1, 3), ending=endings)
    def holds(rows, held, block, ending):
        with folder() as here:
            for name, pairs in (("x[1]", rows), ("v", held)):
                as_json = [json.dumps({"source": source, "target": target}) for source, target in pairs]
                lines = ["\t".join(pair) for pair in pairs] if "tsv" in ending.lower() else as_json
                (here / (name + ending)).write_text("\n".join(lines))
            own = {"validation_files": ("v" + ending,)} if held else {}
            source = or_one_line(lambda: LocalPairs("x[1]" + ending, validation=0.3, test=0.2, block=block, **own))
            corpus = source and or_one_line(source.build)
            if corpus is None:
                return
            found = [list(corpus.pairs(split)) for split in source.splits]
        built.append(corpus)
        assert {pair for pairs in found for pair in pairs} <= {
            tuple(s.replace("\0", "") for s in p) for p in rows + held
        }
        for index in (0, 1):
            sides = [{folded_hash(pair[index]) for pair in pairs} for pairs in found]
            assert len(set.union(*sides)) == sum(map(len, sides))

    assert len(built) >= tried // 10


@pytest.fixture(scope="module")
def catalogue(tmp_path_factory):
    """A prepared set of 40 records to train on and 20 to test on."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STRATA_CACHE", str(tmp_path_factory.mktemp("catalogue")))
        Tfds("catalogue_like", validation="test").records()
        yield os.environ["STRATA_CACHE"]


@examples(40, 1000)
def test_parts_of_splits_share_nothing(tried, catalogue, monkeypatch):
    monkeypatch.setenv("STRATA_CACHE", catalogue)
    bound = st.none() | st.integers(-45, 45) | st.integers(-110, 110).map(lambda at: f"{at}%")
    cut = st.builds(lambda a, b: f"[{'' if a is None else a}:{'' if b is None else b}]", bound, bound) | st.just("")
    part = st.builds(str.__add__, st.sampled_from(["train", "test", "all", "gone", "tr ain", "train"]), cut)
    named = st.sampled_from(["train[:50%]", "train[50%:]", "test"]) | st.lists(part, min_size=1, max_size=2).map(
        "+".join
    )
    built = []

    @tried_on(tried, train=named, validation=named, test=st.none() | named | st.text(max_size=6))
    def holds(train, validation, test):
        source = or_one_line(lambda: Tfds("catalogue_like", train, validation, test))
        corpus = source and or_one_line(source.build)
        if corpus is not None:
            built.append(corpus)
            found = [set(corpus.texts(split)) for split in corpus.splits]
            assert len(set.union(*found)) == sum(map(len, found))
            assert all(found)

    assert len(built) >= tried // 60 + 1


@examples(30, 600)
def test_labels_are_classes_or_not_counted(tried):
    label = st.integers(-1, 2) | st.sampled_from([-1, -1, 3, -2, 2**31, -(2**63), 2**70])
    most = st.lists(st.integers(-1, 2), min_size=37, max_size=37)

    @tried_on(tried, labels=most, other=label, place=st.integers(0, 36))
    def holds(labels, other, place):
        labels = (*labels[:place], other, *labels[place + 1 :])
        with folder():
            dataset = or_one_line(TextClasses(SomeLabels(labels), length=8).build)
        parts = {"train": labels[:30], "validation": labels[30:]}
        refused = not all(-1 <= one < 3 for one in labels) or any(set(part) == {-1} for part in parts.values())
        assert (dataset is None) == refused
        for split, part in parts.items() if dataset else ():
            batch = dataset.rows[split].gather(np.arange(len(dataset.rows[split])))
            texts = TEXTS[:30] if split == "train" else TEXTS[30:]
            assert batch["label"].tolist() == [one for one in part if one >= 0]
            kept = [(b"\0" + text.encode())[:8] for text, one in zip(texts, part, strict=True) if one >= 0]
            assert [bytes(row.astype(np.uint8)) for row in batch["tokens"]] == kept
