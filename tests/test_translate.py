"""An encoder-decoder from the command line: text typed by a person, beams, scores, a picture, and what is refused."""

import dataclasses
from pathlib import Path
from xml.etree import ElementTree

import jax
import numpy as np
import pytest

from arch.decode.beam import Beam, Coverage
from arch.decode.generate import Decoded
from arch.models.base import Inputs
from arch.spec import UserError
from arch.taps import Tap
from experiments.attention_picture import draw, weights
from experiments.config.load import load
from experiments.study.baselines import baselines
from experiments.study.claims.claims import Better
from experiments.study.study import Study
from experiments.suites import translation
from experiments.suites.base import Asked
from tests.launching import launched
from train.loop import train
from train.trained import open_run

CONFIG = """
from arch.blocks import PreNorm
from arch.layers.attention.softmax import Attention
from arch.layers.attention.cross import CrossAttention
from arch.layers.feed_forward import MLP
from arch.layers.attention.masks import Bidirectional
from arch.layers.positions import Learned
from arch.models.encoder_decoder import EncoderDecoder, reading
from arch.models.trunk import Trunk
from train.data.local_pairs import LocalPairs
from train.data.parallel_text import ParallelText
from train.data.tokenizers import Bytes
from train.objectives.sequence_to_sequence import SequenceToSequence
from train.optim import AdamW, Constant
from train.run import Logging, Run

def get_config(form=""):
    seeing = PreNorm(mixer=Attention(heads=2, mask=Bidirectional()), feed_forward=MLP(hidden=32))
    block = reading(PreNorm(mixer=Attention(heads=2), feed_forward=MLP(hidden=32)), CrossAttention(heads=2))
    return Run(
        model=EncoderDecoder(encoder=Trunk(256, 16, 1, seeing, embedding=None, position=Learned(64)),
                             decoder=Trunk(256, 16, 2, block)),
        data=ParallelText(LocalPairs({source!r}, {target!r}, validation=0.1, test=0.1), Bytes(), source_length=24,
                          length=24),
        objective=SequenceToSequence(), optimizer=AdamW(learning_rate=1e-2, schedule=Constant()),
        batch=16, steps=30, logging=Logging(log=30, evaluate=0, checkpoint=0),
    )
"""
WORDS = {"eins": "one", "zwei": "two", "drei": "three", "vier": "four"}


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A configuration and its run."""
    folder = tmp_path_factory.mktemp("translate")
    pairs = [(a, b, n) for n in range(3) for a in WORDS for b in WORDS]
    (folder / "a.de").write_text("".join(f"{a} {b} {a} {n}\n" for a, b, n in pairs))
    (folder / "a.en").write_text("".join(f"{WORDS[a]} {WORDS[b]} {WORDS[a]} {n}\n" for a, b, n in pairs))
    text = CONFIG.format(source=str(folder / "a.de"), target=str(folder / "a.en"))
    (folder / "mine.py").write_text(text)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STRATA_CACHE", str(folder / "cache"))
        train(load(str(folder / "mine.py")).spec, folder / "run")
        yield folder


@pytest.fixture(scope="module")
def opened(home):
    return open_run(load(str(home / "mine.py")).spec, home / "run")


@pytest.fixture
def launch(home, capsys):
    """`launch("generate", "--beam=2", ...)` -> (exit status, standard output, standard error)."""

    def run(verb, *words):
        status = launched(verb, f"--config={home / 'mine.py'}", f"--run_folder={home / 'run'}", *words)
        shown = capsys.readouterr()
        return status, shown.out, shown.err

    return run


def test_text_typed_by_a_person_and_a_picture_of_what_was_read(launch, opened, tmp_path):
    picture = tmp_path / "deep" / "attention.svg"
    words = ("--beam=3", "--length_penalty=0.6", "--coverage=0.2", "--prune=9", "--tokens=12")
    status, out, err = launch("generate", "--prompt=eins vier", *words, f"--attention={picture}")
    assert (status, err) == (0, "")
    strategy = Beam(3, 0.6, Coverage(0.2), 9.0)
    (wanted,) = opened.translations(["eins vier"], 12, strategy, jax.random.key(0))
    assert wanted
    assert out.splitlines() == [wanted, f"attention    {picture}"]
    ticks = {node.text for node in ElementTree.parse(picture).iter() if node.text}
    assert {"read", "written"} <= ticks


def test_the_picture_is_the_mean_of_what_the_model_attends_to(opened):
    pattern, rows, columns = weights(opened, "zwei", "two")
    assert (rows, columns) == (list("two"), list("zwei"))
    source = Inputs(np.array([[*b"zwei", 0]], np.int32))
    out = opened.model(Inputs(np.array([[0, *b"two"]], np.int32), source=source), tap=Tap(save=".*cross.attn.pattern"))
    each = np.asarray(out.taps["decoder.cross.attn.pattern"])  # L, B, N, T, S
    np.testing.assert_allclose(pattern, each[:, 0].mean(axis=(0, 1))[:3, :4], atol=1e-5)
    with pytest.raises(UserError, match="nothing was written"):
        draw(opened, "zwei", "", Path("unused"))


def test_scores_of_translations(launch, opened, monkeypatch):
    """BLEU, chrF and GLEU of what is written: all of it right, and then the half."""
    status, out, _ = launch("evaluate", "--suite=translation")
    assert status == 0
    assert "suite translation on test" in out
    assert {"bleu", "chrf_score", "gleu_score", "token_accuracy", "length_ratio", "next_token_loss"} <= {
        line.split()[0] for line in out.splitlines() if line
    }
    assert "\nbaseline     copying bleu " in out

    def copied(share):
        def generate(model, prompts, new, *, strategy, stop, source):
            rows = asked.rows["tokens"][generate.done : generate.done + len(prompts), 1:]
            generate.done += len(prompts)
            lengths = ((rows != stop) & (rows > 0)).sum(axis=1)
            return Decoded(rows, (lengths * share).astype(int), np.zeros(rows.shape))

        generate.done = 0
        return generate

    asked = Asked(opened, "test", 8)
    score = translation.Translation(batch=3, called="x")
    monkeypatch.setattr(translation, "generate", copied(1))
    found = score.measure(asked)
    assert found == pytest.approx(
        {"x_bleu": 100.0, "x_chrf_score": 100.0, "x_gleu_score": 1.0, "x_token_accuracy": 1.0, "x_length_ratio": 1.0},
        abs=1e-4,
    )
    monkeypatch.setattr(translation, "generate", copied(0.5))
    half = score.measure(asked)
    assert half["x_length_ratio"] == pytest.approx(0.5, abs=0.1)
    assert half["x_token_accuracy"] == pytest.approx(0.5, abs=0.1)
    assert all(half[name] < found[name] for name in ("x_bleu", "x_chrf_score", "x_gleu_score"))


def test_copying_is_scored_as_a_model_that_writes_its_source(opened, monkeypatch):
    """And stands in a study beside what counting reaches, on the split that is judged."""
    score = translation.Translation(rows=4, batch=3, called="x")
    asked = Asked(opened, "test", 4)

    def generate(model, prompts, new, *, strategy, stop, source):
        rows = np.pad(source.tokens, ((0, 0), (0, new)))[:, :new]
        return Decoded(rows, (source.segments.sum(axis=1) - 1).astype(int), np.zeros(rows.shape))

    (found,) = score.baselines(opened.dataset, "test")
    monkeypatch.setattr(translation, "generate", generate)
    assert (found.name, found.values, found.bar) == ("copying", score.measure(asked), False)

    pairs = [
        tuple(opened.dataset.tokenizer.decode(row[there > 0]) for row, there in zip(*of, strict=True))
        for of in (
            (asked.rows["source"], asked.rows["source_segments"]),
            (asked.rows["tokens"], asked.rows["segments"]),
        )
    ]
    same = sum(a == b for one, two in zip(*pairs, strict=True) for a, b in zip(one, two, strict=False))
    assert found.values["x_token_accuracy"] == pytest.approx(same / sum(map(len, pairs[1])))
    assert 0 < found.values["x_token_accuracy"] < 1
    lengths = (sum(len(one.encode()) for one in side) for side in pairs)
    assert found.values["x_length_ratio"] == pytest.approx(next(lengths) / next(lengths))

    run = opened.program.run
    arms = {"a": run, "b": dataclasses.replace(run, steps=2)}
    study = Study("?", arms, (Better("a", than="b"),), metric="val/loss", suite=(score,), seeds=2)
    rows = baselines(study)
    assert [row["name"] for row in rows] == ["unigram", "bigram", "trigram", "copying"]
    assert rows[-1]["values"] == {f"suite/{name}": value for name, value in found.values.items()}


@pytest.mark.parametrize(
    ("verb", "words", "line"),
    [
        ("generate", ("--prompt=eins", "--coverage=0.2"), "--coverage belongs to beam search: give --beam as well"),
        ("generate", ("--prompt=", "--beam=2"), "a source must hold at least one token; it is empty"),
        ("generate", (f"--prompt={'eins ' * 20}",), "a source of 101 tokens does not fit the 64 positions"),
        ("evaluate", ("--suite=language",), "suite=language: Retrieval embeds a text by itself"),
        ("evaluate", ("--suite=nonsense",), "suite=nonsense: must be one of language, translation"),
    ],
)
def test_bad_input_is_one_line(launch, verb, words, line):
    status, _, err = launch(verb, *words)
    assert status == 2
    assert len(err.strip().splitlines()) == 1
    assert line in err


def test_data_that_are_no_text_are_said_to_be_none(tmp_path):
    run = load("experiments/translate.py:tiny").spec
    done = train(run, tmp_path / "run")
    assert done.metrics["val/loss"] < 3.0
    with pytest.raises(UserError, match="Reversed is no text: it has no tokenizer to read a prompt by"):
        open_run(run, tmp_path / "run").translations(["eins"], 2, Beam(1), jax.random.key(0))
