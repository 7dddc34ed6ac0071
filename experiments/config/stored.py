"""A configuration as JSON and back: `config.json` of a run folder.

A spec is `{"class": "module:Name", "fields": {...}}` with every field, tuples are lists, and what JSON has no word for
is marked by one of the keys in TAGS. `from_json(to_json(spec)) == spec`. Classes and fields that have been renamed
since are found by `arch.renames`.
"""

from __future__ import annotations

import enum
import functools
import importlib
import json
import math
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from arch import renames
from arch.spec import Spec, SpecError, UserError, children
from experiments.config import parts
from experiments.config.errors import hint, one_line
from experiments.config.load import execute

FORMAT = 1
TAGS = ("class", "mapping", "list", "enum", "float", "bytes")
OURS = ("arch", "train", "experiments")


def to_json(spec: Spec) -> str:
    """The configuration as JSON. Raises UserError for a field whose value cannot be written, with its path."""
    files: dict[str, str] = {}
    body = _encode(spec, "", files)
    return json.dumps({"format": FORMAT, "files": files, "config": body}, indent=2, allow_nan=False) + "\n"


def from_json(text: str, name: str = "config.json") -> Spec:
    """The configuration that `to_json` wrote; errors call the text `name`.

    A field that a class has got since then takes its default. Raises UserError, in one line, for text that is no
    such JSON, and for classes and fields that are gone, with what the class has now.
    """
    try:
        data = json.loads(text)
        files, body = data["files"], data["config"]
        if data["format"] != FORMAT:
            raise UserError(f"{name}: has format {data['format']!r}; this version reads {FORMAT}")
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{name}: is no configuration as a run folder holds it ({one_line(error)})") from error
    try:
        spec = _decode(body, "", files)
    except SpecError as error:
        raise UserError(f"{name}: no longer valid: {'; '.join(str(error).splitlines())}") from error
    except UserError as error:
        raise UserError(f"{name}: {error}") from error
    except Exception as error:
        raise UserError(f"{name}: cannot be read ({type(error).__name__}: {one_line(error)})") from error
    if not isinstance(spec, Spec):
        raise UserError(f"{name}: holds a {type(spec).__name__}, not a configuration")
    return spec


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _where(path: str) -> str:
    return _join("config", path) if path else "config"


def _class_name(kind: type, path: str, files: dict[str, str]) -> str:
    """`module:Name`, with the file of a module that is not part of this repository noted in `files`."""
    if "<locals>" in kind.__qualname__:
        raise UserError(f"{_where(path)}: {kind.__qualname__} is defined inside a function; define it in a module")
    file = getattr(sys.modules.get(kind.__module__), "__file__", None)
    if kind.__module__.partition(".")[0] not in OURS and file:
        files[kind.__module__] = str(Path(file).resolve())
    return f"{kind.__module__}:{kind.__qualname__}"


def _encode(value: Any, path: str, files: dict[str, str]) -> Any:
    if isinstance(value, Spec):
        settable = parts.fields(type(value))
        fields = {name: _encode(item, _join(path, name), files) for name, item in children(value) if name in settable}
        return {"class": _class_name(type(value), path, files), "fields": fields}
    if isinstance(value, enum.Enum):
        return {"enum": _class_name(type(value), path, files), "name": value.name}
    if value is None or type(value) in (bool, int, str):
        return value
    if type(value) is float:
        return value if math.isfinite(value) else {"float": repr(value)}
    if type(value) is bytes:
        return {"bytes": value.hex()}
    if type(value) in (tuple, list):
        items = [_encode(item, _join(path, str(index)), files) for index, item in enumerate(value)]
        return items if type(value) is tuple else {"list": items}
    if isinstance(value, Mapping):
        pairs = [[_encode(k, path, files), _encode(v, _join(path, str(k)), files)] for k, v in value.items()]
        return {"mapping": pairs}
    raise UserError(f"{_where(path)}: a {type(value).__name__} cannot be written to JSON; use a spec, number or text")


def _decode(data: Any, path: str, files: Mapping[str, str]) -> Any:
    if isinstance(data, list):
        return tuple(_decode(item, _join(path, str(index)), files) for index, item in enumerate(data))
    if not isinstance(data, dict):
        return data
    tag = next((key for key in TAGS if key in data), None)
    if tag == "class":
        return _decode_spec(data, path, files)
    if tag == "enum":
        return _find(data["enum"], path, files, enum.Enum)[data["name"]]
    if tag == "mapping":
        return {_decode(key, path, files): _decode(item, _join(path, str(key)), files) for key, item in data[tag]}
    if tag == "list":
        return list(_decode(data[tag], path, files))
    if tag == "float":
        return float(data[tag])
    if tag == "bytes":
        return bytes.fromhex(data[tag])
    raise UserError(f"{_where(path)}: expected one of the keys {', '.join(TAGS)}, found {', '.join(data) or 'none'}")


def _decode_spec(data: Mapping[str, Any], path: str, files: Mapping[str, str]) -> Spec:
    kind = _find(data["class"], path, files, Spec)
    known = parts.fields(kind)
    fields = {renames.present_field(data["class"], name): item for name, item in data["fields"].items()}
    for name in fields:
        if name not in known:
            raise UserError(f"config.{_join(path, name)}: {kind.__name__} has no such field{hint(name, known)}")
    return kind(**{name: _decode(item, _join(path, name), files) for name, item in fields.items()})


def _find(reference: str, path: str, files: Mapping[str, str], base: type) -> Any:
    """The class `module:Name`, a subclass of `base`; its module is imported, or executed from its file."""
    reference = renames.present_name(reference)
    module_name, _, name = reference.partition(":")
    try:
        module = sys.modules.get(module_name) or importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if module_name not in files:
            raise UserError(f"{_where(path)}: {reference} is gone: {error}") from error
        file = Path(files[module_name])
        if not file.is_file():
            raise UserError(f"{_where(path)}: {name} was defined in {file}, which is gone") from error
        module = execute(file, name=module_name)
    try:
        found = functools.reduce(getattr, name.split("."), module)
    except AttributeError:
        near = hint(name, vars(module))
        raise UserError(f"{_where(path)}: {module_name} no longer has {name}{near}") from None
    if not (isinstance(found, type) and issubclass(found, base)):
        raise UserError(f"{_where(path)}: {reference} is not a {base.__name__}")
    return found
