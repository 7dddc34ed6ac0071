"""The codes of two runs: how many are the same, and what is not compared."""

import copy
import dataclasses
import types

import jax
import numpy as np
import pytest

from arch.spec import UserError
from experiments.codes import seeds
from experiments.codes.seeds import overlaps
from experiments.config.load import load
from train.setup import prepare
from train.trained import TrainedRun


def test_codes_of_two_runs_are_compared_whatever_they_are_called(reader, home):
    opened = reader.opened
    turned = {**opened.state, "params": jax.tree_util.tree_map_with_path(
        lambda path, x: x[:, ::-1] if "mlp_out" in jax.tree_util.keystr(path) else x, opened.params)}  # fmt: skip
    found = overlaps(opened, dataclasses.replace(opened, state=turned), tokens=1000)
    assert set(found) == {f"{site} layer {layer}" for site in ("attn.z", "mlp_out") for layer in (0, 1)}
    assert {one.matched for one in found.values()} == {1.0}
    assert min(one.shuffled for one in found.values()) < 0.9
    fresh = dataclasses.replace(opened, state={**opened.state, "params": opened.program.start()["params"]})
    assert overlaps(opened, fresh, tokens=1000)["mlp_out layer 1"].matched < 1.0


def test_the_codes_of_two_folders_are_a_table(launch, home):
    status, out, err = launch("codes", home / "run", home / "run", "--read=200")
    assert (status, err) == (0, "")
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in out.splitlines() if " layer " in line]
    assert [row[:2] for row in rows] == [[f"{site} layer {n}", "1.000"] for site in ("attn.z", "mlp_out") for n in "01"]
    for _, matched, shuffled, difference in rows:
        assert float(matched) - float(shuffled) == pytest.approx(float(difference), abs=1.5e-3)
    assert min(float(row[2]) for row in rows) < 0.9


def other_data(opened, **fields):
    """A run whose data say something else of themselves."""
    dataset = copy.copy(opened.dataset)
    vars(dataset).update(fields)
    return dataclasses.replace(opened, dataset=dataset)


def test_runs_that_are_not_compared(launch, reader, home, monkeypatch):
    opened = reader.opened
    with pytest.raises(UserError, match=r"^codes are compared on the same tokens: the two runs have other data$"):
        overlaps(opened, other_data(opened, fingerprint="other"))
    with pytest.raises(UserError, match=r"^codes are compared on the same tokens: .* other tokenizers$"):
        overlaps(opened, other_data(opened, tokenizer=types.SimpleNamespace(fingerprint="other"), fingerprint="other"))
    row = np.arange(9)
    read = [{seeds.TOKENS: row, "mlp_out layer 0": row[:, None]}, {seeds.TOKENS: row, "attn.z layer 0": row[:, None]}]
    monkeypatch.setattr(seeds, "_codes", lambda opened, tokens, name: dict(read[name == "second"]))
    with pytest.raises(UserError, match=r"no site with codes in common: mlp_out layer 0; attn\.z layer 0$"):
        overlaps(opened, opened, names=("first", "second"))
    read[1][seeds.TOKENS] = row + 1
    with pytest.raises(UserError, match=r"the objectives of the two runs hide or cut others$"):
        overlaps(opened, opened, names=("first", "second"))
    for words, message in (
        (("one", "two"), "one: "),
        ((home / "run", home / "run", f"--out={home}"), "codes of two runs are a table alone: leave out --out"),
    ):
        status, _, err = launch("codes", *words)
        assert status == 2
        assert err.startswith(message)
        assert len(err.splitlines()) == 1


def test_which_of_two_runs_has_no_codes(home, reader):
    bare = load(str(home / "mine.py:bare")).spec
    program = prepare(bare, reader.opened.dataset.description)
    with pytest.raises(UserError, match=r"^runs/bare: codes: this Decoder has no codebooks"):
        overlaps(reader.opened, TrainedRun(program, program.start(), reader.opened.dataset, 0), 10, ("a", "runs/bare"))
