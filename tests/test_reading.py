"""Looking at a run changes nothing of it: it may be trained by another process, or lie where nobody may write. The
quick part is in `test_commands.py`."""

import json
import shutil
import subprocess
import sys

import pytest

from tests import child_reading
from tests.launching import launched
from tests.watch import snapshot, watch

CONFIG = """
from arch.blocks import PreNorm
from arch.bottlenecks.codebook import Codebook
from arch.layers.attention.softmax import Attention
from arch.layers.feed_forward import MLP
from arch.models.decoder import Decoder
from train.data import LocalText, Text
from train.run import Logging, Run

def get_config(form=""):
    block = PreNorm(mixer=Attention(heads=2), feed_forward=MLP(hidden=32), at=(("mlp_out", Codebook(codes=9, k=2)),))
    return Run(
        model=Decoder(vocab=256, width=16, depth=2, block=block),
        data=Text(source=LocalText({files!r}, validation=0.3, per="line"), length=16),
        batch=4, steps=3, logging=Logging(log=1, evaluate=0, checkpoint=1, keep=3),
    )
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A run, trained once, as another process may just be at: a half-written checkpoint, a damaged one, a lock."""
    folder = tmp_path_factory.mktemp("home")
    (folder / "text.txt").write_text("".join(f"the {n} little words of line {n * n}\n" for n in range(60)))
    (folder / "mine.py").write_text(CONFIG.format(files=str(folder / "text.txt")))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STRATA_CACHE", str(folder / "cache"))
        run = folder / "run"
        assert launched("train", f"--config={folder / 'mine.py'}", f"--run_folder={run}") == 0
        begun = run / "checkpoints" / "4.orbax-checkpoint-tmp"
        shutil.copytree(run / "checkpoints" / "3", begun)
        (run / "checkpoints" / "3" / "files.json").unlink()
        (run / "run.json.lock").write_text(json.dumps({"host": "elsewhere", "pid": 1, "beat": 2e9}))
        yield folder


@pytest.mark.slow
@pytest.mark.parametrize(
    "words", child_reading.VERBS, ids=[" ".join(words[:1] + words[2:]) for words in child_reading.VERBS]
)
def test_looking_changes_nothing(home, words, tmp_path, capsys):
    """Neither by Python nor by what it calls."""
    run = home / "run"
    before = snapshot(run)
    with watch() as seen:
        status = launched(*(word.format(folder=run, out=tmp_path) for word in words))
    assert (status, capsys.readouterr().err) == (0, "")
    assert seen.within(run) == []
    assert snapshot(run) == before


@pytest.mark.slow
def test_on_a_read_only_mount(home, tmp_path):
    """A real one, in a name space of its own."""
    if subprocess.run(["unshare", "-rm", "true"], check=False, capture_output=True).returncode:
        pytest.skip("no name space of mounts may be made here")
    run = home / "run"
    before = snapshot(run)
    child = f"{sys.executable} -m tests.child_reading {run} {tmp_path}"
    mounted = f"mount --bind {run} {run} && mount -o remount,ro,bind {run} && ! touch {run}/x 2>/dev/null && {child}"
    done = subprocess.run(["unshare", "-rm", "sh", "-c", mounted], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [word for words in child_reading.VERBS for word in (words[0], "0")]
    assert snapshot(run) == before
