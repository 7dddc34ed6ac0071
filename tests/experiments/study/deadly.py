"""Toy data that kills the process that trains on it, once."""

import dataclasses
import os
import signal
from pathlib import Path

from tests.train.toys import Toy
from train.data.base import Dataset, TrainBatches


class DeadlyBatches(TrainBatches):
    at: int
    marker: Path

    def __next__(self):
        if self.get_state()["next_batch"] == self.at and not self.marker.exists():
            self.marker.write_text(str(os.getpid()))
            os.kill(os.getpid(), signal.SIGKILL)
        return super().__next__()


class DeadlyDataset(Dataset):
    at: int
    marker: Path

    def train(self, batch, seed, process_index=0, process_count=1):
        made = DeadlyBatches(self.rows["train"], self.fingerprint, batch, seed, process_index, process_count)
        made.at, made.marker = self.at, self.marker
        return made


@dataclasses.dataclass(frozen=True)
class Deadly(Toy):
    """Kills its process with SIGKILL before batch `at`, if the file `marker` is not there yet."""

    marker: str = ""
    at: int = 5

    def build(self, progress=None):
        made = DeadlyDataset(*self.parts())
        made.at, made.marker = self.at, Path(self.marker)
        return made
