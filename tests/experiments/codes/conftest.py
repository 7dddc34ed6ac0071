"""A run with codes at every feed-forward and head, and what reads it."""

import numpy as np
import pytest

from arch.models.base import Inputs
from arch.taps import Tap
from experiments.codes.reading import Reader
from experiments.config import render
from experiments.config.load import load
from tests.launching import launched
from train.loop import train
from train.trained import open_run

CONFIG = """
from arch.blocks import PreNorm
from arch.bottlenecks.codebook import Codebook
from arch.bottlenecks.several import PerHead
from arch.layers.attention.softmax import Attention
from arch.layers.feed_forward import MLP
from arch.models.decoder import Decoder
from train.data.text import Text
from train.data.sources import LocalText
from train.data.tokenizers import Bytes
from train.objectives.next_token import NextToken
from train.optim import AdamW, Constant
from train.run import Logging, Run

def get_config(form=""):
    at = (("attn.z", PerHead(Codebook(codes=6, k=2))), ("mlp_out", Codebook(codes=9, k=2, prenorm="layer")))
    block = PreNorm(mixer=Attention(heads=2), feed_forward=MLP(hidden=32), at=() if form == "bare" else at)
    return Run(
        model=Decoder(256, 16, 2, block),
        data=DATA,
        objective=NextToken(), optimizer=AdamW(learning_rate=1e-2, schedule=Constant()),
        batch=16, steps=12, logging=Logging(log=12, evaluate=0, checkpoint=0, prompt="a"),
    )
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    folder = tmp_path_factory.mktemp("codes")
    (folder / "a.txt").write_text("\n".join(f"the cat {n} sat on a mat, and dog {n % 7} did not" for n in range(300)))
    data = f"Text(LocalText({str(folder / 'a.txt')!r}, validation=0.1, test=0.1, per='line'), Bytes(), length=24)"
    (folder / "mine.py").write_text(CONFIG.replace("DATA", data))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STRATA_CACHE", str(folder / "cache"))
        spec, reference = load(str(folder / "mine.py")).spec, str(folder / "mine.py")
        train(spec, folder / "run", describe=lambda at: render.write(at, spec, spec, reference))
        yield folder


@pytest.fixture(scope="module")
def reader(home):
    return Reader(open_run(load(str(home / "mine.py")).spec, home / "run"))


@pytest.fixture(scope="module")
def taps(reader):
    """What the model saves of the first rows of its split, and where they are no padding."""
    rows = reader.opened.dataset.rows[reader.splits[0]].gather(np.arange(32))
    inputs = Inputs(rows["tokens"][:, :-1], rows["positions"][:, :-1], rows["segments"][:, :-1])
    return reader.opened.model(inputs, tap=Tap(save=".*")).taps, inputs


@pytest.fixture
def launch(capsys):
    def run(verb, *words):
        status = launched(verb, *words)
        shown = capsys.readouterr()
        return status, shown.out, shown.err

    return run
