"""Trains the toy run, as launch does; told how to come to grief.

python -m tests.train.child_train FOLDER JSON

JSON: {"family": NAME, "kill_in_save": STEP, "signal": [NAME, BATCH], "steps": STEPS, "checkpoint": STEPS}. `family`
takes model, objective and data from `tests.train.families` in place of the toy's; `kill_in_save` kills the
process when the checkpoint of that step is written but not yet in place; `signal` sends it NAME when it fetches batch
number BATCH; `checkpoint` is how often one is saved.
"""

import json
import os
import signal
import sys
import threading

from tests.train import toys
from tests.train.families import FAMILIES
from train.loop import train
from train.record import checkpoint
from train.run import Logging


def main(folder: str, text: str) -> None:
    told = json.loads(text)
    if "kill_in_save" in told:
        seal = checkpoint.Checkpoints._seal

        def killed(self):
            seal(self)
            if self._saving == told["kill_in_save"]:
                os.kill(os.getpid(), signal.SIGKILL)

        checkpoint.Checkpoints._seal = killed
    if "signal" in told:
        toys.signal_at(*told["signal"])
    logging = Logging(log=1, evaluate=3, checkpoint=told.get("checkpoint", 2))
    fields = FAMILIES[told["family"]] if "family" in told else {}
    train(toys.run(steps=told.get("steps", 6), logging=logging, **fields), folder)
    # The last that a finished process may leave behind is its own thread.
    left = [t.name for t in threading.enumerate() if t is not threading.main_thread() and not t.daemon]
    print("left:", left)


if __name__ == "__main__":
    main(*sys.argv[1:])
