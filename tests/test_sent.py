"""Folders that somebody sent, put together by hypothesis: whatever is in them, the verbs import nothing of theirs,
change nothing outside, and end with a status and lines, not with a traceback."""

import contextlib
import copy
import json
import shutil
import sys
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from arch.blocks import PreNorm
from arch.layers.attention.softmax import Attention
from arch.models.decoder import Decoder
from arch.spec import UserError
from experiments.config.stored import to_json
from experiments.study.study import Study
from experiments.study.work.cells import Cells
from tests.experiments.study import fake
from tests.launching import launched
from tests.watch import snapshot, watch
from train.data import LocalText, Text
from train.record import folder as run_folder
from train.run import Run

THEIRS = (
    "sent.evil",
    "evil",
    "evil_too",
    "experiments.sent.evil",
    "arch.sent.evil",
    "train.data.evil",
    "runs.sent.evil",
)
NAMES = ("Evil", "Norm", "run", "Evil.__init__", "os.system", "__import__", "")
LIBRARY = (
    *("os:system", "shutil:rmtree", "builtins:exec", "subprocess:Popen", "pickle:loads"),
    *(
        "tests.launching:launched",
        "experiments.config.load:execute",
        "experiments.study.work.cells:write",
        "train.record.lock:Lock",
    ),
    *("experiments.config.load:importlib.import_module", "arch.spec:Spec", "launch:main", "antigravity:x"),
)
LINKS = ("checkpoints", "damaged", "config.txt", "metrics.jsonl", "run.json.lock", "tensorboard", "codes.html", "plots",
         "report.html", "results.json", "tables/arms.csv", "checkpoints/3", "cells", "cells/0a.0b.json", "groups/0a",
         "config.json.seal")  # fmt: skip
KEYS = ("../../escaped", "/tmp/strata_escaped", "..", "a/../../../escaped", "0a.0b", "\0", "", "x" * 300)
PHASES = (Phase.explicit, Phase.reuse, Phase.generate)
"""A failure is small as it is; to make it smaller takes minutes."""

VERBS = ("evaluate", "generate", "inspect", "train", "compare", "codes", "export", "report", "import")

references = st.sampled_from(LIBRARY) | st.builds("{}:{}".format, st.sampled_from(THEIRS), st.sampled_from(NAMES))
mutations = st.one_of(
    st.tuples(st.just("class"), st.integers(0, 40), references),
    st.tuples(st.just("class with its file"), st.integers(0, 40), references),
    st.tuples(st.just("enum"), st.integers(0, 40), references),
    st.tuples(st.just("panel"), st.just(0), references | st.sampled_from(THEIRS)),
    st.tuples(
        st.just("text"), st.integers(0, 200), st.sampled_from(("../../x", "$(touch x)", "{outside}", "\x1b[2J", ""))
    ),
    st.tuples(st.just("start"), st.just(0), st.sampled_from(("{outside}", "..", "{folder}", "/"))),
    st.tuples(st.just("tfds"), st.just(0), st.sampled_from(("{outside}", "{folder}"))),
    st.tuples(st.just("link"), st.just(0), st.sampled_from(LINKS)),
    st.tuples(st.just("cell"), st.just(0), st.sampled_from(KEYS)),
    st.tuples(st.just("bytes"), st.integers(0, 3000), st.binary(min_size=1, max_size=3)),
    st.tuples(st.just("seal"), st.just(0), st.text("0123456789abcdef", min_size=64, max_size=64)),
    st.tuples(st.just("results"), st.integers(0, 40), st.sampled_from(("../../x", "</script>", "$x^$", "\0"))),
)


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    """A run folder without checkpoints, and one of a study, as another user has written them."""
    home = tmp_path_factory.mktemp("good")
    (home / "text.txt").write_text("".join(f"the {n} little words of line {n * n}\n" for n in range(60)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STRATA_CACHE", str(home / "cache"))
        run = Run(
            model=Decoder(vocab=256, width=16, depth=1, block=PreNorm(mixer=Attention(heads=2))),
            data=Text(LocalText(str(home / "text.txt"), validation=0.3, per="line"), length=16),
            batch=4, steps=3,
        )  # fmt: skip
        run_folder.mark(home / "run", run)
        (home / "run" / "checkpoints" / "3").mkdir(parents=True)
        (home / "run" / "results.json").write_text(fake.results({"a": [1.0, 2.0]}).to_json())
        yield home, json.loads(to_json(run)), json.loads(to_json(Study(question="?", arms={"a": run})))


class Sent:
    """One folder, its modules, and what must not be touched."""

    def __init__(self, home, good):
        run, self.body, self.study = good[0] / "run", copy.deepcopy(good[1]), copy.deepcopy(good[2])
        self.home, self.folder, self.outside, self.out = home, home / "sent", home / "outside", home / "out"
        self.mark = self.outside / "ran"
        shutil.copytree(run, self.folder)
        self.outside.mkdir()
        (self.outside / "precious.json").write_text("mine")
        code = f"from pathlib import Path\nPath({str(self.mark)!r}).touch()\n"
        code += "from arch.layers.norms.common import RMSNorm as Norm\nclass Evil(Norm): pass\ndef run(*_): return {}\n"
        for name in ("evil", "evil_too", "__init__"):
            (self.folder / f"{name}.py").write_text(code)
        self.links = []

    def nodes(self, tag):
        """The tagged nodes of the configuration, outermost first."""
        found, rest = [], [self.body["config"]]
        while rest:
            node = rest.pop(0)
            rest += list(node.values()) if isinstance(node, dict) else node if isinstance(node, list) else []
            found += [node] if isinstance(node, dict) and tag in node else []
        return found

    def change(self, kind, place, value):
        value = (
            value.format(outside=self.outside, folder=self.folder) if isinstance(value, str) and "{" in value else value
        )
        if kind.startswith("class"):
            nodes = self.nodes("class")
            nodes[place % len(nodes)]["class"] = value
            if kind != "class":
                self.body["files"][value.partition(":")[0]] = str(self.folder / "evil.py")
        elif kind == "enum":
            fields = [node["fields"] for node in self.nodes("class") if node.get("fields")]
            fields[place % len(fields)][next(iter(fields[place % len(fields)]))] = {"enum": value, "name": "X"}
        elif kind == "panel":
            self.body = self.study
            self.body["config"]["fields"]["diagnostics"] = [value]
        elif kind == "text":
            fields = [node["fields"] for node in self.nodes("class") if node.get("fields")]
            texts = [(one, key) for one in fields for key, held in one.items() if held is None or isinstance(held, str)]
            at, key = texts[place % len(texts)]
            at[key] = value
        elif kind in ("start", "tfds"):
            self.body["config"]["fields"]["start" if kind == "start" else "data"] = (
                {"class": "train.starts.start:FromRun", "fields": {"folder": value}} if kind == "start" else
                {"class": "train.data.text:Text", "fields": {"source": {
                    "class": "train.data.catalogue:Tfds", "fields": {"name": "imdb_reviews", "folder": value}}}}
            )  # fmt: skip
        elif kind == "link":
            self.links.append(value)
        elif kind == "cell":
            group = self.folder / "groups" / "0a" / "group.json"
            group.parent.mkdir(parents=True, exist_ok=True)
            group.write_text(json.dumps({value: {"arm": "a"}}))
        elif kind == "seal":
            (self.folder / "config.json.seal").write_text(value)
        elif kind == "results":
            held = json.loads((self.folder / "results.json").read_text())
            keys = [key for key, one in held.items() if isinstance(one, str)]
            held[keys[place % len(keys)]] = value
            (self.folder / "results.json").write_text(json.dumps(held))

    def write(self, spoilt):
        text = json.dumps(self.body).encode()
        for _, place, piece in spoilt:
            text = text[: place % len(text)] + piece + text[place % len(text) + len(piece) :]
        (self.folder / "config.json").write_bytes(text)
        exported = self.home / "exported"
        exported.mkdir()
        (exported / "config.json").write_text('{"model_type": "strata"}')
        (exported / "strata.json").write_bytes(text)
        for name in self.links:
            at = self.folder / name
            if at.is_symlink() or any(above.is_symlink() for above in at.parents if above != self.folder.parent):
                continue
            if at.is_dir():
                shutil.rmtree(at)
            at.unlink(missing_ok=True)
            at.parent.mkdir(parents=True, exist_ok=True)
            at.symlink_to(self.outside / "new" if "." in at.name else self.outside)

    def words(self, verb):
        folder = f"--run_folder={self.folder}"
        return {
            "generate": (folder, "--prompt=a"),
            "train": (folder, "--config.steps=0"),  # no more of it than reading the configuration
            "compare": (self.folder,),
            "codes": (self.folder,),
            "report": (self.folder,),
            "export": (
                self.folder,
                f"--to={self.out}",
                *(("--arm=a",) if "arms" in self.body["config"].get("fields", {}) else ()),
            ),
            "import": (self.home / "exported", f"--workdir={self.out}"),
        }.get(verb, (folder,))


@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True, phases=PHASES)
@given(st.lists(mutations, min_size=1, max_size=3), st.sampled_from(VERBS))
def test_whatever_is_sent(good, changes, verb):
    check(good, changes, verb)


@pytest.mark.slow
@settings(max_examples=400, deadline=None, suppress_health_check=list(HealthCheck), phases=PHASES)
@given(st.lists(mutations, min_size=1, max_size=4), st.sampled_from(VERBS))
def test_whatever_is_sent_at_length(good, changes, verb):
    check(good, changes, verb)


def check(good, changes, verb):
    with tempfile.TemporaryDirectory() as home, pytest.MonkeyPatch.context() as patch:
        sent = Sent(Path(home).resolve(), good)
        patch.syspath_prepend(str(sent.folder))
        patch.syspath_prepend(home)
        for kind, place, value in changes:
            sent.change(kind, place, value)
        sent.write([one for one in changes if one[0] == "bytes"])
        before = snapshot(sent.outside)
        with watch() as seen:
            status = launched(verb, *sent.words(verb))
            with contextlib.suppress(UserError):
                Cells(sent.folder).settle()
        assert status in (0, 2)
        assert snapshot(sent.outside) == before
        assert not {"sent", *THEIRS, "antigravity", "evil_too"} & ({*sys.modules, *seen.imported})
        assert seen.started == []
        allowed = (sent.folder, sent.out, good[0] / "cache", Path("/dev"), sent.home / ".out.importing")
        temporary = Path(tempfile.gettempdir()).resolve()
        outside = [path for path in seen.changed if not any(path.is_relative_to(at) for at in allowed)]
        outside = [path for path in outside if not path.is_relative_to(temporary / "strata-tests")]
        outside = [path for path in outside if "matplotlib" not in path.parts]  # its list of fonts
        assert [path for path in outside if path.parent != temporary or not path.name.endswith("tfds")] == []


def test_the_check_can_fail(good):
    """With the guard off, what was sent runs and is seen."""
    from experiments.config import render

    with pytest.MonkeyPatch.context() as patch:
        read = render.read
        patch.setattr(render, "read", lambda folder, **_: read(folder, trust=True))
        with pytest.raises(AssertionError):
            check(good, [("class", 0, "evil_too:Evil")], "evaluate")
    for name in ("evil", "evil_too", "sent"):
        sys.modules.pop(name, None)
