"""Checkpoints that many tests begin with."""

from pathlib import Path

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
