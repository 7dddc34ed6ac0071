"""The verbs of launch.py on a real run: trained, refused, gone on with, opened, evaluated, continued, inspected."""

import json
import os
import shutil

import pytest

from tests.launching import launched
from tests.watch import snapshot, watch

CONFIG = """
from arch.blocks import PreNorm
from arch.layers.attention.softmax import Attention
from arch.models.decoder import Decoder
from train.data import LocalText, Text
from train.run import Logging, Run

def get_config(form=""):
    return Run(
        model=Decoder(vocab=256, width=16, depth=2, block=PreNorm(mixer=Attention(heads=2))),
        data=Text(source=LocalText({files!r}, validation=0.3, per="line"), length=16),
        batch=4, steps=3, logging=Logging(log=1, evaluate=0, checkpoint=2, prompt="the"),
    )
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A configuration file, its data, and a cache of its own; the run is trained once."""
    folder = tmp_path_factory.mktemp("home")
    (folder / "text.txt").write_text("".join(f"the {n} little words of line {n * n}\n" for n in range(60)))
    (folder / "mine.py").write_text(CONFIG.format(files=str(folder / "text.txt")))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STRATA_CACHE", str(folder / "cache"))
        yield folder


@pytest.fixture
def launch(home, capsys):
    """`launch("train", "--config.x=1", ...)` -> (exit status, standard output, standard error)."""

    def run(verb, *words, config=True):
        status = launched(verb, *([f"--config={home / 'mine.py'}"] if config else []), *words)
        shown = capsys.readouterr()
        return status, shown.out, shown.err

    return run


@pytest.fixture
def trained(home, launch):
    folder = home / "run"
    if not folder.exists():
        status, out, err = launch("train", f"--run_folder={folder}")
        assert (status, err) == (0, "")
        (home / "out.txt").write_text(out)
    return folder


def test_training_ends_with_the_result_its_baselines_and_a_sample(home, trained):
    out = (home / "out.txt").read_text()
    lines = [json.loads(line) for line in (trained / "metrics.jsonl").read_text().splitlines()]
    last = [line for line in lines if "val/bits_per_byte" in line][-1]
    assert f"bits_per_byte {last['val/bits_per_byte']:.4f}" in out
    assert "; bigram loss " in out
    assert "sample, temperature 0.8:\n  the" in out
    assert str(trained) in out
    assert (trained / "config.txt").exists()


def test_evaluation_finds_what_training_ended_with(home, trained, launch):
    status, out, _ = launch("evaluate", f"--run_folder={trained}", config=False)
    (line,) = [line for line in out.splitlines() if line.startswith("validation")]
    assert status == 0
    assert line in (home / "out.txt").read_text()
    assert "step 3" in out


@pytest.mark.parametrize("verb", ["evaluate", "generate", "compare"])
def test_looking_changes_nothing(verb, home, trained, launch, monkeypatch):
    """Another process may be at it: its half-written checkpoint, a damaged one and its lock stay. The right to write is
    not asked for."""
    run = home / "looked_at"
    if not run.exists():
        shutil.copytree(trained, run)
        shutil.copytree(run / "checkpoints" / "3", run / "checkpoints" / "4.orbax-checkpoint-tmp")
        (run / "checkpoints" / "3" / "files.json").unlink()
        (run / "run.json.lock").write_text(json.dumps({"host": "elsewhere", "pid": 1, "beat": 2e9}))
    allowed = os.access
    refused = lambda path, mode, **more: not mode & os.W_OK and allowed(path, mode, **more)  # noqa: E731
    before = snapshot(run)
    with watch() as seen, monkeypatch.context() as patch:
        patch.setattr(os, "access", lambda path, *more, **named:
                      (refused if str(path).startswith(str(run)) else allowed)(path, *more, **named))  # fmt: skip
        status, out, err = launch(verb, *([str(run)] if verb == "compare" else [f"--run_folder={run}"]), config=False)
    assert (status, err) == (0, "")
    assert verb not in ("evaluate", "generate") or "checkpoint 3" in out
    assert seen.within(run) == []
    assert snapshot(run) == before


def test_watching_sees_what_is_written(tmp_path):
    """Or the test above could not fail."""
    with watch() as seen:
        (tmp_path / "a").mkdir()
        (tmp_path / "a" / "b").write_text("x")
        (tmp_path / "a" / "b").rename(tmp_path / "c")
        os.close(os.open(tmp_path / "d", os.O_CREAT | os.O_WRONLY))
        (tmp_path / "c").read_text()
        shutil.rmtree(tmp_path / "a")
    names = [str(path.relative_to(tmp_path.resolve())) for path in seen.within(tmp_path)]
    assert [name for name in names if name not in ("a",)] == ["a/b", "a/b", "c", "d"]
    assert names.count("a") >= 2


def test_generation_continues_each_prompt(trained, launch):
    words = (f"--run_folder={trained}", "--prompt=the 1", "--prompt=words", "--tokens=5", "--temperature=0")
    status, out, _ = launch("generate", *words)
    assert status == 0
    assert out.startswith("the 1")
    assert "\nwords" in out
    assert launch("generate", *words)[1] == out


def test_another_configuration_is_refused_with_the_difference(trained, launch):
    before = (trained / "metrics.jsonl").read_bytes()
    status, _, err = launch("train", f"--run_folder={trained}", "--config.model.depth=4")
    assert status == 2
    assert "model.depth: 2 -> 4" in err
    assert (trained / "metrics.jsonl").read_bytes() == before


def test_inspection_shows_parameters_flops_and_memory(launch):
    status, out, _ = launch("inspect")
    assert status == 0
    assert "stack.blocks.mixer.q.kernel" in out
    assert "MiB state" in out


BAD = {
    "a misspelt field": (["--config.model.detph=3"], "did you mean depth"),
    "a wrong type": (["--config.model.depth=three"], "expected int"),
    "an impossible value": (["--config.model.block.mixer.heads=-1"], "must be at least 1"),
    "heads that do not divide": (["--config.model.block.mixer.heads=3"], "must divide the width 16"),
    "a mesh that does not fit": (["--config.mesh.tensor=64"], "config.mesh.tensor=64"),
    "a batch that does not divide": (["--config.accumulate=3"], "must be a multiple of accumulate=3"),
    "missing data": (["--config.data.source.files=/nowhere/*.txt"], "/nowhere/*.txt"),
    "seeds without a sweep": (["--seeds=3"], "--seeds: belongs to --sweep; a run alone has one, --config.seed=3"),
    "too small a vocabulary": (["--config.model.vocab=100"], "must be at least 256"),
}


@pytest.mark.parametrize(("words", "said"), BAD.values(), ids=BAD)
def test_bad_input_is_one_clear_line(words, said, launch, tmp_path):
    status, _, err = launch("train", f"--run_folder={tmp_path / 'run'}", *words)
    assert status == 2
    assert said in err
    assert len(err.splitlines()) == 1


def test_several_mistakes_are_told_at_once(launch):
    status, _, err = launch(
        "train", "--config.model.detph=3", "--config.steps=x", "--config.model.block.mixer.heads=3", "--config.batch=0"
    )
    assert status == 2
    assert [line.split(":")[0] for line in err.splitlines()] == [
        "--config.model.detph=3",
        "--config.steps=x",
        "--config.batch=0",
        "--config.model.block.mixer.heads=3",
    ]


def test_a_folder_of_something_else_is_left_alone(launch, tmp_path):
    (tmp_path / "thesis.txt").write_text("mine")
    status, _, err = launch("train", f"--run_folder={tmp_path}")
    assert status == 2
    assert "is no run folder" in err
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_nothing_to_open(launch, tmp_path):
    assert launch("evaluate", f"--run_folder={tmp_path / 'no'}")[0] == 2
    shutil.rmtree(tmp_path / "no", ignore_errors=True)


def test_runs_made_separately_are_compared(home, trained, launch, tmp_path):
    """Seeds of one arm are found by themselves; what no run folder is, or a run of other data, is told at once."""
    other = home / "seed1"
    if not other.exists():
        assert launch("train", f"--run_folder={other}", "--config.seed=1", "--config.logging.prompt=None")[0] == 0
    status, out, err = launch("compare", str(trained), str(other), config=False)
    assert (status, err) == (0, "")
    values = []
    for folder in (trained, other):
        lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
        values.append([line["val/bits_per_byte"] for line in lines if "val/bits_per_byte" in line][-1])
        assert f"{values[-1]:.4f}" in out
    assert f"{sum(values) / 2:.4f}" in out
    status, _, err = launch("compare", str(trained), str(tmp_path), "--metric=val/los", config=False)
    assert (status, err) == (2, f"{tmp_path}: holds no config.json; is it a run folder?\n")
    assert launch("compare", config=False)[0] == 2


def test_a_sweep_is_a_study(home, launch):
    """Points of the command line are arms; a second call trains nothing."""
    words = ["--sweep=model.depth=1,2", "--seeds=2", f"--run_folder={home / 'sweep'}"]
    status, out, err = launch("train", *words)
    assert (status, err) == (0, "")
    results = json.loads((home / "sweep" / "results.json").read_text())
    assert [arm["name"] for arm in results["arms"]] == ["depth=1", "depth=2"]
    assert len(results["cells"]) == 4
    assert str(home / "sweep" / "report.html") in out
    _, again, _ = launch("train", *words)
    assert "4 are finished, 0 to train" in again
    status, out, err = launch("report", str(home / "sweep"), f"--out={home / 'again'}", config=False)
    assert (status, err) == (0, "")
    assert (home / "again" / "report.html").read_bytes() == (home / "sweep" / "report.html").read_bytes()
    assert str(home / "again" / "report.html") in out


def test_a_report_of_what_is_no_study(home, trained, launch):
    status, out, err = launch("report", str(trained), config=False)
    assert (status, out) == (2, "")
    assert err == f"{trained}: holds a run, not a study; python launch.py compare {trained} shows runs\n"
    assert launch("report", config=False) == (2, "", "report needs STUDY_FOLDER: report STUDY_FOLDER ...\n")


def test_a_sweep_of_what_is_not_there(home, launch):
    status, _, err = launch("train", "--sweep=model.dept=1,2;batch=4,-4", f"--run_folder={home / 'none'}")
    assert status == 2
    assert all(word in err for word in ("dept", "depth", "batch=-4"))
    assert not (home / "none").exists()


def test_a_sweep_leaves_seeds_to_the_study(home, launch):
    status, _, err = launch("train", "--sweep=seed=0,1", f"--run_folder={home / 'none'}")
    assert (status, err.count("\n")) == (2, 1)
    assert "--seeds=2" in err


def test_a_study_does_not_mix_with_a_run(trained, launch):
    status, _, err = launch("train", "--sweep=batch=2,4", f"--run_folder={trained}")
    assert (status, err.count("\n")) == (2, 1)
    assert "is the folder of a run" in err
