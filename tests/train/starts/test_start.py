"""Starting from another run: what is taken equals the source bit for bit, the rest is fresh, all else is refused."""

import dataclasses
import json
import shutil
from pathlib import Path

import jax
import numpy as np
import pytest
from flax import nnx

from arch.bottlenecks.codebook import Codebook
from arch.bottlenecks.several import PerHead
from arch.bottlenecks.vector_quantized import VectorQuantized
from arch.params import split
from arch.spec import SpecError, UserError
from tests.train import toys
from train.ensemble import Ensemble
from train.loop import train
from train.record.checkpoint import CHECKPOINTS
from train.record.folder import check
from train.setup import prepare
from train.starts.start import KINDS, FromRun, begin

SOURCE = toys.run(model=toys.model(), steps=2)


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    folder = tmp_path_factory.mktemp("source") / "run"
    return str(folder), jax.device_get(train(SOURCE, folder).params)


def leaves(tree):
    found, _ = jax.tree_util.tree_flatten_with_path(jax.device_get(tree))
    return {".".join(key.key for key in path): leaf for path, leaf in found}


def started(run, tmp_path, capsys, **options):
    """The parameters of a run whose only step changes nothing, and what it said."""
    still = dataclasses.replace(run.optimizer, learning_rate=0.0)
    done = train(dataclasses.replace(run, optimizer=still, steps=1), tmp_path / "run", **options)
    return leaves(done.params), capsys.readouterr().out


def test_all_of_a_run(source, tmp_path, capsys):
    folder, before = source
    found, said = started(toys.run(model=toys.model(), seed=5, start=FromRun(folder)), tmp_path, capsys)
    jax.tree.map(np.testing.assert_array_equal, found, leaves(before))
    assert "none is fresh" in said


@pytest.mark.parametrize("path", ["run", "../{0}/run", "~/run"])
def test_a_folder_as_people_write_it(source, tmp_path, monkeypatch, path):
    at, before = Path(source[0]).parent, source[1]
    monkeypatch.chdir(at)
    monkeypatch.setenv("HOME", str(at))
    found = FromRun(path.format(at.name)).arrays()
    jax.tree.map(np.testing.assert_array_equal, dict(found["params"]), leaves(before))


def test_part_of_a_run_under_other_names(source, tmp_path, capsys):
    folder, before = source
    start = FromRun(folder, take=("^embedding", r"mixer\.k\.kernel"), rename=((r"mixer\.k\.", "mixer.v."),))
    found, said = started(toys.run(model=toys.model(), seed=5, start=start), tmp_path, capsys)
    old = leaves(before)
    np.testing.assert_array_equal(found["embedding.table"], old["embedding.table"])
    np.testing.assert_array_equal(found["stack.blocks.mixer.v.kernel"], old["stack.blocks.mixer.k.kernel"])
    assert (found["stack.blocks.mixer.k.kernel"] != old["stack.blocks.mixer.k.kernel"]).any()
    assert "2 arrays taken; fresh: head.kernel" in said


def test_a_bare_model_into_one_with_codebooks(source):
    """All of the bare model is taken bit for bit; parameters and buffers of the codebooks stay fresh, and are told."""
    folder, before = source
    at = (("attn.z", PerHead(Codebook(codes=6))), ("mlp_out", VectorQuantized(codes=5)))
    model = dataclasses.replace(toys.model(), block=dataclasses.replace(toys.model().block, at=at))
    fresh = dict(zip(KINDS, split(model.build(rngs=nnx.Rngs(5)))[1:], strict=True))
    said = []
    found = begin(FromRun(folder), fresh, said.append)
    params, old, codes = leaves(found["params"]), leaves(before), "stack.blocks.at.attn_z.each.codes"
    assert params.keys() == old.keys() | {codes}
    for path, value in old.items():
        np.testing.assert_array_equal(params[path], value, err_msg=path)
    np.testing.assert_array_equal(params[codes], leaves(fresh["params"])[codes])
    jax.tree.map(np.testing.assert_array_equal, found["buffers"], fresh["buffers"])
    buffers = [f"stack.blocks.at.{name}" for name in ("attn_z.each.counts", "mlp_out.codes", "mlp_out.counts")]
    assert set(leaves(found["buffers"])) == set(buffers)
    assert said == [f"start: {len(old)} arrays taken; fresh: {', '.join([codes, *buffers])}"]


def test_every_replica_gets_it(source, tmp_path, capsys):
    folder, before = source
    run = toys.run(model=toys.model(), start=FromRun(folder))
    found, _ = started(run, tmp_path, capsys, ensemble=Ensemble(({"seed": 1}, {"seed": 2})))
    for path, value in leaves(before).items():
        np.testing.assert_array_equal(found[path], np.stack([value, value]))


def test_resuming_comes_first(source, tmp_path):
    """A resumed run equals the uninterrupted one, also when its source is gone by then."""
    copied = tmp_path / "source"
    shutil.copytree(source[0], copied)
    run = toys.run(model=toys.model(), start=FromRun(str(copied)), steps=4)
    whole = jax.device_get(train(run, tmp_path / "run").state)
    shutil.rmtree(tmp_path / "run" / CHECKPOINTS / "4")
    copied.rename(tmp_path / "gone")
    jax.tree.map(np.testing.assert_array_equal, jax.device_get(train(run, tmp_path / "run").state), whole)


def test_another_source_is_another_run(source, tmp_path):
    folder, _ = source
    run = toys.run(model=toys.model(), start=FromRun(folder), steps=2)
    train(run, tmp_path / "run")
    stored = json.loads((tmp_path / "run" / "run.json").read_text())
    assert stored["start"]
    stored["start"] = "another"
    (tmp_path / "run" / "run.json").write_text(json.dumps(stored))
    with pytest.raises(UserError, match="start: another -> "):
        check(tmp_path / "run", run)


@pytest.mark.parametrize(
    ("fields", "line"),
    [
        ({"take": ("nothing_like_it",)}, "matches no parameter of"),
        ({"take": ("^embedding", "nothing_like_it")}, "'nothing_like_it' matches no parameter of"),
        ({"rename": (("nothing_like_it", "x"),)}, "'nothing_like_it' changes no path that is taken; there are"),
        ({"rename": (("^embedding", "elsewhere"),)}, "the model has no elsewhere.table; rename it or do not take it"),
        ({"rename": (("mixer.[qk]", "mixer.q"),)}, "would both become stack.blocks.mixer.q.kernel"),
        ({"rename": (("^norm.gain", "stack.blocks.mixer_norm.gain"),), "take": ("^norm",)}, r"has the shape \[32\] in"),
        ({"step": 77}, "holds no checkpoint of step 77; it has steps"),
        ({"folder": "not/there"}, "start.folder=not/there: holds no checkpoint; train it first"),
    ],
)
def test_what_has_no_place_is_refused(source, tmp_path, fields, line):
    start = FromRun(**{"folder": source[0], **fields})
    with pytest.raises(UserError, match=line):
        train(toys.run(model=toys.model(), start=start, steps=1), tmp_path / "run")


def test_a_pattern_that_is_none():
    with pytest.raises(SpecError, match="must be a regular expression"):
        FromRun("x", take=("(",))


def test_a_damaged_source_is_refused(source, tmp_path, monkeypatch):
    folder, _ = source
    run = toys.run(model=toys.model(), start=FromRun(folder), steps=1)
    newest = max((Path(folder) / CHECKPOINTS).iterdir(), key=lambda path: int(path.name))
    extra = newest / "extra" / "metadata"
    whole = extra.read_bytes()
    text = json.loads(whole)
    text["digest"][list(text["arrays"]).index("params.head.kernel")] += 1
    extra.write_text(json.dumps(text))
    try:
        with pytest.raises(UserError, match=rf"{newest} is damaged \(extra/metadata .*\); name another step"):
            train(run, tmp_path / "run")
        monkeypatch.setattr("train.starts.start.wrong", lambda folder, only: "")
        with pytest.raises(UserError, match=r"damaged, head.kernel is not what was saved"):
            train(run, tmp_path / "another")
    finally:
        extra.write_bytes(whole)


def test_frozen_parameters_have_no_state_and_no_gradient(source, tmp_path):
    """A probe: everything from the source but the head, and only the head is trained."""
    folder, before = source
    start = FromRun(folder, take=("^(?!head)",))
    frozen = dataclasses.replace(SOURCE.optimizer, freeze=("^(?!head)",))
    done = train(toys.run(model=toys.model(), start=start, optimizer=frozen, steps=2), tmp_path / "run")
    now, old = leaves(done.params), leaves(before)
    for path, value in now.items():
        if path != "head.kernel":
            np.testing.assert_array_equal(value, old[path], err_msg=path)
    sizes = sorted({leaf.shape for leaf in jax.tree.leaves(done.state["opt_state"]) if leaf.ndim})
    assert sizes == [now["head.kernel"].shape]


def test_nothing_is_left_to_train():
    run = toys.run(model=toys.model(), optimizer=dataclasses.replace(SOURCE.optimizer, freeze=(".",)))
    with pytest.raises(SpecError, match=r"freeze=.*must leave a parameter to train, or a part with buffers"):
        prepare(run, run.data.describe())
