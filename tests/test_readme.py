"""What README and docs say is so: rooms and links are there, commands and flags exist, and all Python runs."""

import re
from dataclasses import replace
from pathlib import Path

import jax.numpy as jnp
import pytest
from flax import nnx

import experiments
from arch.spec import Spec
from experiments import Bytes, Decoder, Run, Text, WikiLeads
from experiments.config.load import load

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]


def blocks(language: str) -> list[tuple[str, str]]:
    """(where, text) of every block of a language."""
    found, fence = [], re.compile(rf"^```{language}\n(.*?)^```", re.DOTALL | re.MULTILINE)
    for page in PAGES:
        for number, text in enumerate(fence.findall(page.read_text())):
            found.append((f"{page.name} {number}", text))
    return found


class Names(dict):
    """The public names, and what a snippet talks of without making it."""

    def __missing__(self, name):
        if name in experiments.public():
            return getattr(experiments, name)
        raise KeyError(name)


@pytest.fixture(scope="module")
def around():
    """What snippets talk of: a run, its model, and tokens."""
    spec = Decoder(vocab=256, width=32, depth=4)
    model = spec.build(rngs=nnx.Rngs(0))
    run = Run(model=spec, data=Text(WikiLeads(), Bytes(), length=16), batch=1, steps=1)
    return {"model": model, "tokens": jnp.zeros((1, 4), jnp.int32), "L": 4, "jnp": jnp, "run": run, "replace": replace}


def test_blocks_are_found():
    assert len(blocks("python")) >= 7
    assert len(blocks("sh")) >= 8


@pytest.mark.parametrize(("where", "text"), [pytest.param(*block, id=block[0]) for block in blocks("python")])
def test_python_runs(where, text, around, tmp_path):
    """A block that defines get_config is a file of its own; another is run beside the public names."""
    if "def get_config" in text:
        (tmp_path / "mine.py").write_text(text)
        assert isinstance(load(str(tmp_path / "mine.py")).spec, Spec)
    elif "AutoModel" in text:
        pytest.skip("needs an exported folder; tests/experiments/hf opens one")
    else:
        names = Names(around)
        exec(compile(text, where, "exec"), dict(around), names)


def flags() -> set[str]:
    return set(re.findall(r'(?:flags\.DEFINE|define)_\w+\(\s*"(\w+)"', (ROOT / "launch.py").read_text()))


@pytest.mark.parametrize(("where", "text"), [pytest.param(*block, id=block[0]) for block in blocks("sh")])
def test_commands_exist(where, text):
    """Make targets, verbs, flags, and files of the tree that a block names."""
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"^make ([a-z]+)\b", text, re.MULTILINE)) <= targets
    verbs = set(re.findall(r'^    "([a-z]+)": \(', (ROOT / "launch.py").read_text(), re.MULTILINE))
    assert set(re.findall(r"python launch\.py ([a-z]+)", text)) <= verbs
    ours = [line.partition(" # ")[0] for line in text.splitlines() if "launch.py" in text and "pip" not in line]
    others = {"config", "help", "sizes", "batches", "worker", "command"}
    named = set(re.findall(r"\s--(\w+)(?=[=.\s]|$)", "\n".join(ours))) - others
    assert named <= flags(), named - flags()
    for file in re.findall(r"(?:experiments|bench)/(\w+)\.py", text):
        assert file in ("mine", "my_study") or (ROOT / "experiments" / f"{file}.py").exists()
    for module in re.findall(r"python -m (bench\.\w+)", text):
        assert (ROOT / f"{module.replace('.', '/')}.py").exists()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    links = re.findall(r"\]\(([^)#]+)\)", page.read_text())
    assert [link for link in links if "://" not in link and not (page.parent / link).exists()] == []


def rooms(readme: str) -> dict[str, str]:
    """Path -> what is said of it, of the lines in the block that follows "The rooms"."""
    block = readme.split("## The rooms")[1].split("```")[1]
    return {name: text.strip() for name, _, text in (line.partition(" ") for line in block.strip().splitlines())}


def test_every_room_that_is_told_of_is_there():
    told = rooms((ROOT / "README.md").read_text())
    assert {"launch.py", "arch/", "train/", "experiments/", "tests/"} <= told.keys()
    assert all((ROOT / name).exists() and text for name, text in told.items())


def test_paths_in_prose_are_there():
    """Files that a page names in code letters, `train/sharding/mesh.py`, exist."""
    for page in PAGES:
        named = re.findall(
            r"`((?:arch|train|experiments|tests|bench|docs)/[\w/]+\.(?:py|md|json|txt))`", page.read_text()
        )
        assert [name for name in named if not (ROOT / name).exists() and "mine" not in name] == [], page.name
