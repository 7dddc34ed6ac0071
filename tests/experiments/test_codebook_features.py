"""The study of codebook features: what its arms share, and the tiny form."""

import dataclasses
import json
import os
from pathlib import Path

import pytest

from arch.bottlenecks.several import PerHead
from arch.spec import UserError
from experiments.codebook_features import (
    ATTENTION,
    BASE,
    FORMS,
    GROUPED,
    IMPORTED,
    LONGER,
    both,
    get_config,
    smollm2,
)
from experiments.hf.imports import import_
from experiments.hf.origins import NAMED
from experiments.study.engine import run_study
from experiments.study.from_arm import parent
from train.data import cache
from train.data.fetch import PACKAGES
from train.data.state_machine import StateMachine
from train.loop import train

MACHINES = [form for form in FORMS if isinstance(get_config(form).arms[BASE].data, StateMachine)]


@pytest.mark.parametrize("form", FORMS)
def test_arms_go_on_from_the_base_and_differ_in_codes_alone(form):
    arms = get_config(form).arms
    longer = arms[LONGER]
    for name, run in arms.items():
        assert not list(run.conflicts(1)), name
        assert parent(run) == (None if name == BASE else BASE)
        if name != BASE:
            block = dataclasses.replace(run.model.block, at=())
            assert dataclasses.replace(run, model=dataclasses.replace(run.model, block=block)) == longer, name
    assert (
        dataclasses.replace(longer, start=None, steps=0 + arms[BASE].steps, optimizer=arms[BASE].optimizer)
        == (arms[BASE])
    )


@pytest.mark.parametrize("form", MACHINES)
def test_codes_stand_where_the_paper_has_them(form):
    study = get_config(form)
    (site, part), = study.arms[ATTENTION].model.block.at  # fmt: skip
    assert (site, type(part), part.each.k) == ("attn.z", PerHead, 1)
    ks = []
    for name, run in study.arms.items():
        if name.startswith("attention and MLP"):
            (attention, heads), (mlp, codes) = run.model.block.at
            assert (attention, mlp, heads.each) == ("attn.z", "mlp_out", codes)
            assert name == both(codes.k)
            ks.append(codes.k)
    assert ks == sorted(ks)
    assert ks[0] == 1


def test_the_cpu_form_has_more_states_than_twice_the_width_and_unknown_forms_are_refused():
    base = get_config("cpu").arms[BASE]
    assert base.data.states > 2 * base.model.width
    with pytest.raises(UserError, match="tiny"):
        get_config("large")


@pytest.mark.slow
def test_the_tiny_form_runs(tmp_path):
    study = get_config("tiny")
    results = run_study(study, "tiny", tmp_path, note=lambda line: None)
    assert all(cell.status == "finished" for cell in results.cells)
    for cell in results.cells:
        assert 0 <= cell.metrics["suite/valid_transition_score"] <= 1
        assert ("suite/code_precision_score" in cell.metrics) == ("MLP" in cell.arm)
        assert ("suite/mlp_distance_error" in cell.metrics) == ("MLP" in cell.arm)
        assert ("suite/attention_distance_error" in cell.metrics) == (cell.arm not in (BASE, LONGER))
    assert len(results.verdicts) == len(study.claims)


def test_the_form_of_an_imported_model_says_how_to_import_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"^runs/smollm2: holds no imported model .* import smollm2 --workdir=runs/"):
        get_config(IMPORTED)


@pytest.mark.slow
@pytest.mark.timeout(3000)  # ten minutes on two busy cores, for programs of tests are compiled without optimisation
def test_codebooks_in_an_imported_model(tmp_path):
    """Two steps of SmolLM2 with codes at three layers, the others as they came."""
    lacking = [package.file for package in (NAMED["smollm2"].package, PACKAGES["wiki_leads"]) if not here(package)]
    if lacking:
        pytest.skip(f"{', '.join(lacking)}: neither in $STRATA_SOURCES nor in the cache")
    folder = str(tmp_path / "smollm2")
    import_("smollm2", folder, note=lambda line: None)
    study = smollm2(folder, steps=2)
    base, run = study.arms[LONGER], study.arms[GROUPED]
    assert [layer for layer, block in enumerate(run.model.block.each) if block.at] == [9, 19, 29]
    assert dataclasses.replace(run, model=base.model, start=base.start) == base
    source = dataclasses.replace(run.data.source, validation=0.001, test=0.001)
    small = dataclasses.replace(
        run,
        data=dataclasses.replace(run.data, source=source, length=16),
        start=dataclasses.replace(run.start, rows=16, steps=1),
        logging=dataclasses.replace(run.logging, log=1),
    )
    done = train(small, tmp_path / "run")
    steps = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    losses = [line["train/loss"] for line in steps if "train/loss" in line]
    assert len(losses) == 2
    assert all(0 < loss < 8 for loss in losses)  # of ids by chance: 10.8
    assert 0 < done.metrics["val/loss"] < 8


def here(package):
    """Whether a package can be read without a network."""
    folder = os.environ.get("STRATA_SOURCES")
    kept = cache.root() / "sources" / f"{package.file}-{package.sha256[:12]}"
    return ((kept if folder is None else Path(folder)) / package.file).exists()
