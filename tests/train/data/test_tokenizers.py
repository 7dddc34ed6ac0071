import copy
import json

import pytest
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers

from arch.spec import SpecError, UserError
from train.data import BPE, Bytes, LocalText, TokenizerFile, cache
from train.data.definitions import backtracking
from train.data.tokenizers import END, train_bpe, up_to

HARD = [
    "plain",
    "",
    " leading and  double  ",
    "tabs\tand\nnewlines\r\n",
    "naïve Ω 中文 \U0001f600\u200d",
    "A\u0301 \ufb01",
    f"text that spells {END} out",
    "0123456789 1e-5 don't I'LL",
    "\u2028\x01\x7f\ufeff",
    "<s> </s> [UNK]",
]


@pytest.fixture
def source(local):
    return LocalText(str(local), validation=0.2, per="line")


@pytest.fixture
def definition(source):
    return json.loads(train_bpe(source.build().texts("train"), 300))


@pytest.fixture
def load(tmp_path):
    def load(definition, **fields):
        path = tmp_path / "tokenizer.json"
        path.write_text(definition if isinstance(definition, str) else json.dumps(definition), encoding="utf-8")
        return TokenizerFile(str(path), **fields).build()

    return load


@pytest.fixture(params=["bytes", "bpe", "file"])
def tokenizer(request, source, definition, load):
    return {"bytes": lambda: Bytes().build(), "bpe": lambda: BPE(320).build(source), "file": lambda: load(definition)}[
        request.param
    ]()


def test_nothing_is_drawn(definition, load, caplog):
    """A tokenizer trained with BPE dropout would encode a text differently each time, under one fingerprint."""
    plain = load(definition)
    assert not caplog.records
    dropping = {**definition, "model": {**definition["model"], "dropout": 0.5}}
    tokenizer = load(dropping)
    assert "BPE dropout of 0.5 is switched off" in caplog.text
    text = "the known river of a small city " * 5
    assert [tokenizer.encode(text) for _ in range(5)] == [plain.encode(text)] * 5
    assert [ids.tolist() for ids in tokenizer.encode_batch([text] * 5)] == [plain.encode(text)] * 5
    assert json.loads(tokenizer.definition())["model"]["dropout"] is None
    assert tokenizer.fingerprint != cache.digest(json.dumps(dropping), 0, 0, plain.vocab)
    assert plain.fingerprint == cache.digest(json.dumps(definition), 0, 0, plain.vocab)
    still = {**definition, "model": {**definition["model"], "dropout": 0.0}}
    assert load(still).fingerprint == cache.digest(json.dumps(still), 0, 0, plain.vocab)


def test_text_survives_and_its_bytes_are_counted(tokenizer):
    for text in HARD:
        ids = tokenizer.encode(text)
        assert tokenizer.decode(ids) == text
        assert sum(tokenizer.token_bytes[ids]) == len(text.encode())
        assert tokenizer.bos not in ids
        assert tokenizer.eos not in ids
        assert max(ids, default=0) < tokenizer.vocab


def test_a_batch_is_its_texts(tokenizer):
    assert [list(ids) for ids in tokenizer.encode_batch(HARD)] == [tokenizer.encode(text) for text in HARD]


def test_special_tokens_stand_for_no_bytes_and_no_text(tokenizer):
    assert tokenizer.token_bytes[tokenizer.bos] == tokenizer.token_bytes[tokenizer.eos] == 0
    assert tokenizer.decode([tokenizer.bos, *tokenizer.encode("text"), tokenizer.eos]) == "text"
    assert tokenizer.token_bytes.shape == (tokenizer.vocab,)


def test_half_a_character_decodes_to_a_mark(tokenizer):
    ids = tokenizer.encode("\U0001f600")
    assert "\ufffd" in tokenizer.decode(ids[:-1])


def test_bytes_are_bytes():
    tokenizer = Bytes().build()
    assert tokenizer.vocab == 256
    assert tokenizer.bos == tokenizer.eos == 0
    assert tokenizer.encode("aé") == [97, 195, 169]
    assert tokenizer.encode("a\0b") == [97, 98]


def test_bpe_learns_merges_once(source, monkeypatch):
    tokenizer = BPE(320).build(source)
    assert tokenizer.vocab == 320
    text = "the river of music"
    assert len(tokenizer.encode(text)) <= len(text) / 2
    monkeypatch.setattr("train.data.tokenizers.train_bpe", None)
    assert BPE(320).build(source).fingerprint == tokenizer.fingerprint


def test_bpe_training_is_deterministic(source):
    texts = list(source.build().texts("train"))
    assert train_bpe(iter(texts), 400) == train_bpe(iter(texts), 400)


def test_bpe_learns_from_a_sample_of_large_data(source):
    assert list(up_to(7, ["aé", "bbbb", "c"])) == ["aé", "bbbb"]
    assert list(up_to(99, ["aé", "bbbb", "c"])) == ["aé", "bbbb", "c"]
    assert BPE(320, sample=500).build(source).fingerprint != BPE(320).build(source).fingerprint


def test_a_vocabulary_that_the_text_does_not_fill(source):
    tokenizer = BPE(50_000).build(source)
    assert tokenizer.vocab == 50_000
    assert tokenizer.token_bytes[-1] == 0
    assert tokenizer.decode([49_999]) == ""


def test_bpe_needs_room_for_the_bytes_and_a_source():
    with pytest.raises(SpecError, match=r"BPE\.vocab=256: must be at least 257"):
        BPE(256)
    with pytest.raises(UserError, match="BPE learns from text"):
        BPE().build()


def test_added_tokens_are_counted_as_their_text(definition, load):
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": False}
    definition["added_tokens"].append({"id": 300, "content": "Ωmega", **flags})
    tokenizer = load(definition)
    assert tokenizer.encode("an Ωmega")[-1] == 300
    assert tokenizer.token_bytes[300] == 6


def test_a_loaded_tokenizer_finds_its_ends(definition, load):
    special = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    definition["added_tokens"] += [
        {"id": 300 + i, "content": c, **special} for i, c in enumerate(("<s>", "</s>", "<x>"))
    ]
    tokenizer = load(definition)
    assert tokenizer.bos == 300
    assert tokenizer.eos == 0
    named = load(definition, bos="<x>", eos="</s>")
    assert (named.bos, named.eos) == (302, 301)
    assert named.fingerprint != tokenizer.fingerprint
    with pytest.raises(SpecError, match=r"eos='<y>': must be one of the special tokens of .*: <\|endoftext\|>, <s>"):
        load(definition, eos="<y>")


def lossy(change):
    tokenizer = Tokenizer(models.BPE(vocab={c: i for i, c in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))},
                                     merges=[]))  # fmt: skip
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=change == "prefix")
    tokenizer.decoder = decoders.ByteLevel()
    if change == "normalizer":
        tokenizer.normalizer = normalizers.NFKC()
    if change == "not byte-level":
        tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.add_special_tokens([END])
    return tokenizer.to_str()


@pytest.mark.parametrize("change", ["prefix", "normalizer", "not byte-level"])
def test_a_tokenizer_that_loses_bytes_is_refused(change, load):
    with pytest.raises(UserError, match=r"does not keep the bytes of .*: it must be byte-level BPE"):
        load(lossy(change))
    assert load(lossy("nothing")).encode("a") == [ord("a") - 33]


def changed(definition, path, value):
    """`definition` with `value` at a path of keys and indices."""
    *above, last = path
    inner = copy.deepcopy(definition)
    whole = inner
    for key in above:
        inner = inner[key]
    inner[last] = value
    return whole


# Path in the definition, what stands there instead, and what is said of it.
WRONG = {
    "2^32": (("model", "vocab", "a"), 2**32, r"model\.vocab: there is an id 4,294,967,296 although there are"),
    "2^32 - 1": (("model", "vocab", "a"), 2**32 - 1, r"model\.vocab: there is an id 4,294,967,295"),
    "a million": (("added_tokens", 0, "id"), 1_000_000, r"added_tokens: there is an id 1,000,000 although"),
    "negative": (("model", "vocab", "a"), -1, r"an id must be a whole number from 0 on, not -1"),
    "a fraction": (("model", "vocab", "a"), 1.5, r"an id must be a whole number from 0 on, not 1\.5"),
    "a truth": (("added_tokens", 0, "id"), True, r"an id must be a whole number from 0 on, not True"),
    "text for an id": (("model", "vocab", "a"), "3", r"an id must be a whole number from 0 on, not '3'"),
    "text for a vocabulary": (("model", "vocab"), "abc", r"is not a tokenizer\.json"),
    "no vocabulary": (("model", "vocab"), None, r"is not a tokenizer\.json"),
    "a number for a model": (("model",), 3, r"is not a tokenizer\.json"),
    "merges of numbers": (("model", "merges"), [[1, 2]], r"is not a tokenizer\.json"),
    "a merge of nothing": (("model", "merges"), [["zzz", "yyy"]], r"is not a tokenizer\.json"),
    "a number for a token": (("added_tokens", 0, "content"), 7, r"bos=None: must be one of the special tokens of"),
    "nothing for a token": (("added_tokens", 0, "content"), None, r"bos=None: must be one of the special tokens of"),
    "an unknown step": (("pre_tokenizer",), {"type": "Sideways"}, r"is not a tokenizer\.json"),
    "no expression": (("pre_tokenizer",), {"type": "Split", "pattern": {"Regex": "("}, "behavior": "Isolated",
                      "invert": False}, r"is not a tokenizer\.json"),
    "backtracking": (("pre_tokenizer",), {"type": "Sequence", "pretokenizers": [{"type": "Split", "pattern": {
                     "Regex": "(a+)+$"}, "behavior": "Isolated", "invert": False}]},
                     r"regular expression '\(a\+\)\+\$' may take forever: '\(a\+\)\+' repeats what can be repeated"),
}  # fmt: skip


@pytest.mark.parametrize(("path", "value", "line"), WRONG.values(), ids=WRONG)
def test_a_file_with_something_wrong_in_it_is_one_line(load, definition, path, value, line):
    with pytest.raises((UserError, SpecError), match=line) as caught:
        load(changed(definition, path, value))
    assert "\n" not in str(caught.value)


def test_a_file_that_is_nested_deeply_is_one_line(load):
    with pytest.raises(SpecError, match=r"is not a tokenizer\.json"):
        load('{"added_tokens": ' + "[" * 20_000 + "]" * 20_000 + "}")


SLOW = ("(a+)+$", "(a*)*b", "(a|aa)+$", "(?:a?b?)*c", r"((\w+)\s?)+:", "(?>x(?:a+b*)*)y", r"(\p{L}+)*'",
        "([ab]*c?){9,}d", "((a{1,3}))+b", r"(?i:(?:\(a|b\))+)+")  # fmt: skip
PUBLISHED = (
    r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)",
    r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+",
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\s+",
    r" ?[^(\s|[.,!?…。、।])]+",
    r"(?=(\d{3})+(?!\d))",
    "[0-9][0-9][0-9]",
    r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*",
)


def test_expressions_that_take_forever_are_told_from_those_that_tokenizers_have():
    assert [one for one in SLOW if not backtracking(one)] == []
    assert [one for one in PUBLISHED if backtracking(one)] == []


def test_files_that_are_no_tokenizer(load, tmp_path):
    with pytest.raises(SpecError, match=r"TokenizerFile\.path=.*: cannot be read \(No such file"):
        TokenizerFile(str(tmp_path / "gone.json")).build()
    for content in ("{}", "not json", '{"added_tokens": 3}'):
        with pytest.raises(SpecError, match=r"path=.*: is not a tokenizer\.json"):
            load(content)
    with pytest.raises(UserError, match=r"tokenizer\.json: is not a tokenizer\.json \(KeyError: 'model'\)"):
        load('{"added_tokens": [{"content": "<s>", "special": true}, {"content": "</s>", "special": true}]}')


def test_ids_that_are_no_bytes_stand_for_nothing():
    """As a model of a larger vocabulary may write them."""
    assert Bytes().build().decode([104, 256, 105, 60_000]) == "hi"
