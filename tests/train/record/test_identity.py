"""What a run is called: by the classes, not their names; by the code, not its comments; by the content of its data."""

import dataclasses
import enum
import sys
from typing import Any

import numpy as np
import pytest

from arch import renames
from arch.spec import Spec
from tests.train import toys
from train.data import LocalText, Text
from train.data.tokenizers import TokenizerFile
from train.record import code, identity
from train.record.identity import identify, old_fields, other_code, text

NORM = '''"""A norm."""
import dataclasses

from arch.layers.norms.common import Norm
from mine_helper import half


@dataclasses.dataclass(frozen=True)
class RMSNorm(Norm):
    """Nothing like ours."""

    eps: float = 1e-6

    def build(self, width, make, axis="embed"):
        import mine_lazy

        return half(mine_lazy.value)  # a comment
'''


@pytest.fixture
def norm(mine):
    """`norm(source)` is a run with the user's norm."""
    mine(
        "mine_helper",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import mine_types\ndef half(x):\n    return x / 2\n",
    )
    mine("mine_lazy", "value = 1\n")

    def make(source: str = NORM):
        module = mine("mine_norm", source)
        block = dataclasses.replace(toys.model().block, norm=module.RMSNorm())
        return toys.run(model=toys.model(block=block))

    return make


def digests(run) -> dict[str, str]:
    return dict(identify(run).code)


def test_a_class_of_the_same_name_is_another(norm):
    ours, theirs = identify(toys.run()), identify(norm())
    assert ours.fields["model.block.norm"] == "arch.layers.norms.common:RMSNorm"
    assert theirs.fields["model.block.norm"] == "mine_norm:RMSNorm"
    assert ours.what() != theirs.what()
    assert ours.changed(theirs)[0] == ("model.block.norm: arch.layers.norms.common:RMSNorm -> mine_norm:RMSNorm")


def test_the_code_is_that_of_the_parts_of_what_they_import_and_of_the_step(norm):
    found = digests(norm())
    assert {"mine_norm", "mine_helper", "mine_lazy", "tests.train.toys"} <= set(found)
    assert {
        "arch.layers.norms.common",
        "arch.layers.attention.softmax",
        "arch.params",
        "train.step",
        "train.ensemble",
    } <= set(found)
    assert not {
        "train.record.reporter",
        "train.record.checkpoint",
        "train.loop",
        "train.record.folder",
        "train.record.lock",
    } & set(found)
    assert not any(name.startswith(("experiments", "jax", "numpy", "dataclasses")) for name in found)
    assert "mine_types" not in found, "imported for type checkers alone"
    assert "arch.blocks.admin" not in found, "not a part of this run"
    assert not {"train.optim.muon", "train.optim.adafactor"} & set(found), "train.optim brings them for others"


UNSAID = {
    "comment": ("  # a comment", "  # another"),
    "docstring of the module": ('"""A norm."""', '"""Another word for it."""'),
    "docstring of the class": ('    """Nothing like ours."""\n\n', ""),
    "formatting": ("half(mine_lazy.value)", "(half(\n            mine_lazy.value\n        ))"),
    "quotes": ('"embed"', "'embed'"),
    "a text after a field": ("1e-6\n", '1e-6\n    """Added to the mean."""\n'),
}


@pytest.mark.parametrize("edit", UNSAID.values(), ids=UNSAID)
def test_what_says_nothing_to_a_computer_changes_nothing(norm, edit):
    before = digests(norm())
    assert edit[0] in NORM
    assert digests(norm(NORM.replace(*edit))) == before


SAID = {
    "value": ("half(mine_lazy.value)", "half(0)"),
    "default": ("1e-6", "1e-5"),
    "type of a number": ("half(mine_lazy.value)", "half(1.0)"),
    "order": ("half(mine_lazy.value)", "half(value=mine_lazy.value)"),
}


@pytest.mark.parametrize("edit", SAID.values(), ids=SAID)
def test_an_edit_is_seen_in_its_module_alone(norm, edit):
    before = digests(norm())
    after = digests(norm(NORM.replace(*edit)))
    assert {name for name in after if after[name] != before.get(name)} == {"mine_norm"}
    assert other_code(before, after) == "mine_norm differs"


def test_an_edit_of_what_is_imported_within_a_function_is_seen(norm, mine):
    before = digests(norm())
    mine("mine_lazy", "value = 2\n")
    assert other_code(before, digests(norm())) == "mine_lazy differs"


def test_an_edited_file_counts_when_it_is_imported_anew(norm, tmp_path):
    """What this process runs is what it has imported."""
    run = norm()
    before = digests(run)
    (tmp_path / "mine_norm.py").write_text(NORM.replace("1e-6", "1e-5"))
    assert digests(run) == before
    assert digests(norm(NORM.replace("1e-6", "1e-5"))) != before


def test_a_part_whose_source_cannot_be_read_is_never_the_same(norm, tmp_path, monkeypatch):
    """As in a notebook: its digest is another in each process."""
    run = norm()
    sys.modules["mine_norm"].__file__ = None
    found = identify(run).code["mine_norm"]
    assert found.startswith("unknown ")
    code._unknown.cache_clear()
    code._known.clear()
    assert identify(run).code["mine_norm"] not in ("", found)


def test_content_counts(tmp_path):
    """Of the text and of a tokenizer's file, whose paths stay the same."""
    (tmp_path / "text.txt").write_text("one\ntwo\n")
    (tmp_path / "tokenizer.json").write_text("{}")
    data = Text(source=LocalText(str(tmp_path / "text.txt")), tokenizer=TokenizerFile(str(tmp_path / "tokenizer.json")))

    def named() -> str:
        identity._contents.clear()
        return identify(toys.run(data=data)).what()

    first = named()
    assert named() == first
    (tmp_path / "tokenizer.json").write_text("{ }")
    second = named()
    (tmp_path / "text.txt").write_text("three\n")
    assert len({first, second, named()}) == 3


def test_what_it_starts_from_counts():
    fresh, begun = identify(toys.run()), identify(toys.run(), start="abc")
    assert fresh.what() != begun.what()
    assert fresh.changed(begun) == ["start: None -> abc"]


def test_a_move_changes_no_name(monkeypatch):
    """What was named before a module moved, and a class and a field were renamed, has that name afterwards."""
    run = toys.run()
    now = identify(run)
    there = {
        "arch.layers.norms.common:RMSNorm": "arch.norms:MeanSquare",
        "arch.layers.attention.softmax:Attention": "arch.attn:Attention",
    }
    fields = {
        path.replace("mixer.heads", "mixer.n_heads"): there.get(value, value) for path, value in now.fields.items()
    }
    before = dataclasses.replace(now, fields=fields).what()
    assert before != now.what()
    moves = {
        **renames.RENAMES,
        "arch.norms": "arch.layers.norms",
        "arch.layers.norms.common:MeanSquare": "arch.layers.norms.common:RMSNorm",
        "arch.attn": "arch.layers.attention",
        "arch.attn:Attention.n_heads": "heads",
    }
    monkeypatch.setattr(renames, "RENAMES", moves)
    assert identify(run).what() == before
    assert renames.present(fields) == now.fields
    old = old_fields(run)
    assert (old["model.block.norm"], old["model.block.mixer.n_heads"], old["steps"]) == ("MeanSquare", "4", "6")


def colour_of(paint: Any) -> Any:
    return paint


class Colour(enum.Enum):
    RED = 1


@dataclasses.dataclass(frozen=True)
class Paint(Spec):
    anything: Any = None


DIFFERENT = [1, 1.0, True, "1", (1,), [1], None, "None", {"a": 1}, {"a": 1.0}, {1}, b"1", Colour.RED, Colour, colour_of,
             Paint(1), Paint("1"), np.arange(3), np.arange(3.0), (Paint([Paint(1)]),)]  # fmt: skip


def test_values_are_told_apart():
    texts = [text(value) for value in DIFFERENT]
    assert len(set(texts)) == len(texts)
    assert not any(" at 0x" in one for one in texts)
    large = np.zeros(5000)
    other = large.copy()
    other[2500] = 1
    assert text(large) != text(other)


def test_code_of_parts_that_are_nowhere_but_in_a_list(norm):
    theirs = norm().model.block.norm
    assert "mine_norm" in identify(toys.run(data=dataclasses.replace(toys.Toy(), rows=[theirs]))).code  # type: ignore
