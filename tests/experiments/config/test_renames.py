"""A configuration that was stored before its parts were moved and renamed is read by its new names."""

import json

import pytest

from arch import renames
from arch.spec import UserError
from experiments.config.stored import from_json, to_json
from tests.experiments.config.toys import Attention, Model, Run

HERE = "tests.experiments.config.toys"
OLD = "tests.experiments.config.gone"


@pytest.fixture
def stored() -> str:
    """As it was written when the norm was called MeanSquare, heads n_heads, and all of it was elsewhere."""
    text = to_json(Run(model=Model(mixer=Attention(heads=7))))
    text = text.replace(f"{HERE}:RMSNorm", f"{HERE}:MeanSquare").replace(HERE, OLD).replace('"heads"', '"n_heads"')
    data = json.loads(text) | {"files": {}}  # as of a module of the project
    assert data["config"]["class"] == f"{OLD}:Run"
    return json.dumps(data)


def test_moved_classes_and_renamed_fields(stored, monkeypatch):
    moves = {OLD: HERE, f"{HERE}:MeanSquare": f"{HERE}:RMSNorm", f"{OLD}:Attention.n_heads": "heads"}
    monkeypatch.setattr(renames, "RENAMES", moves)
    assert from_json(stored, trust=True) == Run(model=Model(mixer=Attention(heads=7)))


def test_a_package_that_moved(stored, monkeypatch):
    text = stored.replace(OLD, "old.place.toys").replace("n_heads", "heads").replace("MeanSquare", "RMSNorm")
    monkeypatch.setattr(renames, "RENAMES", {"old.place.*": "tests.experiments.config.*"})
    assert from_json(text, trust=True) == Run(model=Model(mixer=Attention(heads=7)))


def test_without_an_entry_it_is_gone(stored):
    with pytest.raises(UserError, match=f"config: {OLD}:Run is gone"):
        from_json(stored, trust=True)


def test_the_table_leads_to_what_is_there():
    """Every entry of the real table: the class, the module or the field that it names exists."""
    for old, new in renames.RENAMES.items():
        assert old != new
        if ":" in new:
            module, _, name = renames.present_name(new).partition(":")
            assert hasattr(__import__(module, fromlist=["_"]), name), new
        elif ":" not in old and not new.endswith("*"):
            __import__(new)
