"""Trains every case on its meshes of 8 simulated devices, and writes what came out.

python -m tests.extension.sharded FOLDER

FOLDER holds what one device began with, of the cases that are wanted, and gets for each of them and each mesh the
metrics of all steps and the last state.
"""

import pickle
import sys
from pathlib import Path

from tests.extension.cases import CASES, COUPLED
from tests.extension.harness import command_line, on_mesh


def main(folder: Path) -> None:
    for name, case in {**CASES, **COUPLED}.items():
        if not (folder / f"{name}.start").exists():
            continue
        for place, mesh in enumerate(case.meshes):
            done = on_mesh(command_line(*case.words), mesh, pickle.loads((folder / f"{name}.start").read_bytes()))
            (folder / f"{name}.{place}").write_bytes(pickle.dumps(done))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
