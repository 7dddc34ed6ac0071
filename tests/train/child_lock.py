"""Takes the lock of one folder after the other and holds it for some seconds.

python -m tests.train.child_lock SECONDS FOLDER [START FOLDER START ...]     Prints "held FOLDER", or the refusal.

START: a file; the lock before it is not taken until it is there, so that several processes can be let go at once.
"""

import sys
import time
from pathlib import Path

from arch.spec import UserError
from train.record.lock import Lock


def main(seconds: str, *words: str) -> None:
    for folder, start in zip(words[::2], words[1::2] or [""], strict=True):
        if start:
            print("ready", flush=True)
            while not Path(start).exists():
                time.sleep(0.001)
        try:
            with Lock(folder, lambda line: print(line, flush=True)):
                print(f"held {folder}", flush=True)
                time.sleep(float(seconds))
        except UserError as error:
            print(error, flush=True)
            time.sleep(float(seconds))


if __name__ == "__main__":
    main(*sys.argv[1:])
