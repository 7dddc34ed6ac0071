"""Exports in a training, and folders with code of their own as runs again; neither needs torch."""

import dataclasses
import json
import shutil
import types

import jax
import numpy as np
import pytest

from arch.hf.family import Facts
from arch.hf.folder import write
from arch.layers.norms.common import RMSNorm
from arch.models.classifier import Classifier
from arch.models.embedder import Embedder
from arch.models.encoder_decoder import EncoderDecoder
from arch.models.gnmt import GNMT
from arch.spec import UserError
from experiments.config import load, render
from experiments.hf import every, own
from experiments.hf.card import Told, card
from experiments.hf.every import ExportEvery
from experiments.hf.export import Options
from experiments.hf.imports import import_
from tests.arch.hf.generated_cases import CASES, drawn, planned
from train import loop
from train.data.without_rows import WithoutRows
from train.objectives.classification import Classification
from train.objectives.contrastive import Contrastive
from train.objectives.next_token import NextToken
from train.objectives.sequence_to_sequence import SequenceToSequence
from train.run import Run
from train.starts.start import FromRun
from train.trained import open_run

CONFIG = """
from arch.blocks.post_norm import PostNorm
from arch.bottlenecks.codebook import Codebook
from arch.layers.attention.softmax import Attention
from arch.layers.norms.common import RMSNorm
from arch.layers.positions import ALiBi
from arch.models.decoder import Decoder
from arch.stacks.sequential import Sequential
from train.data import LocalText, Text
from train.run import Logging, Run

class Mine(RMSNorm):
    pass

def get_config(form=""):
    block = PostNorm(mixer=Attention(heads=2, position=ALiBi()))
    stack = Sequential(between=((1, Codebook(codes=8)),))
    return Run(
        model=Decoder(vocab=256, width=16, depth=2, block=block, stack=stack),
        data=Text(source=LocalText({files!r}, validation=0.3, per="line"), length=16),
        batch=4, steps=3, logging=Logging(log=1, evaluate=0, checkpoint=2),
    )
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A run of three steps, exported after the second and the last."""
    folder = tmp_path_factory.mktemp("home")
    (folder / "text.txt").write_text("".join(f"the {n} little words of line {n * n}\n" for n in range(60)))
    (folder / "mine.py").write_text(CONFIG.format(files=str(folder / "text.txt")))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STRATA_CACHE", str(folder / "cache"))
        run = load.load(str(folder / "mine.py")).spec
        hook = ExportEvery.into(2, str(folder / "run"), None, Options(check=False))
        loop.train(run, folder / "run", describe=lambda at: render.write(at, run), hooks=[hook])
        yield folder


def arrays(opened):
    held, _ = jax.tree_util.tree_flatten_with_path({kind: opened.state[kind] for kind in ("params", "buffers")})
    return {jax.tree_util.keystr(path): np.asarray(leaf) for path, leaf in held}


def same(ours, theirs, *, fresh):
    """Equal arrays, but for those that end in `fresh`."""
    assert ours.keys() == theirs.keys()
    for path, array in ours.items():
        if not (fresh and path.endswith(fresh)):
            np.testing.assert_array_equal(array, theirs[path], err_msg=path)


def test_a_training_exports_and_the_last_export_is_its_run_again(home):
    assert sorted(path.name for path in (home / "run" / "export").iterdir()) == ["2", "3"]
    said = []
    run = import_(str(home / "run" / "export" / "3"), str(home / "back"), note=said.append)
    trained = open_run(render.read(home / "run"), home / "run")
    assert said[0].endswith("of code of its own, not executed; fresh: stack.between.1.counts")
    assert run.model == trained.program.run.model
    back = open_run(render.read(home / "back"), home / "back")
    same(arrays(trained), arrays(back), fresh="['counts']")
    assert back.dataset.tokenizer.encode("the 1") == trained.dataset.tokenizer.encode("the 1")
    earlier = (home / "run" / "export" / "2" / "model.safetensors").read_bytes()
    assert earlier != (home / "run" / "export" / "3" / "model.safetensors").read_bytes()


@pytest.mark.parametrize(
    "name",
    [
        *(pytest.param(name, marks=pytest.mark.slow) for name in ("pair post-norm", "translator forward", "embedder")),
        "classifier first",
    ],
)
def test_other_kinds_of_models_come_back(name, tmp_path):
    spec = CASES[name]
    held = Run(model=spec, data=WithoutRows(spec.vocab), objective=NextToken())
    write(planned(spec, Facts(bos=0, eos=1)), tmp_path / "out", files={own.FILE: own.text(held)})
    run = import_(str(tmp_path / "out"), str(tmp_path / "run"), note=lambda line: None)
    assert run.model == spec
    assert run.objective == OBJECTIVES[type(spec)]
    _, params, buffers = drawn(spec)
    found = open_run(run, tmp_path / "run")
    held, _ = jax.tree_util.tree_flatten_with_path({"params": params, "buffers": buffers})
    same({jax.tree_util.keystr(path): np.asarray(leaf) for path, leaf in held}, arrays(found), fresh="")


OBJECTIVES = {EncoderDecoder: SequenceToSequence(), GNMT: SequenceToSequence(), Classifier: Classification(),
              Embedder: Contrastive()}  # fmt: skip


def changed(home, to, change):
    """The last export, with its configuration changed."""
    shutil.copytree(home / "run" / "export" / "3", to)
    told = json.loads((to / own.FILE).read_text())
    change(told)
    (to / own.FILE).write_text(json.dumps(told))
    return to


def block(told):
    return told["config"]["fields"]["model"]["fields"]["block"]


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (lambda told: block(told).update({"class": "os:system"}), "names os:system, which is no class of Strata's own"),
        (lambda told: block(told)["fields"].update(norm={"enum": "os:X", "name": "y"}), "names os:X, which is no"),
        (lambda told: block(told).update({"class": "arch.spec:os.system"}), "arch.spec no longer has os.system"),
        (lambda told: block(told).update({"class": "arch.nothing:No"}), "arch.nothing:No is gone"),
        (lambda told: told.pop("config"), "is no configuration of a run"),
        (lambda told: told.update(format=9), "has format 9; this version reads 1"),
        (lambda told: told["config"]["fields"].update(model=told["config"]["fields"]["objective"]),
         "its model is a NextToken, which is no model"),
    ],
)  # fmt: skip
def test_a_bad_configuration_is_one_line(home, tmp_path, change, line):
    with pytest.raises(UserError) as caught:
        import_(str(changed(home, tmp_path / "bad", change)), str(tmp_path / "run"), note=lambda line: None)
    assert line in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["bad"]


def test_a_folder_without_its_configuration_is_one_line(home, tmp_path):
    shutil.copytree(home / "run" / "export" / "3", tmp_path / "bad")
    (tmp_path / "bad" / own.FILE).unlink()
    with pytest.raises(UserError, match=r"has no strata.json, .*; export the run anew$"):
        import_(str(tmp_path / "bad"), str(tmp_path / "run"), note=lambda line: None)


def test_a_class_of_a_user_is_that_of_the_file_that_is_given(home, tmp_path):
    """And no file that the configuration names is executed."""
    (tmp_path / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\nclass Mine: pass\n")
    norm = {"class": "evil:Mine", "fields": {}}

    def change(told):
        told["files"] = {"evil": str(tmp_path / "evil.py")}
        block(told)["fields"]["norm"] = norm

    at = changed(home, tmp_path / "out", change)
    with pytest.raises(UserError, match=r"names evil:Mine, .* by --like=FILE.py$"):
        own.model_of(at)
    with pytest.raises(UserError, match=r"names evil:Mine, and .*other.py has no Mine$"):
        own.model_of(at, types.SimpleNamespace(__name__="other", __file__="other.py"))
    given = load.load(str(home / "mine.py")).module
    model = own.model_of(at, given)
    assert type(model.block.norm) is given.Mine
    assert isinstance(model.block.norm, RMSNorm)
    assert not (tmp_path / "ran").exists()


def test_no_file_of_an_export_names_a_place_on_this_machine(home):
    """Not that of the data, nor of what the run started from."""
    out = home / "run" / "export" / "3"
    texts = {path.name: path.read_text() for path in out.iterdir() if path.suffix in (".json", ".md", ".py")}
    assert len(texts) > 5
    assert [name for name, text in texts.items() if str(home) in text] == []
    assert '"text.txt"' in texts[own.FILE]
    started = Told(
        "x", dataclasses.replace(render.read(home / "run"), start=FromRun(str(home / "earlier"))), 1, {}, *"abcd"
    )
    assert "| started from | earlier |" in card(started)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("/home/me/data/*.txt", "*.txt"),
        ("~/data/a.txt", "a.txt"),
        ("C:\\data\\a.txt", "a.txt"),
        ("/home/me/runs/", "runs"),
        ("experiments/hf/own.py", "own.py"),
        ("gs://bucket/run", "gs://bucket/run"),
        ("https://a.org/b.txt", "https://a.org/b.txt"),
        ("HuggingFaceTB/SmolLM2", "HuggingFaceTB/SmolLM2"),
        ("line", "line"),
    ],
)
def test_of_a_place_the_name_stays(text, told):
    assert own.placeless({"class": "a:b", "fields": [text, {"x": text}, 3]}) == {
        "class": "a:b", "fields": [told, {"x": told}, 3]
    }  # fmt: skip


def test_the_configuration_names_no_places_of_files(home):
    told = json.loads((home / "run" / "export" / "3" / own.FILE).read_text())
    assert told["files"] == {}
    assert "start" not in told["config"]["fields"] or told["config"]["fields"]["start"] is None


def test_an_export_that_fails_is_one_line(tmp_path, monkeypatch):
    errors = iter([UserError("no\nroom"), ValueError("what")])

    def fails(*told, **more):
        raise next(errors)

    monkeypatch.setattr(every, "export_opened", fails)
    hook, said = ExportEvery.into(5, str(tmp_path), None), []
    opened = types.SimpleNamespace(step=5)
    hook(opened, said.append)
    hook(opened, said.append)
    assert said == [
        "step 5: not exported, the training goes on: no room",
        "step 5: not exported, the training goes on: ValueError: what",
    ]
    (tmp_path / "export" / "5").mkdir(parents=True)
    hook(opened, said.append)  # of an earlier process: it stays
    assert len(said) == 2
    assert [step for step in range(1, 13) if hook.due(step, 12)] == [5, 10, 12]
    with pytest.raises(UserError, match="is in a store; give a folder here by --to=FOLDER"):
        ExportEvery.into(5, "gs://there/run", None)
