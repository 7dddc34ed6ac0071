"""Work that Ray's workers import: small files instead of training."""

import json
import os
import signal
import time
from pathlib import Path

from arch.spec import UserError


def task(folder, name: str, **fields) -> str:
    return json.dumps({"folder": str(folder), "name": name, **fields})


def work(text: str) -> None:
    """Squares numbers into a file, one after the other, going on with what an earlier try has left.

    `die_at`: kills its process before that number, on the first try. `wrong`: a user's mistake. `bug`: another error.
    """
    given = json.loads(text)
    folder = Path(given["folder"])
    if given.get("wrong"):
        raise UserError(f"{given['name']}: cannot be\ndone")
    if given.get("bug"):
        raise ZeroDivisionError("a defect")
    (folder / f"{given['name']}.pid").write_text(str(os.getpid()))
    out, marker = folder / f"{given['name']}.txt", folder / f"{given['name']}.died"
    lines = out.read_text().splitlines() if out.exists() else []
    tries = folder / f"{given['name']}.tries"
    tries.write_text((tries.read_text() if tries.exists() else "") + f"{len(lines)}\n")
    for number in range(len(lines), given.get("count", 5)):
        if number == given.get("die_at") and (given.get("always") or not marker.exists()):
            marker.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        with out.open("a") as file:
            file.write(f"{number * number} {given['name']}\n")
        time.sleep(given.get("seconds", 0.0))


def environment(text: str) -> None:
    """Writes what a worker finds around it."""
    given = json.loads(text)
    seen = {name: os.environ.get(name) for name in ("JAX_PLATFORMS", "STRATA_CACHE", "PYTHONPATH")}
    Path(given["folder"], given["name"]).write_text(json.dumps({**seen, "cwd": os.getcwd(), "pid": os.getpid()}))
