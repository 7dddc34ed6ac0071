"""launch.py as a user runs it: exit status, one clear line, no traceback."""

import subprocess
import sys
import types
from pathlib import Path

import pytest

import launch as program
from experiments.config.flags import Command
from tests.experiments.config.toys import Run

ROOT = Path(__file__).resolve().parents[1]

CONFIG = """
import dataclasses
from arch.spec import Spec

class Model: pass

@dataclasses.dataclass(frozen=True)
class Part(Spec):
    size: int = 1
    def build(self, *, rngs):
        raise self.invalid("size", "must suit its surroundings")

@dataclasses.dataclass(frozen=True)
class Run(Spec):
    model: Part = Part()
    steps: int = 3

def get_config(argument):
    return Run()
"""


def launch(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "launch.py"), *words]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.fixture
def config(tmp_path):
    file = tmp_path / "study.py"
    file.write_text(CONFIG)
    return str(file)


def test_help_is_printed_and_is_no_error():
    done = launch("--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert "\n  train " in done.stdout
    assert "--run_folder" in done.stdout


def test_a_misspelt_verb():
    done = launch("trian", "--config=x.py")
    assert (done.returncode, done.stdout, done.stderr) == (2, "", "trian: no such verb; did you mean train?\n")


def test_mistakes_in_flags_and_configuration_come_together(config):
    done = launch("train", f"--config={config}", "--run_foldr=x", "--config.stepz=1", "--config.model.size=a")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.splitlines() == [
        "--run_foldr: no such flag; did you mean --run_folder?",
        "--config.stepz=1: no such field in Run; did you mean steps?",
        "--config.model.size=a: expected int",
    ]


def test_a_part_that_its_surroundings_refuse_is_named_by_its_path(config):
    done = launch("inspect", f"--config={config}", "--config.model.size=4")
    assert (done.returncode, done.stderr) == (2, "--config.model.size=4: must suit its surroundings\n")


def test_debug_shows_the_traceback(config):
    done = launch("train", f"--config={config}", "--config.stepz=1", "--debug")
    assert done.returncode == 1
    assert "Traceback" in done.stderr
    assert "--config.stepz=1: no such field in Run; did you mean steps?" in done.stderr


def test_a_wrong_verb_is_told_before_jax_is_imported():
    probe = "import runpy, sys; sys.argv = ['launch.py', 'trian']\n"
    probe += "try: runpy.run_path('launch.py', run_name='__main__')\nexcept SystemExit as end: code = end.code\n"
    probe += "print(code, 'jax' in sys.modules, 'flax' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", probe], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.stdout == "2 False False\n"


@pytest.mark.parametrize(
    ("reference", "folder"),
    [("experiments/base_lm.py:tiny", "runs/base_lm.tiny"), ("/a/b.py", "runs/b"), ("b.py:", "runs/b")],
)
def test_the_default_run_folder_is_named_after_the_file_and_form(monkeypatch, reference, folder):
    monkeypatch.setattr(program, "RUN_FOLDER", types.SimpleNamespace(value=None))
    assert program.run_folder(Command("train", Run(), Run(), reference, {})) == folder
