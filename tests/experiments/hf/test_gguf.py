"""`import` of GGUF files: the tokenizer in them, a run that is gone on from, a package that has one inside."""

import dataclasses
import json
import zipfile

import numpy as np
import pytest
import tokenizers
from tokenizers import models, pre_tokenizers

from arch.decode.sampling import Greedy
from arch.spec import UserError
from experiments.config import render
from experiments.hf import gguf_tokenizer, origins
from experiments.hf.export import Options, export
from experiments.hf.imports import import_
from tests.arch.hf.gguf_files import METADATA, D, content, logits, stored, weights
from train.data import LocalText, cache
from train.data.tokenizers import PROBES, train_bpe
from train.run import Run
from train.setup import prepare
from train.starts.start import FromRun, begin
from train.trained import open_run

SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
TEMPLATE = "{% for message in messages %}{{ message['content'] }}{% endfor %}"
TEXTS = [*PROBES, "in 1984, 20 000 men; it's 3.14!\n", "<|im_start|>user", "a\t\tb   c", ""]


@pytest.fixture(scope="module")
def metadata():
    """That of a file with a tokenizer of bytes and some merges, special tokens first."""
    learned = json.loads(train_bpe(iter(["the 1984 men of the 20th of the men", *PROBES] * 9), 300))["model"]
    tokens = [*SPECIAL, *(token for token in learned["vocab"] if token not in SPECIAL)]
    merges = [merge if isinstance(merge, str) else " ".join(merge) for merge in learned["merges"]]
    return METADATA | {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "smollm",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": [3] * len(SPECIAL) + [1] * (len(tokens) - len(SPECIAL)),
        "tokenizer.ggml.merges": merges,
        "tokenizer.ggml.bos_token_id": 1,
        "tokenizer.ggml.eos_token_id": 2,
        "tokenizer.chat_template": TEMPLATE,
    }


@pytest.fixture(scope="module")
def arrays(metadata):
    table = np.random.default_rng(5).normal(size=(len(metadata["tokenizer.ggml.tokens"]), D)) * 0.5
    return weights() | {"token_embd.weight": table.astype(np.float32)}


@pytest.fixture(scope="module")
def home(metadata, arrays, tmp_path_factory):
    """A folder with a package that holds the file, and the run that it was imported as, by name."""
    folder = tmp_path_factory.mktemp("home")
    (folder / "text.txt").write_text("".join(f"the {n} men of line {n * n}\n" for n in range(90)))
    (folder / "model.gguf").write_bytes(content(metadata, stored(arrays)))
    with zipfile.ZipFile(folder / "small-1.whl", "w") as wheel:
        wheel.write(folder / "model.gguf", "small/model.gguf")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STRATA_CACHE", str(folder / "cache"))
        patch.setenv("STRATA_SOURCES", str(folder))
        sha256 = cache.file_sha256(folder / "small-1.whl")
        package = origins.Package("small", "1", "small-1.whl", (folder / "small-1.whl").stat().st_size, sha256, "none")
        source = LocalText(str(folder / "text.txt"), validation=0.3, per="line")
        patch.setitem(origins.NAMED, "small", origins.Inside(package, "small/model.gguf", source))
        import_("small", str(folder / "run"), note=lambda line: None)
        yield folder


@pytest.fixture(scope="module")
def run(home):
    return render.read(str(home / "run"))


def test_ids_are_those_of_a_tokenizer_built_apart(metadata, run):
    tokens = metadata["tokenizer.ggml.tokens"]
    merges = [tuple(merge.split()) for merge in metadata["tokenizer.ggml.merges"]]
    theirs = tokenizers.Tokenizer(models.BPE({token: place for place, token in enumerate(tokens)}, merges))
    theirs.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(tokenizers.Regex(r"\p{N}"), "isolated"), pre_tokenizers.ByteLevel(False)]
    )
    ours = run.data.tokenizer.build()
    for text in TEXTS:
        assert ours.encode(text) == theirs.encode(text).ids
    assert (ours.bos, ours.eos) == (1, 2)
    digits = ours.encode("1984")
    assert len(digits) == 4
    assert ours.token_bytes[:3].tolist() == [0, 0, 0]


def test_the_run_is_the_model_in_the_file(home, run, arrays):
    assert (home / "run" / "chat_template.jinja").read_text() == TEMPLATE
    opened = open_run(run, str(home / "run"))
    (text,) = opened.continuations(["the 19"], 6, Greedy(), None)
    tokenizer = opened.dataset.tokenizer
    ids = [tokenizer.bos, *tokenizer.encode("the 19")]
    for _ in range(6):
        ids.append(int(logits(arrays, np.array(ids))[-1].argmax()))
        if ids[-1] == tokenizer.eos:
            break
    assert text == tokenizer.decode(ids)
    assert opened.evaluate()["val/loss"] > 1


def test_a_run_starts_from_it(home, run, arrays):
    other = dataclasses.replace(run, start=FromRun(str(home / "run")))
    program = prepare(other, run.data.build().description)
    state = begin(other.start, program.start(), lambda line: None)
    np.testing.assert_array_equal(state["params"]["embedding"]["table"], arrays["token_embd.weight"])


def test_an_export_keeps_the_template(home):
    out = export(str(home / "run"), str(home / "out"), Options(check=False), note=lambda line: None)
    assert (out / "chat_template.jinja").read_text() == TEMPLATE
    assert json.loads((out / "config.json").read_text())["rope_parameters"]["rope_theta"] == 500.0


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"tokenizer.ggml.model": "llama"}, "tokenizer.ggml.model='llama' is not read; 'gpt2' is"),
        ({"tokenizer.ggml.pre": "qwen2"}, "tokenizer.ggml.pre='qwen2' is not read; these are: default"),
        ({"tokenizer.ggml.add_space_prefix": True}, "would not keep their bytes"),
        ({"tokenizer.ggml.merges": ["a b c"]}, "'a b c' is not two tokens that make a third"),
        ({"tokenizer.ggml.tokens": ["a", "a"], "tokenizer.ggml.merges": ["a a"]}, "has a token twice"),
        ({"tokenizer.ggml.token_type": [1]}, "must say the kind of each token"),
        ({"tokenizer.ggml.tokens": None}, "tokenizer.ggml.tokens: must be a list of texts"),
    ],
)
def test_other_tokenizers_are_told(metadata, change, told):
    with pytest.raises(UserError) as error:
        gguf_tokenizer.definition(metadata | change)
    assert told in str(error.value)
    assert "\n" not in str(error.value)


def test_a_model_without_a_readable_tokenizer_is_imported(home, metadata, arrays, tmp_path):
    (tmp_path / "model.gguf").write_bytes(content(metadata | {"tokenizer.ggml.pre": "qwen2"}, stored(arrays)))
    said: list[str] = []
    found = import_(str(tmp_path / "model.gguf"), str(tmp_path / "run"), note=said.append)
    assert isinstance(found, Run)
    assert found.data.tokenizer is None
    assert any("tokenizer.ggml.pre='qwen2' is not read" in line for line in said)
