"""Names of before and of now, by artificial entries: whoever moves a module adds entries like these."""

import pytest

from arch import renames

MOVES = {
    "pkg.stacks": "pkg.stacks.sequential",
    "pkg.residual.*": "pkg.blocks.*",
    "pkg.blocks:PreNorm": "pkg.blocks.pre_norm:PreNorm",
    "pkg.blocks:Old": "pkg.blocks:Middle",
    "pkg.blocks:Middle": "pkg.blocks.late:New",
    "pkg.blocks.late:New.width": "size",
    "pkg.blocks:Old.size": "extent",
    "pkg.residual.admin:Admin.var": "variance",
}


@pytest.fixture(autouse=True)
def _moves(monkeypatch):
    monkeypatch.setattr(renames, "RENAMES", MOVES)


@pytest.mark.parametrize(
    ("before", "now"),
    [
        ("pkg.stacks:Sequential", "pkg.stacks.sequential:Sequential"),
        ("pkg.residual.admin:Admin", "pkg.blocks.admin:Admin"),
        ("pkg.residual.deep.er:X.Inner", "pkg.blocks.deep.er:X.Inner"),
        ("pkg.blocks:PreNorm", "pkg.blocks.pre_norm:PreNorm"),
        ("pkg.blocks:Old", "pkg.blocks.late:New"),
        ("pkg.residuals:Other", "pkg.residuals:Other"),
        ("mine:PreNorm", "mine:PreNorm"),
    ],
)
def test_classes_follow_their_entries_and_back(before, now):
    assert renames.present_name(before) == now
    assert renames.present_name(now) == now, "what has its present name keeps it"
    assert renames.first_name(now) == before
    assert renames.first_name(before) in (before, now)


def test_fields_follow_theirs_by_any_name_of_the_class():
    for name in ("pkg.blocks:Old", "pkg.blocks:Middle", "pkg.blocks.late:New"):
        assert renames.present_field(name, "width") == "extent"
        assert renames.present_field(name, "size") == "extent"
    assert renames.present_field("mine:New", "width") == "width"
    assert renames.first_field("pkg.blocks.late:New", "extent") == "width"
    assert renames.first_field("pkg.blocks.admin:Admin", "variance") == "var"
    assert renames.first_field("mine:New", "extent") == "extent"


def test_a_whole_configuration():
    before = {
        "": "train.run:Run",
        "model": "pkg.blocks:Old",
        "model.width": "3",
        "model.blocks.0": "pkg.residual.admin:Admin",
        "model.blocks.0.var": "'pkg.blocks:Old'",
        "width": "5",
    }
    now = {
        "": "train.run:Run",
        "model": "pkg.blocks.late:New",
        "model.extent": "3",
        "model.blocks.0": "pkg.blocks.admin:Admin",
        "model.blocks.0.variance": "'pkg.blocks:Old'",
        "width": "5",
    }
    assert renames.present(before) == now
    assert renames.first(now) == before


def test_a_module_that_moved_there_and_back(monkeypatch):
    monkeypatch.setattr(renames, "RENAMES", {"a:X": "b:X", "b:X": "a:X"})
    assert renames.present_name("a:X") in ("a:X", "b:X")
    assert renames.first_name("a:X") in ("a:X", "b:X")
