"""A configuration that somebody sent: what it names is not imported, and only Strata's own parts are made of it."""

import json
import os
import stat
import sys

import pytest

from arch.spec import UserError
from experiments.config import render, seal
from experiments.config.load import ROOT
from experiments.config.stored import from_json, to_json
from experiments.study.study import Study
from tests.experiments.config import toys
from tests.train import toys as trained
from train.data import LocalText, Text, Tfds, TfdsPairs
from train.run import Run

EVIL = """
import pathlib
pathlib.Path({mark!r}).write_text("ran")
from arch.layers.norms.common import RMSNorm as Norm
class Evil(Norm): pass
def panel(*_): return {{}}
"""


@pytest.fixture
def sent(tmp_path, monkeypatch):
    """A folder with a module beside `config.json` that leaves a mark when it is run, importable as `sent.evil`."""
    monkeypatch.setenv("STRATA_CACHE", str(tmp_path / "cache"))
    monkeypatch.syspath_prepend(str(tmp_path))
    folder = tmp_path / "sent"
    folder.mkdir()
    for name in ("evil", "other"):
        (folder / f"{name}.py").write_text(EVIL.format(mark=str(tmp_path / "mark")))
    yield folder
    assert not (tmp_path / "mark").exists()
    for name in ("sent", "sent.evil", "evil"):
        sys.modules.pop(name, None)


def config(run=None):
    run = trained.run(model=trained.model()) if run is None else run
    return json.loads(to_json(Run(model=run.model, data=trained_data())))


def trained_data():
    return Text(LocalText("a.txt"), length=16)


def norm(body, reference, files=None):
    """`body` with the norm of its blocks re-pointed."""
    body["config"]["fields"]["model"]["fields"]["block"]["fields"]["norm"]["class"] = reference
    return json.dumps({**body, "files": files or {}})


@pytest.mark.parametrize("by_file", [False, True], ids=["on the path", "by its file"])
@pytest.mark.parametrize("reference", ["sent.evil:Evil", "sent.evil:Norm", "evil:Evil", "experiments.sent.evil:Evil"])
def test_code_that_was_sent_is_not_imported(sent, reference, by_file):
    module = reference.partition(":")[0]
    files = {module: str(sent / "evil.py")} if by_file else {}
    (sent / "config.json").write_text(norm(config(), reference, files))
    with pytest.raises(UserError) as caught:
        render.read(sent)
    line = str(caught.value)
    assert line.count("\n") == 0
    assert line.startswith(f"{sent / 'config.json'}: config.model.block.norm: {module}")
    assert "--trust_code" in line or "is gone" in line
    if by_file or module == "sent.evil":
        assert str(sent / "evil.py") in line


def test_a_folder_inside_a_package_of_ours_is_no_module_of_ours(sent, monkeypatch):
    """experiments/results has no __init__.py, so that `import` would find a run folder in it."""
    import experiments

    monkeypatch.setattr(experiments, "__path__", [*experiments.__path__, str(sent.parent)])
    (sent / "config.json").write_text(norm(config(), "experiments.sent.evil:Evil"))
    with pytest.raises(UserError, match=r"experiments\.sent\.evil"):
        render.read(sent)


def test_it_is_taken_when_it_is_trusted(sent, tmp_path):
    (sent / "config.json").write_text(norm(config(), "sent.evil:Evil"))
    found = render.read(sent, trust=True)
    assert type(found.model.block.norm).__name__ == "Evil"
    (tmp_path / "mark").unlink()


@pytest.mark.parametrize(
    ("reference", "said"),
    [
        ("shutil:rmtree", "is code of"),
        ("os:system", "is code of"),
        ("experiments.config.render:write", "is not a Spec"),
        ("arch.layers.norms.common:dataclasses.os.system", "no longer has"),
        ("train.run:jax.Array", "no longer has"),
        ("arch.layers.norms.common:RMSNorm.__init__", "is not a Spec"),
        ("train.run:Run", "has no such field"),
        ("arch.layers.norms.common:Norm.mro", "no longer has"),
        ("arch..layers:X", "is gone"),
        ("arch.layers.no_such:X", "is gone"),
        ("", "is code of"),
        ("experiments/../sent/evil:Evil", "is code of"),
        ("\x1b[2Jarch:X", "is code of"),
    ],
)
def test_only_parts_are_made(sent, reference, said):
    (sent / "config.json").write_text(norm(config(), reference))
    with pytest.raises(UserError, match=said) as caught:
        render.read(sent)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("model", {"class": "train.optim.optimizers:SGD", "fields": {}}),
        ("data", 3),
        ("data", {"class": "experiments.study.work.ray_executor:Ray", "fields": {}}),
        ("steps", "many"),
        ("steps", [3]),
        ("logging", {"mapping": []}),
        ("optimizer", {"enum": "train.data.base:Progress", "name": "X"}),
        ("precision", "float8"),
        ("start", "runs/a"),
    ],
)
def test_values_are_of_the_types_of_their_fields(sent, path, value):
    body = config()
    body["config"]["fields"][path] = value
    (sent / "config.json").write_text(json.dumps(body))
    with pytest.raises(UserError) as caught:
        render.read(sent)
    assert "\n" not in str(caught.value)


def test_a_panel_of_somebody_elses_is_not_imported(sent):
    run = trained.run()
    body = json.loads(to_json(Study(question="?", arms={"a": Run(model=run.model, data=trained_data())}, claims=())))
    for name in ("sent.evil:panel", "sent.evil", "evil"):
        body["config"]["fields"]["diagnostics"] = [name]
        (sent / "config.json").write_text(json.dumps(body))
        with pytest.raises(UserError, match="diagnostics"):
            render.read(sent)
    body["config"]["fields"]["diagnostics"] = ["depth"]
    (sent / "config.json").write_text(json.dumps(body))
    assert render.read(sent).diagnostics == ("depth",)


@pytest.mark.parametrize("kind", [Tfds, TfdsPairs])
def test_no_data_set_is_put_into_a_folder_of_its_choice(sent, kind):
    source = kind("wmt14_translate/de-en", folder=str(sent.parent / "precious"))
    text = to_json(source)
    with pytest.raises(UserError, match=r"config\.folder=.*precious.*--trust_code"):
        from_json(text)
    assert from_json(text, trust=True) == source
    for folder in ("a\\u0000b", "x" * 5000):
        with pytest.raises(UserError, match="prepared"):
            from_json(text.replace(str(sent.parent / "precious"), folder))
    info = sent.parent / "precious" / "wmt14_translate" / "de-en" / "1.0.0" / "dataset_info.json"
    info.parent.mkdir(parents=True)
    info.write_text("{}")
    assert from_json(text) == source


@pytest.mark.parametrize(
    "text", [b"\xff\xfe", b"[" * 100_000, b'{"format": 1, "files": {}, "config": ' + b"[" * 9999, b"1"]
)
def test_what_is_no_configuration_is_one_line(sent, text):
    (sent / "config.json").write_bytes(text)
    with pytest.raises(UserError) as caught:
        render.read(sent)
    assert "\n" not in str(caught.value)


def test_what_this_user_wrote_opens_without_a_word(sent):
    """Parts of one's own, written on this machine: sealed. Not when the file is edited or the seal is another's."""
    folder = sent.parent / "mine"
    render.write(folder, toys.Run(steps=3))
    assert render.read(folder) == toys.Run(steps=3)
    key = seal.file()
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    text = (folder / "config.json").read_text()
    (folder / "config.json").write_text(text.replace('"steps": 3', '"steps": 4'))
    with pytest.raises(UserError, match=r"toys\.py.*--trust_code"):
        render.read(folder)
    assert render.read(folder, trust=True).steps == 4
    (folder / "config.json").write_text(text)
    assert render.read(folder).steps == 3
    key.unlink()  # another machine
    with pytest.raises(UserError, match="--trust_code"):
        render.read(folder)


@pytest.mark.parametrize("spoil", ["readable", "short", "link", "owner"])
def test_a_key_that_others_may_know_seals_nothing(sent, spoil, monkeypatch):
    folder = sent.parent / "mine"
    render.write(folder, toys.Run())
    key = seal.file()
    if spoil == "readable":
        key.chmod(0o640)
    elif spoil == "short":
        key.write_bytes(b"")
    elif spoil == "link":
        key.rename(sent / "key")
        key.symlink_to(sent / "key")
    else:
        monkeypatch.setattr(os, "geteuid", lambda: 12345)
        monkeypatch.setattr(seal, "file", lambda: key)
    with pytest.raises(UserError, match="--trust_code"):
        render.read(folder)


def test_without_a_cache_to_write_to_a_run_is_written_unsealed(sent, monkeypatch):
    (sent.parent / "file").write_text("")
    monkeypatch.setenv("STRATA_CACHE", str(sent.parent / "file"))
    render.write(sent.parent / "mine", toys.Run())
    with pytest.raises(UserError, match="--trust_code"):
        render.read(sent.parent / "mine")


def test_a_file_in_the_run_folder_is_not_trusted_for_its_seal(sent):
    """The seal is of `config.json` alone: what lies beside it may have been changed where it was sent from."""
    text = norm(config(), "evil:Evil", {"evil": str(sent / "evil.py")})
    (sent / "config.json").write_text(text)
    (sent / "config.json.seal").write_text(seal.of(text.encode()))
    with pytest.raises(UserError, match=r"evil\.py.*--trust_code"):
        render.read(sent)


def test_every_module_of_ours_is_told_from_others():
    from experiments.config.admission import location

    assert location("train.run") == ROOT / "train" / "run.py"
    assert location("arch.blocks") == ROOT / "arch" / "blocks" / "__init__.py"
    for name in ("tests.train.toys", "launch", "numpy", "experiments.results", "arch.", ".arch", "arch/run", ""):
        assert location(name) is None
