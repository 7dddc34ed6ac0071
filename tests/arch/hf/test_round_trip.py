"""Folders without torch: written, read, written again; shards; what is refused in one line, and nothing left behind."""

import errno
import json
import re
import shutil
import struct

import jax
import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy

from arch.hf import folder as folders
from arch.hf import safetensors as ours
from arch.hf.reading import read
from arch.hf.weights import closed, opened
from arch.spec import UserError
from tests.arch import tiny
from tests.arch.hf import cases


def bytes_of(folder):
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


@pytest.mark.parametrize("name", cases.CASES)
def test_written_read_and_written_again(name, tmp_path):
    """Equal bytes, numbers and configuration, in either type."""
    spec, params = cases.drawn(name)
    for dtype in ("float32", "bfloat16"):
        cases.export(spec, params, tmp_path / dtype, dtype=dtype)
        found = read(tmp_path / dtype)
        assert found.family.model_type == cases.KINDS[name]
        cases.export(found.model, found.params, tmp_path / "again", dtype=dtype)
        assert bytes_of(tmp_path / "again") == bytes_of(tmp_path / dtype)
        shutil.rmtree(tmp_path / "again")
        if dtype == "float32":
            held = cases.leaves(found.params)
            total = sum(leaf.size for leaf in cases.leaves(params).values())
            assert sum(leaf.size for leaf in held.values()) >= total
            sums = [sum(float(np.abs(leaf).sum()) for leaf in tree.values()) for tree in (held, cases.leaves(params))]
            assert sums[0] == pytest.approx(sums[1], rel=1e-4), "numbers are moved and none is changed"


@pytest.mark.parametrize("name", ["llama", "qwen3 by layer", "modernbert", "t5gemma"])
def test_by_layer_and_back(name):
    spec, params = cases.drawn(name)
    held = {path: weight.value() for path, weight in opened(spec, params).items()}
    assert any("layers.1." in path for path in held)
    tiny.close(closed(spec, held), params, 0, 0)


def test_the_files_are_those_of_the_package(tmp_path):
    spec, params = cases.drawn("gpt2")
    written = cases.export(spec, params, tmp_path / "out")
    theirs = safetensors.numpy.load_file(tmp_path / "out" / "model.safetensors")
    assert set(theirs) == {one.name for one in written.tensors}
    for one in written.tensors:
        np.testing.assert_array_equal(theirs[one.name], one.value())
    more = {"a": np.arange(6, dtype=np.int32).reshape(2, 3), "b": np.ones(3, ml_dtypes.bfloat16), "c": np.float64(2)}
    more = {name: np.asarray(value) for name, value in more.items()}
    safetensors.numpy.save_file({name: more[name] for name in ("a", "c")}, tmp_path / "theirs.safetensors")
    for name, value in ours.read(tmp_path / "theirs.safetensors").items():
        np.testing.assert_array_equal(value, more[name])
        assert value.dtype == more[name].dtype


def test_shards_hold_what_one_file_holds(tmp_path):
    spec, params = cases.drawn("llama")
    told = []
    cases.export(spec, params, tmp_path / "one")
    cases.export(spec, params, tmp_path / "many", shard=20_000, progress=lambda *now: told.append(now))
    index = json.loads((tmp_path / "many" / folders.INDEX).read_text())
    files = sorted(set(index["weight_map"].values()))
    assert len(files) > 3
    assert all((tmp_path / "many" / file).stat().st_size < 24_000 for file in files)
    assert told[-1][1] == told[-1][2] == index["metadata"]["total_size"]
    tiny.close(read(tmp_path / "many").params, read(tmp_path / "one").params, 0, 0)


@pytest.fixture
def out(tmp_path):
    spec, params = cases.drawn("llama")
    cases.export(spec, params, tmp_path / "out", shard=20_000)
    return tmp_path / "out"


def _index(out, change):
    held = json.loads((out / folders.INDEX).read_text())
    change(held["weight_map"])
    (out / folders.INDEX).write_text(json.dumps(held))


def _config(out, **fields):
    (out / "config.json").write_text(json.dumps(json.loads((out / "config.json").read_text()) | fields))


def _whole(out, change):
    """All tensors in one file, changed."""
    held = {}
    for file in sorted(out.glob("model-*.safetensors")):
        held |= safetensors.numpy.load_file(file)
        file.unlink()
    (out / folders.INDEX).unlink()
    change(held)
    safetensors.numpy.save_file(held, out / "model.safetensors")


def _cut(out):
    file = out / "model-00001-of-00004.safetensors"
    file = file if file.exists() else sorted(out.glob("model-*"))[0]
    file.write_bytes(file.read_bytes()[:-8])


def _pickle(out):
    _whole(out, lambda held: None)
    (out / "model.safetensors").rename(out / "pytorch_model.bin")


def _header(out):
    file = sorted(out.glob("model-*.safetensors"))[0]
    file.write_bytes(struct.pack("<Q", 10**15) + file.read_bytes()[8:])


NORM, TABLE = "model.norm.weight", "model.embed_tokens.weight"
WRONG = {
    "missing": (lambda out: _whole(out, lambda held: held.pop(NORM)), "the tensor model.norm.weight is missing"),
    "shape": (
        lambda out: _whole(out, lambda held: held.update({NORM: np.ones(31, np.float32)})),
        r"model.norm.weight has shape \[31\]; by config.json it must be \[32\]",
    ),
    "extra": (lambda out: _whole(out, lambda held: held.update(more=np.ones(1, np.float32))), "more has no place in"),
    "integers": (
        lambda out: _whole(out, lambda held: held.update({NORM: np.ones(32, np.int32)})),
        "holds int32; it must hold floating",
    ),
    "architecture": (lambda out: _config(out, model_type="mamba"), "model_type='mamba' has no counterpart here"),
    "rope": (
        lambda out: _config(out, rope_parameters={"rope_type": "yarn", "rope_theta": 1e4}),
        "rope_type='yarn': must be 'default'",
    ),
    "field": (lambda out: _config(out, hidden_size="wide"), "hidden_size='wide': must be a whole number"),
    "pickle": (_pickle, "pytorch_model.bin, a pickle, which is not opened"),
    "cut off": (_cut, "is cut off"),
    "header": (_header, "is cut off, or is no safetensors file"),
    "index": (lambda out: _index(out, lambda names: names.update({NORM: "../x.safetensors"})), "leaves the folder"),
    "index of a pickle": (
        lambda out: _index(out, lambda names: names.update({NORM: "x.bin"})),
        "nothing else is opened",
    ),
    "index lies": (lambda out: _index(out, lambda names: names.pop(NORM)), "in the index or in the files, not in both"),
    "code": (lambda out: _config(out, auto_map={"AutoModel": "../x.Y"}), "leaves the folder"),
    "no json": (lambda out: (out / "config.json").write_text("{"), "config.json: is no JSON"),
    "no folder": (shutil.rmtree, "is it a folder of Transformers"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_refused_in_one_line(name, out):
    spoil, told = WRONG[name]
    spoil(out)
    with pytest.raises(UserError, match=told) as error:
        read(out)
    assert len(str(error.value).splitlines()) == 1


def test_a_folder_that_holds_something_else_stays(tmp_path):
    spec, params = cases.drawn("llama")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("all of it")
    with pytest.raises(UserError, match=r"mine: holds something already \(thesis.txt\)"):
        cases.export(spec, params, tmp_path / "mine")
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["thesis.txt"]
    with pytest.raises(UserError, match=r"thesis.txt: is a file"):
        cases.export(spec, params, tmp_path / "mine" / "thesis.txt")


class KilledError(BaseException):
    pass


@pytest.mark.parametrize("what", [OSError(errno.ENOSPC, "No space left on device"), KilledError()])
def test_nothing_is_left_of_an_export_that_did_not_end(what, tmp_path, monkeypatch):
    spec, params = cases.drawn("llama")
    calls = []

    def full(file, array):
        calls.append(array)
        file.write(b"half")
        if len(calls) == 3:
            raise what

    monkeypatch.setattr(folders.safetensors, "write", full)
    with pytest.raises((UserError, KilledError)) as error:
        cases.export(spec, params, tmp_path / "out")
    if isinstance(what, OSError):
        assert str(error.value) == f"{tmp_path / 'out'}: cannot be written (no space left); nothing is left of it"
    assert list(tmp_path.iterdir()) == []


def test_numbers_that_are_not_finite_are_not_exported(tmp_path):
    spec, params = cases.drawn("llama")
    broken = jax.tree.map(np.array, params)
    broken["norm"]["gain"][3] = np.nan
    with pytest.raises(UserError, match=r"model.norm.weight: has numbers that are not finite"):
        cases.export(spec, broken, tmp_path / "out")
    broken["norm"]["gain"][3] = 7e4
    with pytest.raises(UserError, match=r"model.norm.weight: has numbers that are not finite as float16"):
        cases.export(spec, broken, tmp_path / "out", dtype="float16")
    cases.export(spec, broken, tmp_path / "out")
    held = safetensors.numpy.load_file(tmp_path / "out" / "model.safetensors")
    held["model.norm.weight"] = held["model.norm.weight"] * np.float32(np.inf)
    safetensors.numpy.save_file(held, tmp_path / "out" / "model.safetensors")
    with pytest.raises(UserError, match=r"model.norm.weight has numbers that are not finite"):
        read(tmp_path / "out")


def test_the_old_names_of_norms(tmp_path):
    """As the first releases of BERT have them."""
    spec, params = cases.drawn("bert")
    cases.export(spec, params, tmp_path / "named")
    cases.export(spec, params, tmp_path / "out")
    file = tmp_path / "out" / "model.safetensors"
    renamed = {
        re.sub(r"LayerNorm\.(weight|bias)$", lambda m: f"LayerNorm.{'gamma' if m[1] == 'weight' else 'beta'}", name): x
        for name, x in safetensors.numpy.load_file(file).items()
    }
    assert sum(name.endswith("gamma") for name in renamed) > 2
    safetensors.numpy.save_file(renamed, file)
    named, found = read(tmp_path / "named"), read(tmp_path / "out")
    tiny.close(found.params, named.params, 0, 0)
