"""A configuration as JSON comes back equal, and what cannot is told in one line."""

import dataclasses
import json
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arch.spec import Spec, UserError
from experiments.config.load import load
from experiments.config.stored import from_json, to_json
from tests.experiments.config.toys import Attention, Colour, LayerNorm, Model, RMSNorm, Rule, Run, Scaled

norms: Any = st.recursive(
    st.builds(RMSNorm, st.floats(min_value=0, max_value=1e300)) | st.builds(LayerNorm, bias=st.booleans()),
    lambda base: st.builds(Scaled, base, st.floats(allow_nan=False)),
    max_leaves=3,
)
runs = st.builds(
    Run,
    model=st.builds(
        Model, mixer=st.builds(Attention, heads=st.integers(1, 99), norm=st.none() | norms), norm=norms, extra=norms
    ),
    rate=st.floats(allow_nan=False),
    steps=st.integers(min_value=1),
    name=st.text(),
    note=st.none() | st.text(),
    fast=st.booleans(),
    colour=st.sampled_from(Colour),
    rules=st.lists(st.builds(Rule, st.text(), st.floats(allow_nan=False)), max_size=3).map(tuple),
    table=st.dictionaries(st.text(), st.floats(allow_nan=False), max_size=3),
    arms=st.dictionaries(st.text(), norms, max_size=2),
    anything=st.recursive(
        st.none() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary(),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.lists(inner, max_size=3).map(tuple)
            | st.dictionaries(st.integers() | st.text(), inner, max_size=3)
        ),
        max_leaves=6,
    ),
)


@given(runs)
def test_round_trip(run):
    text = to_json(run)
    again = from_json(text, trust=True)
    assert again == run
    assert repr(again) == repr(run)  # int and float, tuple and list are told apart
    json.loads(text, parse_constant=pytest.fail)  # strict JSON


def test_a_field_with_no_word_in_json_is_named():
    with pytest.raises(UserError, match=r"^config\.model\.norm\.base: a function cannot be written to JSON"):
        to_json(Run(model=Model(norm=Scaled(len and (lambda: 1)))))


def test_a_local_class_is_refused():
    @dataclasses.dataclass(frozen=True)
    class Local(Spec):
        pass

    with pytest.raises(UserError, match="defined inside a function"):
        to_json(Run(anything=Local()))


def test_a_class_of_the_users_file_comes_back_in_another_process(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text(
        "import dataclasses\nfrom arch.spec import Spec\n\n@dataclasses.dataclass(frozen=True)\n"
        "class Mine(Spec):\n    size: int = 1\n\ndef get_config(argument):\n    return Mine(5)\n"
    )
    loaded = load(str(file))
    text = to_json(loaded.spec)
    del sys.modules[loaded.module.__name__]  # what another process starts from
    again = from_json(text, trust=True)
    assert (type(again).__name__, again.size) == ("Mine", 5)
    del sys.modules[loaded.module.__name__]
    file.unlink()
    with pytest.raises(UserError, match=r"^config\.json: config: Mine was defined in .*mine\.py, which is gone$"):
        from_json(text, trust=True)


def edited(old: str, new: str) -> str:
    text = to_json(Run())
    assert old in text
    return text.replace(old, new)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("{", "c.json: is no configuration as a run folder holds it (Expecting property name"),
        ("[]", "c.json: is no configuration as a run folder holds it"),
        (edited('"format": 1', '"format": 2'), "c.json: has format 2; this version reads 1"),
        (edited('"width"', '"widht"'), "c.json: config.model.widht: Model has no such field; did you mean width?"),
        (edited("toys:RMSNorm", "toys:RMSNrm"), "c.json: config.model.norm: tests.experiments.config.toys no longer "
                                                "has RMSNrm; did you mean RMSNorm?"),
        (edited("toys:RMSNorm", "toys:Colour"), "c.json: config.model.norm: tests.experiments.config.toys:Colour "
                                                "is not a Spec"),
        (edited("tests.experiments.config.toys:RMSNorm", "gone:X"), "c.json: config.model.norm: gone:X is gone"),
        (edited('"heads": 4', '"heads": 0'), "c.json: no longer valid: Attention.heads=0: must be at least 1"),
        (edited('"heads": 4', '"head_dim": 4'), "c.json: cannot be read (TypeError: "),
        (edited('"name": "RED"', '"name": "PINK"'), "c.json: cannot be read (KeyError: 'PINK')"),
        ('{"format": 1, "files": {}, "config": 3}', "c.json: holds a int, not a configuration"),
        ('{"format": 1, "files": {}, "config": {"what": 3}}', "c.json: config: expected one of the keys class, "),
    ],
)  # fmt: skip
def test_what_is_wrong_with_the_text_is_one_line(text, line):
    with pytest.raises(UserError) as caught:
        from_json(text, "c.json", trust=True)
    assert str(caught.value).startswith(line)
    assert "\n" not in str(caught.value)


def test_a_field_that_the_class_has_got_since_takes_its_default():
    data = json.loads(to_json(Run(rate=0.5)))
    del data["config"]["fields"]["steps"]
    assert from_json(json.dumps(data), trust=True) == Run(rate=0.5)
