"""A configuration as JSON and back: `config.json` of a run folder.

A spec is `{"class": "module:Name", "fields": {...}}` with every field, tuples are lists, and what JSON has no word for
is marked by one of the keys in TAGS. `from_json(to_json(spec)) == spec`. Classes and fields that have been renamed
since are found by `arch.renames`. What a text that is not trusted may name: `experiments.config.admission`.
"""

from __future__ import annotations

import enum
import functools
import importlib
import json
import math
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from arch import renames
from arch.spec import Spec, SpecError, UserError, children, walk
from experiments.config import admission, parts
from experiments.config.admission import OURS, printable
from experiments.config.errors import hint, one_line
from experiments.config.load import execute

FORMAT = 1
TAGS = ("class", "mapping", "list", "enum", "float", "bytes")


def to_json(spec: Spec) -> str:
    """The configuration as JSON. Raises UserError for a field whose value cannot be written, with its path."""
    files: dict[str, str] = {}
    body = _encode(spec, "", files)
    return json.dumps({"format": FORMAT, "files": files, "config": body}, indent=2, allow_nan=False) + "\n"


def from_json(text: str, name: str = "config.json", *, trust: bool = False, given: str = "") -> Spec:
    """The configuration that `to_json` wrote; errors call the text `name`.

    A field that a class has got since then takes its default. Raises UserError, in one line, for text that is no
    such JSON, and for classes and fields that are gone, with what the class has now.

    Args:
      trust: whether whatever module or file the text names is imported and executed. False: parts of Strata's own
        alone are made, of values that fit their fields.
      given: one further module, imported already, whose classes are taken too.
    """
    try:
        data = json.loads(text)
        files, body = {str(key): str(file) for key, file in data["files"].items()}, data["config"]
        if data["format"] != FORMAT:
            raise UserError(f"{name}: has format {data['format']!r}; this version reads {FORMAT}")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise UserError(f"{name}: is no configuration as a run folder holds it ({one_line(error)})") from error
    try:
        spec = _Decoder(files, trust, given).value(body, "")
    except SpecError as error:
        raise UserError(f"{name}: no longer valid: {'; '.join(str(error).splitlines())}") from error
    except UserError as error:
        raise UserError(f"{name}: {error}") from error
    except Exception as error:
        raise UserError(f"{name}: cannot be read ({type(error).__name__}: {one_line(error)})") from error
    if not isinstance(spec, Spec):
        raise UserError(f"{name}: holds a {type(spec).__name__}, not a configuration")
    if not trust and (lines := list(_foreign(spec))):
        raise UserError(f"{name}: {'; '.join(lines)}; {admission.FLAG}")
    return spec


def _foreign(spec: Spec) -> Iterator[str]:
    for path, node in walk(spec):
        if isinstance(node, Spec):
            yield from (problem.line(_where(path)) for problem in node.foreign())


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


class _Decoder:
    """One reading of a configuration; the arguments are those of `from_json`."""

    def __init__(self, files: Mapping[str, str], trust: bool, given: str):
        self.files, self.trust, self.given = files, trust, given

    def value(self, data: Any, path: str) -> Any:
        if isinstance(data, list):
            return tuple(self.value(item, _join(path, str(index))) for index, item in enumerate(data))
        if not isinstance(data, dict):
            return data
        tag = next((key for key in TAGS if key in data), None)
        if tag == "class":
            return self._spec(data, path)
        if tag == "enum":
            return self._find(data["enum"], path, enum.Enum)[data["name"]]
        if tag == "mapping":
            return {self.value(key, path): self.value(item, _join(path, str(key))) for key, item in data[tag]}
        if tag == "list":
            return list(self.value(data[tag], path))
        if tag == "float":
            return float(data[tag])
        if tag == "bytes":
            return bytes.fromhex(data[tag])
        found = ", ".join(map(printable, data)) or "none"
        raise UserError(f"{_where(path)}: expected one of the keys {', '.join(TAGS)}, found {found}")

    def _spec(self, data: Mapping[str, Any], path: str) -> Spec:
        kind = self._find(data["class"], path, Spec)
        known = parts.fields(kind)
        fields = {renames.present_field(data["class"], name): item for name, item in data["fields"].items()}
        for name in fields:
            if name not in known:
                line = f"{kind.__name__} has no such field{hint(name, known)}"
                raise UserError(f"config.{printable(_join(path, name))}: {line}")
        if not self.trust:
            self._admit({name: fields[name] for name in kind.names_code if name in fields}, path)
        values = {name: self.value(item, _join(path, name)) for name, item in fields.items()}
        types = {} if self.trust else parts.field_types(kind)
        for name, item in values.items():
            if name in types and (why := admission.refusal(item, types[name])):
                raise UserError(f"{_where(_join(path, name))}: {why}")
        return kind(**values)

    def _admit(self, texts: Mapping[str, Any], path: str) -> None:
        """Refuses texts that name code of somebody else's, before they are looked at."""
        for name, value in texts.items():
            if why := admission.code_refusal(value):
                raise UserError(f"{_where(_join(path, name))}: {why}")

    def _find(self, reference: str, path: str, base: type) -> Any:
        """The class `module:Name`, a subclass of `base`."""
        reference = renames.present_name(str(reference))
        module_name, _, name = reference.partition(":")
        trusted = self.trust or (bool(self.given) and module_name == self.given)
        try:
            module = self._trusted(reference, path) if trusted else admission.imported(reference, self.files)
        except UserError as error:
            raise UserError(f"{_where(path)}: {error}") from error
        try:
            found = functools.reduce(getattr, name.split("."), module) if trusted else admission.defined(module, name)
        except AttributeError:
            near = hint(name, vars(module))
            raise UserError(f"{_where(path)}: {module_name} no longer has {printable(name)}{near}") from None
        if not (isinstance(found, type) and issubclass(found, base)):
            raise UserError(f"{_where(path)}: {reference} is not a {base.__name__}")
        return found

    def _trusted(self, reference: str, path: str) -> Any:
        """The module of `module:Name`, imported, or executed from its file."""
        module_name, _, name = reference.partition(":")
        try:
            return sys.modules.get(module_name) or importlib.import_module(module_name)
        except ModuleNotFoundError as error:
            if module_name not in self.files:
                raise UserError(f"{reference} is gone: {error}") from error
            file = Path(self.files[module_name])
            if not file.is_file():
                raise UserError(f"{name} was defined in {file}, which is gone") from error
            return execute(file, name=module_name)
