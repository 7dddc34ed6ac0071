"""The objective on parallel text: packing changes no loss."""

import dataclasses

import numpy as np
import pytest

from tests.extension.cases import TRUNKS
from tests.extension.harness import command_line, evaluation
from train.data import Bytes, LocalPairs, OnePair, PackedPairs, ParallelText
from train.setup import prepare


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Pairs of words over eight letters; the translation is the word from its end."""
    folder = tmp_path_factory.mktemp("pairs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STRATA_CACHE", str(folder / "cache"))
        rng = np.random.default_rng(0)
        words = sorted({"".join(rng.choice(list("abcdefgh"), rng.integers(2, 8))) for _ in range(200)})
        (folder / "x.tsv").write_text("".join(f"{word}\t{word[::-1]}\n" for word in words))
        trunks = TRUNKS.replace("vocab=16", "vocab=256")
        base = command_line(
            f"model=EncoderDecoder({trunks},head=Untied)", "objective=SequenceToSequence", "data=Digits"
        )
        data = ParallelText(LocalPairs(str(folder / "x.tsv"), validation=0.2, test=0), Bytes(), None, 10, 10)
        yield dataclasses.replace(base, data=data, batch=16)


def started(run):
    dataset = run.data.build()
    program = prepare(run, dataset.description)
    return program, dataset, program.start()


def test_packing_changes_no_loss(run):
    """Pairs in one row read nothing of each other, on either side."""
    one, packed = run, dataclasses.replace(run, data=dataclasses.replace(
        run.data, source_length=40, length=40, layout=PackedPairs()))  # fmt: skip
    assert one.data.layout == OnePair()
    losses = []
    for each in (one, packed):
        program, dataset, state = started(each)
        losses.append(evaluation(program, dataset, state))
        assert (dataset.stats["validation"].rows < dataset.stats["validation"].pairs) == (each is packed)
    for name in ("loss", "bits_per_byte"):
        values = [float(next(value for key, value in told.items() if key.endswith(name))) for told in losses]
        np.testing.assert_allclose(*values, rtol=1e-5)
