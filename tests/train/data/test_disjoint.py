"""No text stands on both sides: what is evaluated on is left out of training, by name and by content, and counted."""

import json

import numpy as np
import pytest

from arch.spec import UserError
from tests.train.data.conftest import sentences
from train.data import LocalText, disjoint
from train.data.local_pairs import LocalPairs


def write(path, texts):
    path.write_text("\n".join(texts) + "\n", encoding="utf-8")
    return str(path)


def splits(source):
    corpus = source.build()
    return {split: sorted(corpus.texts(split)) for split in corpus.splits}


def test_validation_files_that_the_pattern_also_matches(tmp_path, caplog):
    texts = sentences(21)
    for i, text in enumerate(texts):
        write(tmp_path / f"{'held' if i < 6 else 'own'}{i}.txt", [text])
    source = LocalText(str(tmp_path / "*.txt"), validation_files=str(tmp_path / "held*.txt"))
    found = splits(source)
    assert found["validation"] == sorted(text + "\n" for text in texts[:6])
    assert found["train"] == sorted(text + "\n" for text in texts[6:])
    line = "LocalText: 6 documents of train also stand in a split that is evaluated on; they are left out of train"
    assert [record.message for record in caplog.records] == [line]


def test_by_content_whatever_the_name_case_and_white_space(tmp_path, caplog):
    texts = sentences(20)
    train = write(tmp_path / "t.txt", texts)
    held = write(tmp_path / "v.txt", [texts[3].upper(), f"  {texts[5]} ", texts[7], texts[7], "of its own"])
    test = write(tmp_path / "x.txt", [texts[5], texts[9]])
    found = splits(LocalText(train, validation_files=held, test_files=test, per="line"))
    assert found["test"] == sorted([texts[5], texts[9]])
    assert found["validation"] == sorted([texts[3].upper(), texts[7], texts[7], "of its own"])
    assert found["train"] == sorted(text for i, text in enumerate(texts) if i not in (3, 5, 7, 9))
    assert [record.message.split(":")[1][:35] for record in caplog.records] == [
        " 1 documents of validation also sta",
        " 4 documents of train also stand in",
    ]


def test_a_split_by_hash_beside_files_to_test_on(tmp_path):
    texts = sentences(60)
    train, test = write(tmp_path / "t.txt", texts), write(tmp_path / "x.txt", texts[:30])
    found = splits(LocalText(train, validation=0.4, test_files=test, per="line"))
    assert sorted(found["train"] + found["validation"]) == sorted(texts[30:])
    assert min(map(len, found.values())) > 5


def test_nothing_left_is_one_line(tmp_path):
    train = write(tmp_path / "t.txt", sentences(4))
    with pytest.raises(UserError, match=r"no document in split 'train', of 4 in all, 4 of which also stand in another"):
        LocalText(train, validation_files=train, per="line").build()


def test_what_is_disjoint_keeps_its_name(tmp_path):
    """Identities of before: the hash of the files alone, unless something had to be left out."""
    train, held = write(tmp_path / "t.txt", sentences(9)), write(tmp_path / "v.txt", sentences(3, seed=4))
    apart = LocalText(train, validation_files=held, per="line")
    assert apart.identity() == apart._key()
    both = LocalText(train, validation_files=train, test_files=held, per="line")
    assert both.identity() != both._key()


def test_pairs(tmp_path, caplog):
    """A pair of which one side stands in a split that is evaluated on is not trained on."""
    pairs = [(f"the house {i}", f"das Haus {i}") for i in range(20)]
    held = [pairs[2], (pairs[4][0], "anders"), ("other", pairs[6][1].upper()), ("new", "neu")]

    def files(name, found):
        return tuple(write(tmp_path / f"{name}.{side}", lines) for side, lines in enumerate(zip(*found, strict=True)))

    source = LocalPairs(*files("t", pairs), validation_files=files("v", held))
    corpus = source.build()
    assert sorted(corpus.pairs("validation")) == sorted(held)
    assert sorted(corpus.pairs("train")) == sorted(pair for i, pair in enumerate(pairs) if i not in (2, 4, 6))
    assert [record.message.split(";")[0] for record in caplog.records] == [
        "LocalPairs: 3 pairs of train also stand in a split that is evaluated on"
    ]
    assert source.identity() != source._key()
    assert LocalPairs(*files("t", pairs)).identity() == LocalPairs(*files("t", pairs))._key()


def test_pairs_that_come_again_in_another_block(tmp_path):
    lines = [f"{i % 100}\tb{i % 100}" for i in range(120)]
    source = LocalPairs(write(tmp_path / "t.tsv", lines), block=7, validation=0.3, test=0.3)
    corpus = source.build()
    found = [set(corpus.pairs(split)) for split in source.splits]
    assert len(set.union(*found)) == sum(map(len, found))
    assert all(found)


def test_a_table_of_two_kinds_has_two_names(tmp_path):
    """A tab is white space in JSON."""
    text = "".join(json.dumps({"source": f"s{i}", "target": f"t{i}"}, separators=(",\t", ":")) + "\n" for i in range(9))
    for name in ("a.tsv", "a.jsonl"):
        (tmp_path / name).write_text(text)
    fields = {"validation": 0.3, "test": 0}
    tabs, records = (LocalPairs(str(tmp_path / name), **fields) for name in ("a.tsv", "a.jsonl"))
    assert tabs.identity() != records.identity()
    assert next(tabs.build().pairs("train"))[0].startswith("{")
    assert next(records.build().pairs("train"))[0].startswith("s")


def test_remaining_records():
    records = [{"text": str(i)} for i in range(6)]
    left = disjoint.without("x", {"train": records, "test": records}, {"train": [1, 4]})
    assert [record["text"] for record in left["train"]] == ["0", "2", "3", "5"]
    assert left["train"].__getitems__(np.array([3, 0])) == [records[5], records[0]]
    assert left["test"] is records
