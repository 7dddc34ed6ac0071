"""Checkpoints that many tests begin with, and modules of a user."""

import importlib
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.train.child_checkpoint import state
from train.record.checkpoint import Checkpoints


@pytest.fixture
def saved(tmp_path) -> Path:
    """A folder with the checkpoints of steps 1, 2 and 3."""
    with Checkpoints(tmp_path, keep=3) as checkpoints:
        for step in (1, 2, 3):
            checkpoints.save(step, state(step), {"next_batch": step})
    return tmp_path


@pytest.fixture
def mine(tmp_path, monkeypatch):
    """`mine(name, source)` writes a module of the user's and imports it, anew if it was there."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def write(name: str, source: str) -> Any:
        (tmp_path / f"{name}.py").write_text(source)
        sys.modules.pop(name, None)
        importlib.invalidate_caches()
        sys.path_importer_cache.pop(str(tmp_path), None)
        return importlib.import_module(name)

    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    yield write
    for name in [name for name in sys.modules if name.startswith("mine_")]:
        del sys.modules[name]
