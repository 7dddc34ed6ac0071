"""What the README says of the tree and of the commands is so; it need not say all."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def rooms(readme: str) -> dict[str, str]:
    """Path -> what is said of it, of the lines in the block that follows "The rooms"."""
    block = readme.split("## The rooms")[1].split("```")[1]
    found, above = {}, ""
    for line in block.strip().splitlines():
        name, _, text = line.strip().partition(" ")
        if not line.startswith(" "):
            above = name if name.endswith("/") else ""
        found[above + name if line.startswith(" ") else name] = text.strip()
    return found


def missing(paths: list[str], root: Path = ROOT) -> list[str]:
    """Those that are neither a file nor a folder with a file in it; `blocks` may be `blocks/` or `blocks.py`."""
    there = lambda path: path.is_file() or (path.is_dir() and any(path.iterdir()))  # noqa: E731
    return [path for path in paths if not there(root / path) and not there(root / f"{path}.py")]


def test_every_room_that_is_told_of_is_there():
    told = rooms((ROOT / "README.md").read_text())
    assert {"arch/", "arch/layers/", "train/data/", "experiments/study/", "launch.py"} <= told.keys()
    assert missing(list(told)) == []
    assert all(told.values())


def test_a_room_that_is_gone_is_noticed_and_a_new_file_is_not(tmp_path):
    (tmp_path / "arch" / "layers").mkdir(parents=True)
    (tmp_path / "arch" / "layers" / "norms.py").touch()
    told = list(rooms("## The rooms\n```\narch/      networks\n  layers/  parts\n  blocks   sublayers\n```"))
    assert told == ["arch/", "arch/layers/", "arch/blocks"]
    assert missing(told, tmp_path) == ["arch/blocks"]
    (tmp_path / "arch" / "blocks.py").touch()
    (tmp_path / "arch" / "another.py").touch()
    assert missing(told, tmp_path) == []


def test_the_commands_exist():
    """Each `make` target and each verb that the README names."""
    readme = (ROOT / "README.md").read_text()
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"(?:`|^)make ([a-z]+)\b", readme, re.MULTILINE)) <= targets
    verbs = set(re.findall(r'^    "([a-z]+)": \(', (ROOT / "launch.py").read_text(), re.MULTILINE))
    assert set(re.findall(r"python launch\.py ([a-z]+)", readme)) <= verbs
