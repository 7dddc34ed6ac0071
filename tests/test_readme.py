"""The README's picture of the rooms is the tree."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def pictured() -> set[str]:
    """The files in the block that follows "The rooms"."""
    block = (ROOT / "README.md").read_text().split("## The rooms")[1].split("```")[1]
    files, folder = set(), ""
    for line in block.strip().splitlines():
        name = line.split()[0]
        if name.endswith("/"):
            folder = name
        else:
            files.add(folder + name if line.startswith("  ") else name)
    return files


def test_every_file_is_in_the_picture_and_every_line_is_a_file():
    rooms = [path for room in ("arch", "train", "experiments", "bench") for path in (ROOT / room).rglob("*.py")]
    files = {str(path.relative_to(ROOT)) for path in rooms if path.name != "__init__.py"} | {"launch.py"}
    assert pictured() == files


def test_the_commands_exist():
    """Each `make` target and each verb that the README names."""
    readme = (ROOT / "README.md").read_text()
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"(?:`|^)make ([a-z]+)\b", readme, re.MULTILINE)) <= targets
    verbs = set(re.findall(r'^    "([a-z]+)": \(', (ROOT / "launch.py").read_text(), re.MULTILINE))
    assert set(re.findall(r"python launch\.py ([a-z]+)", readme)) <= verbs
