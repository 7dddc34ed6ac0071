"""The configuration of a run in a folder with code of its own, and such a folder as a model again.

Of `strata.json` only the model is read, and only classes of Strata's own rooms are made: no file that it names is
executed. A class from a user's file is looked up in the file that the user gives.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import re
from pathlib import Path, PurePosixPath, PureWindowsPath
from types import ModuleType
from typing import Any

from arch.hf.folder import CONFIG
from arch.hf.generated.reading import Numbers
from arch.hf.generated.reading import read as read_numbers
from arch.hf.reading import object_of
from arch.models.base import Model
from arch.spec import Spec, UserError
from experiments.config.stored import OURS, from_json, to_json
from train.run import Run

FILE = "strata.json"
KIND = "strata"


def text(run: Run) -> str:
    """The contents of `strata.json`: the configuration without what it started from, for the numbers are beside it.
    Of files and folders here, also those of data, the names stay and the places do not."""
    told = json.loads(to_json(dataclasses.replace(run, start=None)))
    fields = told["config"]["fields"]
    for name in fields.keys() - {"model"}:  # the model is what comes back
        fields[name] = placeless(fields[name])
    return json.dumps({**told, "files": {}}, indent=2) + "\n"


def placeless(value: Any) -> Any:
    """`value`, as JSON has it, with each text that is the place of a file or folder here cut to its name."""
    if isinstance(value, list):
        return [placeless(item) for item in value]
    if isinstance(value, dict):
        return {key: item if key in ("class", "enum") else placeless(item) for key, item in value.items()}
    if not isinstance(value, str) or "://" in value or not re.search(r"[/\\]", value):
        return value
    return re.split(r"[/\\]", value.rstrip("/\\"))[-1] if _is_place(value) else value


def _is_place(text: str) -> bool:
    anywhere = PurePosixPath(text), PureWindowsPath(text)
    return text.startswith("~") or any(path.is_absolute() for path in anywhere) or Path(text).exists()


def is_own(folder: Path) -> bool:
    """Whether `folder` was written with code of its own. Raises UserError for one without a configuration."""
    return object_of(folder / CONFIG).get("model_type") == KIND


def read(folder: Path, given: ModuleType | None = None) -> tuple[Model, Numbers]:
    """The model in `folder` and its numbers. `given`: where classes of a user are looked up.

    Raises:
      UserError: in one line: no configuration, a class that is not Strata's own, tensors of another model.
    """
    model = model_of(folder, given)
    return model, read_numbers(folder, model)


def model_of(folder: Path, given: ModuleType | None = None) -> Model:
    """The model that `strata.json` in `folder` describes. Raises UserError."""
    file = folder / FILE
    if not file.exists():
        raise UserError(f"{folder}: has no {FILE}, which says what its tensors are of; export the run anew")
    held = object_of(file)
    try:
        body = admitted(held["config"]["fields"]["model"], file, given)
    except (KeyError, TypeError, RecursionError) as error:
        raise UserError(f"{file}: is no configuration of a run") from error
    text = json.dumps({"format": held.get("format"), "files": {}, "config": body})
    spec: Spec = from_json(text, str(file), given="" if given is None else given.__name__)
    if not isinstance(spec, Model):
        raise UserError(f"{file}: its model is a {type(spec).__name__}, which is no model")
    return spec


def admitted(body: Any, file: Path, given: ModuleType | None) -> Any:
    """`body` with every class one of Strata's own rooms or of `given`. Raises UserError for another."""
    if isinstance(body, list):
        return [admitted(item, file, given) for item in body]
    if not isinstance(body, dict):
        return body
    found = {key: admitted(item, file, given) for key, item in body.items()}
    for key in ("class", "enum"):
        if isinstance(reference := found.get(key), str):
            found[key] = _reference(reference, file, given)
    return found


def _reference(reference: str, file: Path, given: ModuleType | None) -> str:
    module, _, name = reference.partition(":")
    if module.partition(".")[0] in OURS:
        return reference
    if given is None:
        raise UserError(f"{file}: names {reference}, which is no class of Strata's own; if you trust it, give the file "
                        "that has it by --like=FILE.py")  # fmt: skip
    try:
        functools.reduce(getattr, name.split("."), given)
    except AttributeError:
        raise UserError(f"{file}: names {reference}, and {given.__file__} has no {name}") from None
    return f"{given.__name__}:{name}"
