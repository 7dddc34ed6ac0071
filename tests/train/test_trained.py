"""A trained run opened again: what its data is asked for. Two real processes are in `test_distributed.py`."""

import types

import jax
import pytest

from arch.spec import UserError
from tests.train import toys
from train import evaluate
from train.data import Bytes
from train.trained import TrainedRun


@pytest.mark.parametrize(("index", "count"), [(0, 1), (0, 2), (1, 2), (3, 4)])
def test_a_process_evaluates_its_share_of_the_rows(monkeypatch, index, count):
    """All processes together each row once."""
    monkeypatch.setattr(jax, "process_index", lambda: index)
    monkeypatch.setattr(jax, "process_count", lambda: count)
    rows = []

    def read(program, state, batches, abandon):
        rows.extend(int(batch["segments"].any(axis=1).sum()) for batch in batches)

    monkeypatch.setattr(evaluate, "evaluate", read)
    program = types.SimpleNamespace(run=toys.run(batch=8, accumulate=2))
    assert TrainedRun(program, {}, toys.Toy(held_out=13).build(), 1).evaluate() == {}
    share = 4 // count
    whole = [min(max(13 - 4 * batch - share * index, 0), share) for batch in range(4)]
    assert rows == whole


def test_prompts_that_are_no_text_are_one_line():
    dataset = types.SimpleNamespace(tokenizer=Bytes().build(), source_tokenizer=Bytes().build())
    opened = TrainedRun(None, {}, dataset, 1)
    for ask in (lambda: opened.continuations(["a\udcff"], 1, None, None), lambda: opened.encoded(["b", "a\udcff"])):
        with pytest.raises(UserError, match=r"prompt 'a\\udcff': must be text in UTF-8; it has byte 0xff"):
            ask()
