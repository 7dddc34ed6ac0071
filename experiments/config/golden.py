"""Golden text files: the resolved configuration and the parameter table of every form of every experiment.

`tests/golden/NAME.FORM.txt` is what a form of `experiments/NAME.py` resolves to. A change in it is a change of the
experiment, seen in review. `python -m experiments.config.golden` rewrites them all (`make golden`), and writes those
of new experiments; until then the tests skip these by name.
"""

from __future__ import annotations

import ast
import difflib
import math
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from arch.spec import Spec, SpecError, UserError, differences, to_text, walk
from experiments.config import public
from experiments.config.errors import ConfigError, spec_error_lines
from experiments.config.load import ROOT, load
from experiments.config.overrides import apply

FOLDER = ROOT / "tests" / "golden"


def forms(folder: Path = ROOT / "experiments") -> Iterator[tuple[Path, str]]:
    """(file, form) of all files in `folder` that define get_config; read from their text, nothing is imported."""
    for file in sorted(folder.glob("*.py")):
        body = ast.parse(file.read_text(), str(file)).body
        if any(isinstance(node, ast.FunctionDef) and node.name == "get_config" for node in body):
            yield from ((file, form) for form in _declared(body))


def _declared(body: list[ast.stmt]) -> tuple[str, ...]:
    for node in body:
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        names = [target.id for target in targets if isinstance(target, ast.Name)]
        if "FORMS" in names and isinstance(node, (ast.Assign, ast.AnnAssign)) and node.value:
            return tuple(ast.literal_eval(node.value))
    return ("",)


def golden_file(file: Path, form: str, folder: Path = FOLDER) -> Path:
    """Where the golden text of a form lies."""
    return folder / (f"{file.stem}.{form}.txt" if form else f"{file.stem}.txt")


def render(file: Path, form: str) -> str:
    """The golden text of one form: its configuration, then a parameter table for each model in it.

    Of several `arms` the first is written in full, the others by what differs from it.
    """
    spec = apply(load(f"{file}:{form}" if form else str(file)).spec, ())
    try:
        arms = getattr(spec, "arms", None)
        if isinstance(arms, Mapping) and len(arms) > 1:
            return _arms(spec, arms)
        return to_text(spec) + "".join(f"\n# {heading}\n{text}" for heading, text in tables(spec))
    except SpecError as error:
        raise ConfigError(spec_error_lines(error, spec)) from error


def _arms(spec: Spec, arms: Mapping[str, Spec]) -> str:
    (first, reference), *others = arms.items()
    hidden = tuple(f"arms.{name}{end}" for name, _ in others for end in (".", " = "))
    text = "".join(line for line in to_text(spec).splitlines(True) if not line.startswith(hidden))
    for heading, table_text in tables(reference):
        text += f"\n# {heading} of arms.{first}\n{table_text}"
    known = {" ".join(line.split()) for _, shown in tables(reference) for line in shown.splitlines()}
    for name, arm in others:
        text += f"\n# arms.{name}, where it differs from arms.{first}\n"
        text += "".join(f"{line}\n" for line in differences(reference, arm))
        for _, shown in tables(arm):
            rows = [" ".join(line.split()) for line in shown.splitlines()]
            text += "".join(f"{row}\n" for row in rows if row not in known)
    return text


def tables(spec: Spec) -> Iterator[tuple[str, str]]:
    """(heading, table) of the parameters of each model in a configuration, and of its buffers if it has any.

    A model is a spec's field `model` that is itself a spec. Nothing is computed or allocated.
    """
    from arch.cost import abstract
    from arch.params import Buffer, metadata

    for path, owner in walk(spec):
        model = getattr(owner, "model", None)
        if isinstance(owner, Spec) and isinstance(model, Spec):
            name, module = f"{path}.model" if path else "model", abstract(model)
            yield f"parameters of {name}", table(metadata(module), columns(owner, module))
            if buffers := metadata(module, Buffer):
                yield f"buffers of {name}", table(buffers, {}, "numbers")


def columns(run: Any, module: Any) -> dict[str, dict[str, Any]]:
    """Path -> what else the run says of a parameter: mesh axes, decay, and where it matters freezing and source."""
    optimizer = getattr(run, "optimizer", None)
    if optimizer is None or not hasattr(optimizer, "param_groups"):
        return {}
    from arch.params import logical_axes, metadata, roles, split
    from train.sharding.axes import mesh_axes
    from train.starts.layers import origin

    rows = metadata(module)
    param_groups = optimizer.param_groups(split(module)[1], logical_axes(module), roles=roles(module))
    extra: dict[str, dict[str, Any]] = {}
    for path, param_group in param_groups.items():
        extra[path] = {"mesh": mesh_axes(rows[path]["axes"], path), "decay": param_group.decay}
        if param_group.multiplier != 1:
            extra[path]["multiplier"] = param_group.multiplier
        if param_group.frozen:
            extra[path]["frozen"] = "frozen"
    start = getattr(run, "start", None)
    origins = start.origins() if start is not None else {}
    for path, row in extra.items():
        if (source := origin(path, origins)) is not None:
            row["from"] = source
    return extra


def table(
    rows: Mapping[str, Mapping[str, Any]], extra: Mapping[str, Mapping[str, Any]], what: str = "parameters"
) -> str:
    """The parameters as aligned lines under a heading, and their number; `what` they are called."""
    merged = {path: {**row, **extra.get(path, {})} for path, row in rows.items()}
    names = list(dict.fromkeys(name for row in merged.values() for name in row))
    lines = [["path", *names]] + [[path, *(_cell(row.get(n)) for n in names)] for path, row in merged.items()]
    widths = [max(len(line[index]) for line in lines) for index in range(len(names) + 1)]
    text = "".join("  ".join(map(str.ljust, line, widths)).rstrip() + "\n" for line in lines)
    return text + f"{sum(math.prod(row['shape']) for row in rows.values())} {what} in {len(rows)} arrays\n"


def _cell(value: Any) -> str:
    if isinstance(value, tuple):
        return " ".join("-" if item is None else str(item) for item in value) or "()"
    return "" if value is None else f"{value:g}" if isinstance(value, float) else str(value)


def compare(file: Path, form: str, folder: Path = FOLDER) -> str:
    """The difference of a form from its golden file, as a unified diff; "" if there is none."""
    golden = golden_file(file, form, folder)
    old = golden.read_text() if golden.exists() else ""
    names = (golden.name, f"{file.name}:{form} now")
    return "".join(difflib.unified_diff(old.splitlines(True), render(file, form).splitlines(True), *names))


def strays(source: Path = ROOT / "experiments", folder: Path = FOLDER) -> list[Path]:
    """Golden files that belong to no form."""
    wanted = {golden_file(file, form, folder) for file, form in forms(source)}
    return sorted(set(folder.glob("*.txt")) - wanted)


def unwritten(source: Path = ROOT / "experiments", folder: Path = FOLDER) -> list[tuple[Path, str]]:
    """The (file, form) that have no golden file yet: experiments that are new."""
    return [(file, form) for file, form in forms(source) if not golden_file(file, form, folder).exists()]


def update(source: Path = ROOT / "experiments", folder: Path = FOLDER) -> list[Path]:
    """Rewrites the golden files, removes strays, and returns the files that changed."""
    folder.mkdir(parents=True, exist_ok=True)
    changed = strays(source, folder)
    for stray in changed:
        stray.unlink()
    for file, form in forms(source):
        golden, text = golden_file(file, form, folder), render(file, form)
        if not golden.exists() or golden.read_text() != text:
            golden.write_text(text)
            changed.append(golden)
    return changed


def main() -> int:
    """Rewrites the golden files and the lists of names, and says which changed."""
    try:
        for file in [*public.write(), *update()]:
            print(file.relative_to(ROOT))
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
