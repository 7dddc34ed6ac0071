"""Studies as their users start them: a new norm and a new study in a file each; killed and started again; bad input.

On two simulated devices, in processes of their own.
"""

import json
import os
import random
import re
import signal
import subprocess
import sys
import time

import pytest

from tests.train import children

NORM = '''
"""A norm by the largest component."""

import dataclasses

import jax.numpy as jnp
from flax import nnx

from arch.layers.norms.common import Norm
from arch.layers.shapes import align


@dataclasses.dataclass(frozen=True)
class PeakNorm(Norm):
    """x / (max |x| + eps) * gain."""

    eps: float = 1e-3

    def build(self, width, make, axis="embed"):
        return PeakNormLayer(self.eps, make.constant([(width, axis)], 1.0))


class PeakNormLayer(nnx.Module):
    def __init__(self, eps, gain):
        self.eps, self.gain = eps, gain

    def __call__(self, x, ctx):
        return x / (jnp.max(jnp.abs(x), axis=-1, keepdims=True) + self.eps) * align(self.gain[...], x)
'''

STUDY = '''
"""Is the largest component as good a norm as the root mean square?"""

import dataclasses

from arch.blocks import PreNorm
from arch.layers.attention.softmax import Attention
from arch.layers.feed_forward import GatedMLP
from arch.models.decoder import Decoder
from experiments.study.claims.claims import NoWorse
from experiments.study.match import Match, match
from experiments.study.study import Study
from peak_norm import PeakNorm
from train.data import LocalText, Text
from train.sharding.mesh import Mesh
from train.run import Logging, Run


def get_config(form=""):
    base = Run(
        model=Decoder(vocab=256, width=32, depth=2, norm=PeakNorm(),
                      block=PreNorm(mixer=Attention(heads=2), feed_forward=GatedMLP(hidden=88), norm=PeakNorm())),
        data=Text(source=LocalText({files!r}, validation=0.3, per="line"), length=16),
        batch=4, steps=4, mesh=Mesh(fsdp=2), logging=Logging(log=1, evaluate=2, checkpoint=1, keep=1, prompt="the "),
    )
    peak = match(base, depth=(1, 2), hold="params", tolerance=0.05)
    rms = dataclasses.replace(base, model=Decoder(vocab=256, width=32, depth=2, block=PreNorm(
        mixer=Attention(heads=2), feed_forward=GatedMLP(hidden=88))))
    return Study(
        question="Is the largest component as good a norm as the root mean square?",
        arms={{**peak, "rms": rms}},
        claims=(NoWorse("depth=2", than="rms", margin=0.05),),
        match=Match("params", 0.05),
        learning_rates=(1e-3, 3e-2, 1.0),
        tuning_seeds=1,
        seeds=2,
        diagnostics=("depth",),
    )
'''


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    folder = tmp_path_factory.mktemp("new_norm")
    (folder / "text.txt").write_text("".join(f"the {n} little words of line {n * n}\n" for n in range(60)))
    (folder / "peak_norm.py").write_text(NORM)
    (folder / "peak_study.py").write_text(STUDY.format(files=str(folder / "text.txt")))
    return folder


def start(home, *words):
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=2"
    return subprocess.Popen(
        [sys.executable, "launch.py", "train", f"--config={home / 'peak_study.py'}", *words],
        cwd=children.ROOT,
        env={**os.environ, "XLA_FLAGS": flags, "STRATA_CACHE": str(home / "cache")},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def launch(home, *words, check=True):
    done = children.finish(start(home, *words), 800)
    assert not check or done.returncode == 0, done.stderr[-4000:]
    return done


@pytest.fixture(scope="module")
def finished(home):
    done = launch(home, f"--run_folder={home / 'whole'}", f"--results={home / 'kept'}")
    return done.stdout, json.loads((home / "whole" / "results.json").read_text())


def test_a_new_norm_and_a_new_study_touch_no_other_file(home, finished):
    """Trained, matched, counted, sharded, probed, reported."""
    told, results = finished
    assert len(results["cells"]) == 3 * (len(results["arms"][0]["tried"]) + 2)
    assert all(cell["status"] == "finished" for cell in results["cells"])
    first, second, rms = results["arms"]
    assert second["shape"]["parameters"] == rms["shape"]["parameters"], "a gain a component, like the norm it replaces"
    assert second["shape"]["train_flops"] == rms["shape"]["train_flops"]
    assert 0 < abs(second["shape"]["error"]) <= 0.05
    assert first["shape"]["error"] == 0
    seeds = [cell for cell in results["cells"] if cell["phase"] == "seeds"]
    assert {cell["arm"]: len(cell["diagnostics"]["residual_rms"]) for cell in seeds} == {
        "depth=1": 1, "depth=2": 2, "rms": 2
    }  # fmt: skip
    trained = {cell["arm"]: cell["metrics"]["val/loss"] for cell in seeds}
    assert trained["depth=2"] != trained["rms"]
    page = (home / "whole" / "report.html").read_text()
    assert "Is the largest component as good a norm" in page
    assert results["verdicts"][0]["verdict"] in told
    assert re.search(r"sample of (depth=1|depth=2|rms), temperature 0.8:\n  the ", told), "of the best arm's first seed"
    assert (home / "kept" / "results.json").read_text() == (home / "whole" / "results.json").read_text()
    assert sorted(path.name for path in (home / "kept").iterdir()) == ["plots", "results.json", "tables"], "no page"


def written(folder):
    return {path.name: path.stat().st_mtime_ns for path in folder.glob("cells/*.json")}


def numbers(folder):
    results = json.loads((folder / "results.json").read_text())
    return [results["arms"], results["verdicts"], [{**cell, "seconds": 0} for cell in results["cells"]]]


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_killed_at_a_random_moment_and_started_again(home, finished, how):
    folder = home / how.name
    moment = random.Random(os.getpid() + how).uniform(6, 30)
    child = start(home, f"--run_folder={folder}")
    time.sleep(moment)
    child.send_signal(how)
    children.finish(child)
    before = (
        {path.name: path.stat().st_mtime_ns for path in (folder / "cells").glob("*.json")} if folder.exists() else {}
    )
    launch(home, f"--run_folder={folder}")
    after = {path.name: path.stat().st_mtime_ns for path in (folder / "cells").glob("*.json")}
    assert {name: after[name] for name in before} == before, "nothing finished is trained again"
    assert numbers(folder) == numbers(home / "whole"), f"killed after {moment} s"


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["--config.seeds=0", "--config.learning_rates=-1"], "seeds=0"),
        (["--config.arms.rms.steps=0"], "arms.rms.steps=0"),
        (["--sweep=seed=1,2"], "varies a run; a study has its arms"),
        (["--seeds=2"], "--seeds: belongs to --sweep; of a study, --config.seeds=2"),
        (["--ray_address=auto"], "need --executor=ray"),
        (["--results=Makefile"], "--results=Makefile: cannot be a folder: File exists"),
    ],
)
def test_bad_input_is_one_line(home, words, line):
    done = launch(home, f"--run_folder={home / 'bad'}", *words, check=False)
    assert done.returncode == 2
    assert line in done.stderr
    assert "Traceback" not in done.stderr
    assert not (home / "bad" / "cells").exists()


def test_the_folder_of_cells_itself_is_refused(home):
    """In it none would be found, and all trained again."""
    inside = home / "shared" / "cells"
    inside.mkdir(parents=True)
    (inside / "0e1263f92065b3b57495.97a4dbd2cd89.json").write_text("{}")
    done = launch(home, f"--run_folder={home / 'other'}", f"--cells={inside}", check=False)
    assert done.returncode == 2
    assert f"--cells={inside}: holds cells itself; give the folder that it is in, {inside.parent}" in done.stderr
    assert not (home / "other").exists()
