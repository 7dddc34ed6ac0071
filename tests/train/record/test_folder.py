"""Run folders: new, this run's, another's, or no run folder at all."""

import dataclasses
import json
import sys
import types

import pytest

from arch import renames
from arch.spec import UserError
from tests.train import toys
from train.optim import AdamW, Constant
from train.record import folder
from train.record.identity import old_fields
from train.run import Logging
from train.sharding.mesh import Mesh


@pytest.fixture
def marked(tmp_path):
    folder.mark(tmp_path / "run", toys.run())
    return tmp_path / "run"


def test_a_new_folder_and_an_empty_one(tmp_path):
    assert folder.check(tmp_path / "a" / "b", toys.run()) is False
    assert list(tmp_path.iterdir()) == [], "checking makes nothing"
    assert folder.check(tmp_path, toys.run()) is False


def test_the_same_run(marked):
    assert folder.check(marked, toys.run()) is True
    fields = json.loads((marked / "run.json").read_text())["fields"]
    assert fields["model.depth"] == "3"


def test_what_may_change(marked):
    changed = dataclasses.replace(toys.run(), logging=Logging(log=7, keep=9, prompt="x"), mesh=Mesh())
    assert folder.check(marked, changed) is True


def test_other_configurations_are_refused_with_each_difference(marked):
    before = sorted((path.name, path.read_bytes()) for path in marked.iterdir())
    other = toys.run(
        model=toys.model(dropout=0.1, depth=4), steps=7, optimizer=AdamW(learning_rate=0.02, schedule=Constant())
    )
    with pytest.raises(UserError) as error:
        folder.check(marked, other)
    assert str(error.value).splitlines()[1:] == [
        "  model.depth: 3 -> 4",
        "  optimizer.learning_rate: 0.01 -> 0.02",
        "  steps: 6 -> 7",
    ]
    assert sorted((path.name, path.read_bytes()) for path in marked.iterdir()) == before


def test_something_else(tmp_path):
    (tmp_path / "thesis.tex").write_text("")
    with pytest.raises(UserError, match=r"is no run folder, yet not empty \(thesis.tex\)"):
        folder.check(tmp_path, toys.run())
    with pytest.raises(UserError, match="is a file"):
        folder.check(tmp_path / "thesis.tex", toys.run())
    with pytest.raises(UserError, match=r"thesis\.tex is a file, so no folder"):
        folder.check(tmp_path / "thesis.tex" / "run", toys.run())


@pytest.mark.parametrize("text", ["", "[]", '{"format": 1}'])
def test_a_torn_mark(marked, text):
    (marked / "run.json").write_text(text)
    with pytest.raises(UserError, match=r"run\.json: cannot be read"):
        folder.check(marked, toys.run())


def test_a_folder_that_may_not_be_written(tmp_path, monkeypatch):
    monkeypatch.setattr("os.access", lambda path, mode: False)
    with pytest.raises(UserError, match=f"you may not write to {tmp_path}"):
        folder.check(tmp_path / "run", toys.run())


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be written: Not a directory"):
        folder.mark(tmp_path / "file" / "run", toys.run())


def test_what_was_sent_writes_nothing_into_the_terminal(marked):
    """A field of `run.json` with an escape sequence is shown as it is written."""
    file = marked / folder.FILE
    stored = json.loads(file.read_text())
    stored["fields"]["steps"] = "6\x1b[2J"
    file.write_text(json.dumps(stored))
    with pytest.raises(UserError) as error:
        folder.check(marked, toys.run(model=toys.model(dropout=0.1)))
    assert "\x1b" not in str(error.value)
    assert r"\x1b[2J" in str(error.value)


def test_a_class_of_the_same_name_is_refused(marked, monkeypatch):
    """A norm of the user's own that is called like ours."""
    monkeypatch.setattr(sys, "modules", dict(sys.modules))
    mine = types.ModuleType("mine_same_name")
    sys.modules["mine_same_name"] = mine
    fields = "eps: float = 1e-6\n    build = None"
    norm = f"@dataclasses.dataclass(frozen=True)\nclass RMSNorm(Norm):\n    {fields}"
    exec(f"import dataclasses\nfrom arch.layers.norms.common import Norm\n{norm}", mine.__dict__)
    other = toys.run(model=toys.model(dropout=0.1, norm=mine.RMSNorm()))
    line = r"\n  model\.norm: arch\.layers\.norms\.common:RMSNorm -> mine_same_name:RMSNorm$"
    with pytest.raises(UserError, match=line):
        folder.check(marked, other)


def edit(marked, **fields) -> None:
    stored = json.loads((marked / "run.json").read_text())
    (marked / "run.json").write_text(json.dumps({**stored, **fields}))


def test_other_code_is_told_and_refused_unless_it_is_accepted(marked):
    code = json.loads((marked / "run.json").read_text())["code"]
    assert "arch.layers.norms.common" in code
    edit(marked, code={**code, "arch.layers.norms.common": "0"})
    line = f"{marked}: holds a run of other code (arch.layers.norms.common differs)"
    with pytest.raises(UserError) as error:
        folder.check(marked, toys.run())
    assert str(error.value) == f"{line}; give another folder, or --trust_cells to go on with it all the same"
    told = []
    assert folder.check(marked, toys.run(), other=told.append) is True
    assert told == [line]
    with pytest.raises(UserError, match="steps: 6 -> 7"):
        folder.check(marked, toys.run(steps=7), other=told.append)
    assert len(told) == 1, "another configuration is what counts"


def test_other_data_is_refused(marked):
    edit(marked, data=["of before"])
    with pytest.raises(UserError, match=r"\n  data: its content is another one"):
        folder.check(marked, toys.run())


def test_a_folder_of_before_opens_by_the_names_of_classes(marked):
    """Format 1: bare names, no code. Its code is not known, which is told."""
    fields = folder._resumed(old_fields(toys.run()), None)
    assert fields["model.block.norm"] == "RMSNorm"
    (marked / "run.json").write_text(json.dumps({"format": 1, "fields": fields}))
    told = []
    assert folder.check(marked, toys.run(), other=told.append) is True
    assert told == [f"{marked}: holds a run of other code (its code was not noted)"]
    with pytest.raises(UserError, match=r"\n  steps: 6 -> 7$"):
        folder.check(marked, toys.run(steps=7), other=told.append)


def test_a_format_of_tomorrow(marked):
    edit(marked, format=3)
    with pytest.raises(UserError, match=r"run\.json: cannot be read \(it has format 3; this version reads 2\)"):
        folder.check(marked, toys.run())


def test_what_has_been_renamed_since_is_the_same(marked, monkeypatch):
    text = (marked / "run.json").read_text()
    text = text.replace('"arch.layers.norms.common:RMSNorm"', '"arch.norms:MeanSquare"').replace(
        "mixer.heads", "mixer.n_heads"
    )
    (marked / "run.json").write_text(text)
    with pytest.raises(UserError, match="holds a run with another configuration"):
        folder.check(marked, toys.run())
    moves = {
        "arch.norms:MeanSquare": "arch.layers.norms.common:RMSNorm",
        "arch.layers.attention.softmax:Attention.n_heads": "heads",
    }
    monkeypatch.setattr(renames, "RENAMES", moves)
    assert folder.check(marked, toys.run()) is True


def test_a_field_that_a_class_has_got_since(marked):
    """At its default it says nothing new; at another value the run is another."""
    fields = json.loads((marked / "run.json").read_text())["fields"]
    edit(marked, fields={path: value for path, value in fields.items() if path != "model.block.mixer.softcap"})
    assert folder.check(marked, toys.run()) is True
    edit(marked, fields={path: value for path, value in fields.items() if path != "model.block.mixer.kv_heads"})
    with pytest.raises(UserError, match=r"model\.block\.mixer\.kv_heads: \(absent\) -> 2"):
        folder.check(marked, toys.run())
