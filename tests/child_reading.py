"""All verbs that read, on a run folder; for a process that sees it on a read-only mount.

python -m tests.child_reading FOLDER OUT      prints VERB STATUS a line
"""

import contextlib
import io
import sys

from tests.launching import launched

VERBS = (
    ("evaluate", "--run_folder={folder}"),
    ("evaluate", "--run_folder={folder}", "--suite=language"),
    ("generate", "--run_folder={folder}", "--prompt=the", "--tokens=4"),
    ("inspect", "--run_folder={folder}"),
    ("compare", "{folder}"),
    ("export", "{folder}", "--to={out}/exported", "--check=off"),
    ("codes", "{folder}", "--out={out}/codes"),
)


def main(folder: str, out: str) -> None:
    for words in VERBS:
        err = io.StringIO()
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(err):
            status = launched(*(word.format(folder=folder, out=out) for word in words))
        print(words[0], status, err.getvalue().strip())


if __name__ == "__main__":
    main(*sys.argv[1:])
