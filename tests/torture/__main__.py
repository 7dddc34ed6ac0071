"""What a run and a study survive: killed at random moments, flipped bytes, files cut short, full and locked disks.

python -m tests.torture [SEED [WORD]]      Prints a table of what was tried and what survived; takes ten minutes.
                                          WORD: only what has it in its name.
python -m tests.torture study FOLDER      The study that is killed.

Survived means that what comes out is, to the last bit, what an undisturbed run gives, or that what was refused was
refused in one line and the same command went on from there.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import sys
import tempfile
from pathlib import Path

from tests.torture.everything import torture
from tests.torture.kills import study


def main(*words: str) -> None:
    if words[:1] == ("study",):
        study(words[1])
        return
    seed = int(words[0]) if words else random.SystemRandom().randrange(2**32)
    folder = Path(tempfile.mkdtemp(prefix="torture"))
    print(f"seed {seed}\n| {'tried':34} | times | survived |", flush=True)
    try:
        found = torture(folder, seed, *words[1:2])
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    bad = [what for what, result in found.items() if isinstance(result, tuple) and result[0] != result[1]]
    sys.exit(1 if bad or any(str(result).startswith("failed") for result in found.values()) else 0)


if __name__ == "__main__":
    assert signal.SIGKILL
    assert os.name == "posix"
    import tests.conftest  # the strict options, and the compiled programs of the tests

    assert tests.conftest.OPTIONS
    main(*sys.argv[1:])
