"""Every kind of data is what it says it is before it is built."""

import builtins
import json

import numpy as np
import pytest

from arch.spec import SpecError
from tests.train.data.conftest import sentences
from tests.train.data.test_images import SPEC
from train.data import BPE, Bytes, Digits, IMDbReviews, LocalText, Text, TokenizerFile, WikiLeads
from train.data.classes import TextClasses
from train.data.listops import ListOps
from train.data.packages import PackageBytes
from train.data.pairs import SameDocument
from train.data.pydoc import PydocTopics
from train.data.random_windows import RandomWindows
from train.data.tokenizers import Tokens
from train.data.wrappers import Ordered, WithEvaluation

WIKI, IMDB = WikiLeads(validation=0.2, test=0.2), IMDbReviews(validation=0.2, test=0.2)
KINDS = {
    "text": Text(WIKI, length=32),
    "text in BPE": Text(WIKI, BPE(300), length=32),
    "text without a test split": Text(WikiLeads(validation=0.2, test=0), length=32),
    "pydoc": Text(PydocTopics(), length=32),
    "classes": TextClasses(IMDB, length=32),
    "topics": TextClasses(WIKI, length=32, label="topic"),
    "pairs": SameDocument(WIKI, length=16),
    "packages": PackageBytes(packages=("json", "email", "urllib"), length=64),
    "random windows": PackageBytes(("json", "email"), length=64, windows=RandomWindows(each=50)),
    "listops": ListOps(length=16, shortest=4, train=40, validation=10, test=5),
    "digits": Digits(),
    "images": SPEC,
    "ordered": Ordered(Text(WIKI, length=32)),
    "with evaluation": WithEvaluation(Text(WIKI, length=32), (("films", Text(IMDB, length=32)),)),
}


@pytest.mark.parametrize("kind", KINDS)
def test_data_is_what_it_says(wiki, imdb, kind):
    """Nothing is opened to describe it; what is told is true of every split, and building tells only more."""
    data = KINDS[kind]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(builtins, "open", None)
        patch.setattr("train.data.cache.entry", None)
        before = data.describe()
    dataset = data.build()
    after = dataset.description
    assert before.splits == after.splits == tuple(dataset.rows)
    assert before.arrays == after.arrays
    for name in ("vocab", "classes", "mask", "separator", "text"):
        assert getattr(before, name) in (None, getattr(after, name))
    batches = {"train": next(dataset.train(4, seed=0))}
    batches |= {split: next(iter(dataset.evaluation(split, 4))) for split in after.evaluated}
    assert set(batches) == set(after.splits)
    for batch in batches.values():
        assert {name: (a.shape, a.dtype.type) for name, a in batch.items()} == before.batch(4)
        if "label" in batch:
            assert batch["label"].max() < after.classes
        if "tokens" in batch:
            assert batch["tokens"].max() < after.vocab
    assert ("tokenizer" in vars(dataset)) >= after.text
    assert (after.token_bytes is None) == (kind in ("listops", "digits", "images"))
    if before.token_bytes is not None:
        np.testing.assert_array_equal(before.token_bytes, after.token_bytes)


def test_what_only_building_tells(wiki):
    data = Text(WIKI, BPE(300), length=32)
    assert (data.describe().vocab, data.describe().token_bytes) == (300, None)
    assert data.build().description.token_bytes.shape == (300,)
    topics = TextClasses(WIKI, length=32, label="topic")
    assert (topics.describe().classes, topics.build().description.classes) == (None, 2)
    assert TextClasses(IMDB).describe().classes == 2


def test_the_special_tokens_of_bytes_stand_in_no_text():
    found, tokenizer = Bytes().describe(), Bytes().build()
    assert (found.vocab, found.mask, found.separator) == (256, 255, 254)
    assert len({tokenizer.bos, tokenizer.mask, tokenizer.separator}) == 3
    assert found.token_bytes[[0, 254, 255]].tolist() == [0, 0, 0]
    assert found.token_bytes.sum() == 253
    every = "".join(map(chr, [*range(1, 0xD800), *range(0xE000, 0x110000)]))
    assert not {found.mask, found.separator, tokenizer.bos} & set(tokenizer.encode(every))
    assert tokenizer.decode([0, 97, 255, 98, 254]) == "ab"


def test_special_tokens_of_a_file(tmp_path):
    path = tmp_path / "t.json"
    (tmp_path / "text.txt").write_text("\n".join(sentences(60)), encoding="utf-8")
    BPE(300).build(LocalText(str(tmp_path / "text.txt"), validation=0.2, test=0.2, per="line"))
    file = next((tmp_path / "cache" / "tokenizers").rglob("tokenizer.json"))
    definition = json.loads(file.read_text())
    path.write_text(json.dumps(definition))
    assert (TokenizerFile(str(path)).describe().mask, TokenizerFile(str(path)).describe().separator) == (None, None)
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    definition["added_tokens"] += [{"id": 300, "content": "[SEP]", **flags}, {"id": 301, "content": "<mask>", **flags}]
    path.write_text(json.dumps(definition))
    found, built = TokenizerFile(str(path)).describe(), TokenizerFile(str(path)).build()
    assert (found.vocab, found.mask, found.separator) == (302, 301, 300)
    assert Tokens.of(built).mask == 301
    assert built.token_bytes[[300, 301]].tolist() == [0, 0]
    assert Text(WIKI, TokenizerFile(str(path))).describe().mask == 301
    with pytest.raises(SpecError, match="cannot be read"):
        Text(WIKI, TokenizerFile(str(tmp_path / "gone.json"))).describe()


def test_bpe_can_learn_from_other_text(wiki, imdb):
    """The tokens of one text, used on another."""
    own, films = Text(WIKI, BPE(300), length=32).build(), Text(IMDB, BPE(300), length=32).build()
    borrowed = Text(IMDB, BPE(300, source=WIKI), length=32).build()
    assert borrowed.tokenizer.fingerprint == own.tokenizer.fingerprint != films.tokenizer.fingerprint
