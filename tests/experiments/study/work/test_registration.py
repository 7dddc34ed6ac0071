"""What was registered before the first cell, and what was changed since."""

import dataclasses
import json

from experiments.study.claims.claims import Better, NoWorse
from experiments.study.work.registration import lines, register
from tests.experiments.study import toy


def test_what_is_registered_stays_and_edits_are_listed(tmp_path):
    study = toy.study()
    first = register(tmp_path, study, 0)
    assert (first["cells"], first["edits"]) == (0, [])
    assert register(tmp_path, study, 7) == first, "nothing was changed"
    other = toy.study(claims=(NoWorse("depth=1", than="depth=2", margin=0.1),), seeds=5)
    edited = register(tmp_path, other, 7)
    assert edited["hash"] == first["hash"]
    assert [(edit["field"], edit["cells"]) for edit in edited["edits"]] == [("claims", 7), ("primary", 7), ("seeds", 7)]
    again = register(tmp_path, other, 9)
    assert again == edited, "an edit is listed once"
    told = list(lines(edited))
    assert told[0].startswith("Claims, arms, grid and seeds were registered before the first cell, as ")
    assert "without Better(arm='depth=2', than='depth=1'" in told[1]
    assert "with NoWorse(arm='depth=1', than='depth=2', margin=0.1" in told[1]
    assert told[3] == "Edited when 7 cells were there: seeds: 2 before, now 5."


def test_a_changed_arm_is_named(tmp_path):
    study = toy.study()
    register(tmp_path, study, 0)
    changed = {**study.arms, "depth=2": dataclasses.replace(study.arms["depth=2"], steps=7)}
    told = list(lines(register(tmp_path, dataclasses.replace(study, arms=changed), 3)))
    assert told[1:] == ["Edited when 3 cells were there: arms: depth=2 changed."]


def test_margins_and_the_primary_claim_are_part_of_it(tmp_path):
    def hash_of(*claims):
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        folder.mkdir()
        return register(folder, toy.study(claims=claims), 0)["hash"]

    better, worse = Better("depth=2", than="depth=1"), NoWorse("depth=1", than="depth=2", margin=0.1)
    others = [hash_of(better, worse), hash_of(worse, better), hash_of(better, dataclasses.replace(worse, margin=0.2))]
    assert len(set(others)) == 3
    assert hash_of(better, worse) == others[0]


def test_a_folder_of_before_is_registered_with_the_cells_it_has(tmp_path):
    (tmp_path / "study.json").write_text(json.dumps({"format": 1, "question": toy.study().question}))
    told = next(lines(register(tmp_path, toy.study(), 12)))
    assert "were registered when 12 cells were there" in told
