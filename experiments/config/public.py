"""The names that `from experiments import ...` has, the list of all parts and that of all files, written from the code.

Every spec is one: parts, data, objectives, optimisers, studies, claims, suites; and the few functions and types
that studies and parts are written with (`MORE`). A name that two rooms define is none: it is imported from its module.
"""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import pkgutil
from collections.abc import Iterator
from pathlib import Path

import arch
import experiments
import experiments.study
import experiments.suites
import train
from arch.spec import Spec
from experiments.config.file_map import file_map, sentence
from experiments.config.load import ROOT

STUB = ROOT / "experiments" / "__init__.pyi"
PARTS = ROOT / "docs" / "parts.md"
MAP = ROOT / "docs" / "map.md"

PACKAGES = (arch, train, experiments.study, experiments.suites)
APART = ("arch.hf.generated.source",)
"""Text of PyTorch code, which is not imported."""

FIRST = ("arch.", "train.", "experiments.study.")
"""Where a name that is defined in a suite too is meant to be from."""

MORE = {
    "align": "arch.layers.shapes",
    "contract": "arch.layers.shapes",
    "Axis": "arch.sharding",
    "Buffer": "arch.params",
    "ParamFactory": "arch.params",
    "Context": "arch.context",
    "Result": "arch.context",
    "coupled": "arch.answers",
    "mean_over": "arch.answers",
    "Problem": "arch.spec",
    "SpecError": "arch.spec",
    "UserError": "arch.spec",
    "above": "arch.spec",
    "at_least": "arch.spec",
    "Tap": "arch.taps",
    "Inputs": "arch.models.base",
    "Network": "arch.models.base",
    "Output": "arch.models.base",
    "Gates": "arch.context",
    "generate": "arch.decode.generate",
    "reading": "arch.models.encoder_decoder",
    "at_equal_bits": "experiments.study.equal_bits",
    "Hold": "experiments.study.match",
    "match": "experiments.study.match",
    "run_study": "experiments.study.engine",
    "unknown_form": "experiments.config.load",
    "open_run": "train.trained",
    "train": "train.loop",
}


def specs() -> dict[str, list[type[Spec]]]:
    """Name -> the public specs of that name."""
    found: dict[str, list[type[Spec]]] = {}
    for package in PACKAGES:
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if not module.name.startswith(APART):
                for name, value in vars(importlib.import_module(module.name)).items():
                    if _is_spec(value) and value.__module__ == module.name and name == value.__name__:
                        found.setdefault(name, []).append(value)
    return found


def _is_spec(value: object) -> bool:
    return inspect.isclass(value) and issubclass(value, Spec) and not value.__name__.startswith("_")


def names() -> dict[str, str]:
    """Public name -> the module that defines it."""
    found = dict(MORE)
    for name, classes in specs().items():
        first = [one for one in classes if f"{one.__module__}.".startswith(FIRST)] or classes
        if len(first) == 1 and name not in found:
            found[name] = first[0].__module__
    return found


def stub() -> str:
    """The text of `experiments/__init__.pyi`."""
    by_module: dict[str, list[str]] = {}
    for name, module in names().items():
        by_module.setdefault(module, []).append(name)
    lines = ["# Written by `make golden` from the code itself.", ""]
    for module in sorted(by_module):
        lines += [f"from {module} import {name} as {name}" for name in sorted(by_module[module])]
    return "\n".join([*lines, "", "def public() -> dict[str, str]: ...", ""])


def parts() -> str:
    """The text of `docs/parts.md`."""
    rooms: dict[str, list[type[Spec]]] = {}
    for classes in specs().values():
        for one in classes:
            rooms.setdefault(one.__module__.rpartition(".")[0], []).append(one)
    lines = [
        "# Parts",
        "",
        "Every spec, by room: what it is, its fields with their defaults, and its file. Written by `make golden`.",
    ]
    for room in sorted(rooms):
        lines += ["", f"## {room.replace('.', '/')}/", "", "| part | what it is | fields | file |", "|---|---|---|---|"]
        lines += [_row(one) for one in sorted(rooms[room], key=lambda one: one.__name__)]
    return "\n".join([*lines, ""])


def _row(part: type[Spec]) -> str:
    fields = ", ".join(_fields(part)) or "-"
    file = f"{part.__module__.replace('.', '/')}.py"
    return f"| `{part.__name__}` | {_first_line(part)} | {fields} | [{Path(file).name}](../{file}) |"


def _fields(part: type[Spec]) -> Iterator[str]:
    for field in dataclasses.fields(part):
        value = field.default
        text = "" if value is dataclasses.MISSING else f"={_short(value)}"
        yield f"`{field.name}{text}`"


def _short(value: object) -> str:
    """A default as a person writes it: of a spec its name alone."""
    text = f"{type(value).__name__}()" if isinstance(value, Spec) else getattr(value, "__name__", None) or repr(value)
    return text.replace("|", "\\|")


def _first_line(part: type[Spec]) -> str:
    return sentence(part.__dict__.get("__doc__")).replace("|", "\\|")


FILES = {STUB: stub, PARTS: parts, MAP: file_map}


def stale() -> list[Path]:
    """Which of the written files are not what the code says."""
    return [file for file, text in FILES.items() if not file.exists() or file.read_text() != text()]


def write() -> list[Path]:
    """Writes them; which changed."""
    changed = stale()
    for file in changed:
        file.write_text(FILES[file]())
    return changed
