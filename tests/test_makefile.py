"""make clean takes away what make made, says so, and nothing else."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

MAKEFILE = Path(__file__).resolve().parents[1] / "Makefile"


def made(at: Path, *words: str) -> list[str]:
    # As from a shell, whatever make runs the tests.
    env = {name: value for name, value in os.environ.items() if not name.startswith("MAKE") and name != "MFLAGS"}
    done = subprocess.run(["make", *words, "clean"], cwd=at, env=env, capture_output=True, text=True, check=True)
    return sorted(done.stdout.splitlines())


@pytest.mark.skipif(shutil.which("make") is None, reason="no make on the path")
def test_clean(tmp_path):
    shutil.copy(MAKEFILE, tmp_path)
    for file in (".venv/pyvenv.cfg", ".ruff_cache/a", "arch/__pycache__/b.pyc", "arch/b.py", "runs/c", "mine/d"):
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).touch()
    assert made(tmp_path, "VENV=mine") == ["removed .ruff_cache", "removed __pycache__ of all folders"]
    assert made(tmp_path) == ["removed .venv"]
    assert made(tmp_path) == []
    left = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()}
    assert left == {"Makefile", "arch/b.py", "runs/c", "mine/d"}
