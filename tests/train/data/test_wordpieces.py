import numpy as np
import pytest

from arch.spec import SpecError, UserError
from tests.train.data.conftest import sentences
from train.data import BPE, LocalText, Text
from train.data.local_pairs import LocalPairs
from train.data.parallel import Sides
from train.data.tokenizers import Tokens
from train.data.wordpieces import MARKER, WordPieces, covering

TEXTS = [
    " a  b\n\n c",
    "\tI'd say 1234: naïve Σ \u4e2d\u6587 \U0001f600!",
    "A\u0301 \ufb01 \u00c5",
    "the river, the king.",
    "",
]


@pytest.fixture
def pairs(tmp_path):
    english, german = sentences(150, seed=3), [text.replace("river", "fluß") for text in sentences(150, seed=4)]
    (tmp_path / "x.tsv").write_text("".join(f"{a}\t{b}\n" for a, b in zip(english, german, strict=True)), "utf-8")
    return LocalPairs(str(tmp_path / "x.tsv"), validation=0.1, test=0.1)


def spelt(tokenizer, text):
    return [tokenizer._tokenizer.id_to_token(i) for i in tokenizer.encode(text)]


def test_the_pieces_of_a_text_are_the_text_byte_by_byte(pairs):
    tokenizer = WordPieces(400).build(Sides(pairs))
    texts = [*TEXTS, "<s> is text, </s> and <0x41> too", *Sides(pairs).build().texts("test")]
    for text, ids in zip(texts, tokenizer.encode_batch(texts), strict=True):
        assert tokenizer.decode(ids) == text
        assert tokenizer.token_bytes[ids].sum() == len(text.encode())
        assert ids.tolist() == tokenizer.encode(text)
        assert not {tokenizer.bos, tokenizer.eos} & set(ids.tolist())
    assert tokenizer.decode([tokenizer.bos, *tokenizer.encode("the king"), tokenizer.eos]) == "the king"
    assert tokenizer.decode(tokenizer.encode(f"a{MARKER}b")) == "a b"
    assert (tokenizer.bos, tokenizer.eos, tokenizer.token_bytes[[0, 1, 2, 257]].tolist()) == (0, 1, [0, 0, 1, 1])


def test_words_begin_with_the_marker_and_punctuation_stands_alone(pairs):
    tokenizer = WordPieces(500).build(Sides(pairs))
    assert spelt(tokenizer, "the river king.") == ["the", f"{MARKER}river", f"{MARKER}king", "."]
    assert not [piece for piece in tokenizer._tokenizer.get_vocab() if "." in piece[1:] or MARKER in piece[1:]]


def test_both_sides_share_one_inventory(pairs):
    """A word of each side is a piece; learnt from one side alone, the other's is not."""
    both = WordPieces(500).build(Sides(pairs))
    source, target = (WordPieces(500).build(Sides(pairs, side)) for side in ("source", "target"))
    words = [f"{MARKER}river", f"{MARKER}fluß"]
    there = [[word in tokenizer._tokenizer.get_vocab() for word in words] for tokenizer in (both, source, target)]
    assert there == [[True, True], [True, False], [False, True]]
    assert len({one.fingerprint for one in (both, source, target)}) == 3
    assert WordPieces(500, source=Sides(pairs)).build().fingerprint == both.fingerprint


def test_rare_characters_are_spelt_in_bytes(pairs):
    few, all_of_them = (WordPieces(500, coverage).build(Sides(pairs)) for coverage in (0.9, 1.0))
    assert spelt(few, "Ω") == ["<0xCE>", "<0xA9>"]
    assert spelt(all_of_them, "Ω") == ["Ω"]
    assert spelt(all_of_them, "\u03a3") == ["<0xCE>", "<0xA3>"]
    assert few.decode(few.encode("Ω Σ")) == "Ω Σ"


def test_covering_takes_the_most_frequent():
    texts = ["aaaa bbb", "aa c"]  # a 6, b 3, space 2, c 1
    assert covering(texts, 0.5) == ["a"]
    assert covering(texts, 0.51) == ["a", "b"]
    assert covering(texts, 0.75) == ["a", "b"]
    assert covering(texts, 0.9) == ["a", "b", MARKER]
    assert covering(texts, 1.0) == ["a", "b", MARKER, "c"]
    assert covering(texts, 0.0) == []


def test_it_is_learnt_once_and_from_the_train_split_alone(pairs, monkeypatch):
    first = WordPieces(400).build(Sides(pairs))
    monkeypatch.setattr("train.data.wordpieces.train_pieces", None)
    assert WordPieces(400).build(Sides(pairs)).fingerprint == first.fingerprint
    seen = []
    monkeypatch.setattr("train.data.wordpieces.train_pieces", lambda texts, *more: seen.extend(texts) or _stop())
    with pytest.raises(LookupError):
        WordPieces(401).build(Sides(pairs))
    assert sorted(seen) == sorted(Sides(pairs).build().texts("train"))


def _stop():
    raise LookupError


def test_language_models_read_it_too(local):
    """Bits per byte need every document's bytes, which the token stream checks."""
    source = LocalText(str(local), validation=0.2, test=0.2, per="line")
    data = Text(source, WordPieces(400), length=32)
    dataset = data.build()
    assert (data.describe().vocab, dataset.vocab) == (400, 400)
    assert dataset.description.separator is dataset.description.mask is None
    assert Tokens.of(dataset.tokenizer).token_bytes.sum() > 256
    assert np.asarray(dataset.rows["train"].tokens).max() < 400
    assert dataset.tokenizer.fingerprint != BPE(400).build(source).fingerprint


def test_the_marker_in_a_text_reads_as_a_space(tmp_path):
    """And its bytes are those of a space."""
    lines = [f"load \u2581\u2582 line {number} of the fox" for number in range(60)]
    (tmp_path / "text.txt").write_text("\n".join(lines), encoding="utf-8")
    source = LocalText(str(tmp_path / "text.txt"), validation=0.2, test=0.2, per="line")
    dataset = Text(source, WordPieces(400), length=32).build()
    ids = dataset.tokenizer.encode(lines[0])
    assert dataset.tokenizer.decode(ids) == lines[0].replace("\u2581", " ")
    assert dataset.tokenizer.token_bytes[ids].sum() == len(lines[0].encode()) - 2


def test_what_is_not_defined(pairs):
    with pytest.raises(SpecError, match="must be at least 259"):
        WordPieces(258)
    with pytest.raises(SpecError, match="must be between 0 and 1"):
        WordPieces(coverage=1.5)
    with pytest.raises(UserError, match="WordPieces learns from text"):
        WordPieces().build()
    with pytest.raises(SpecError, match=r"vocab=260: must be at least \d+: 258 fixed tokens and the \d+ characters"):
        WordPieces(260).build(Sides(pairs))
