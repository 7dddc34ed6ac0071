"""What was trained: the configuration, the content of its data, what it started from, and the code of its parts.

Two runs of equal identity have equal results but for rounding. `what()` names all of it but the code; where only the
code differs, an earlier result is not this run's, unless its user says so (`--trust_cells`).
"""

from __future__ import annotations

import dataclasses
import enum
import hashlib
import inspect
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from arch import renames
from arch.spec import Reference, Spec, differences, flatten, reference, walk
from train.record.code import code
from train.starts.start import Start


@dataclasses.dataclass(frozen=True)
class Identity:
    """Names what is trained.

    Attributes:
      fields: path -> text of every field; of a spec its class, `module:qualname`.
      data: what the parts of the data name as the content that they read.
      start: digest of the checkpoint that it starts from; None: fresh parameters.
      code: module -> digest of its source, see `train.record.code`; None: not known.
    """

    fields: Mapping[str, str]
    data: Sequence[str]
    start: str | None
    code: Mapping[str, str] | None

    def what(self) -> str:
        """A name of everything but the code, the same after a rename (`arch.renames`)."""
        return digest([renames.first(self.fields), list(self.data), self.start])

    def changed(self, now: Identity) -> list[str]:
        """Lines `what: old -> new` for all but the code in which `now` differs."""
        lines = differences(self.fields, now.fields)
        if list(self.data) != list(now.data):
            lines.append("data: its content is another one")
        if self.start != now.start and now.start is not None:  # a source that is gone says nothing of what was taken
            lines.append(f"start: {self.start} -> {now.start}")
        return lines


def identify(run: Spec, *, modules: Sequence[str] = (), start: str | None = None) -> Identity:
    """The identity of a run.

    Args:
      run: with a field `data`.
      modules: further ones whose code counts.
      start: digest of the checkpoint that it starts from. Frozen models that an objective reads count with it.

    Raises:
      UserError: data that is not there.
    """
    roots = frozenset({*modules, *(part.__module__ for part in _parts(run))})
    sources = [part.digest() for path, part in walk(run) if path and isinstance(part, Start)]
    own = getattr(run, "start", None) is not None
    if len(sources) == own:
        start = sources[0] if own else start
    else:  # frozen models as well; one that is gone says nothing of what was read
        start = None if None in sources else digest([start, *sources])
    return Identity(_fields(flatten(run, name=reference)), contents(getattr(run, "data", None)), start, code(roots))


def defaults(run: Spec) -> list[str]:
    """The paths at which `run` has the default: what a class got after a run was written says nothing new of it."""
    return [path for path, node in walk(run) if isinstance(node, Spec) for path in _defaults(node, path)]


def _defaults(spec: Spec, at: str) -> Iterator[str]:
    for field in dataclasses.fields(spec):
        factory = field.default_factory
        default = field.default if factory is dataclasses.MISSING else factory()
        value = getattr(spec, field.name)
        if default is not dataclasses.MISSING and text(default) == text(value):
            for below in flatten(value):
                yield ".".join(filter(None, (at, field.name, below)))


def old_fields(run: Spec) -> dict[str, str]:
    """Path -> text of every field as it was written before classes were named with their modules."""
    flat = flatten(run, name=reference)
    firsts = renames.first(_fields(flat))
    short = (name.rpartition(":")[2].rpartition(".")[2] for name in firsts.values())
    both = zip(firsts, flat.values(), short, strict=True)
    return {path: name if isinstance(value, Reference) else str(value) for path, value, name in both}


def contents(data: Any) -> list[str]:
    """What the parts of `data` name as the content that they read; read once a process."""
    key = digest([text(data)])
    if key not in _contents:
        _contents[key] = [part.identity() for _, part in walk(data) if hasattr(part, "identity")]
    return _contents[key]


_contents: dict[str, list[str]] = {}


def other_code(before: Mapping[str, str] | None, now: Mapping[str, str] | None) -> str:
    """How code differs, in a few words; "" if it does not. None: it is not known."""
    if before is None or now is None:
        return "its code was not noted"
    names = [name for name in now if name not in before or before[name] != now[name]]
    names += [name for name in before if name not in now]
    if not names:
        return ""
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return f"{', '.join(sorted(names)[:3])}{more} differ{'' if len(names) > 1 else 's'}"


def text(value: Any) -> str:
    """A value of a configuration as text, different for any two, the same in every process."""
    if isinstance(value, Spec) or (dataclasses.is_dataclass(value) and not isinstance(value, type)):
        fields = ", ".join(f"{field.name}={text(getattr(value, field.name))}" for field in dataclasses.fields(value))
        return f"{reference(type(value))}({fields})"
    if isinstance(value, (tuple, list)):
        items = ", ".join(map(text, value))
        return f"[{items}]" if isinstance(value, list) else f"({items},)" if len(value) == 1 else f"({items})"
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{text(key)}: {text(item)}" for key, item in value.items()) + "}"
    if isinstance(value, (set, frozenset)):
        return "{" + ", ".join(sorted(map(text, value))) + "}"
    if isinstance(value, enum.Enum):
        return f"{reference(type(value))}.{value.name}"
    if isinstance(value, np.ndarray):
        return f"{value.dtype}{list(value.shape)} {hashlib.sha256(value.tobytes()).hexdigest()[:20]}"
    if inspect.isroutine(value) or isinstance(value, type):
        return reference(value)
    return repr(value)


def digest(value: Any) -> str:
    """A name of JSON-able plain data."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:20]


def _fields(flat: Mapping[str, Any]) -> dict[str, str]:
    return {path: str(value) if isinstance(value, Reference) else text(value) for path, value in flat.items()}


def _parts(node: Any) -> Iterator[Any]:
    """The class of every spec, other dataclass and enum in a configuration, and every class and function."""
    if dataclasses.is_dataclass(node) and not isinstance(node, type):
        yield type(node)
        for field in dataclasses.fields(node):
            yield from _parts(getattr(node, field.name))
    elif isinstance(node, Mapping):
        for item in (*node, *node.values()):
            yield from _parts(item)
    elif isinstance(node, (tuple, list, set, frozenset)):
        for item in node:
            yield from _parts(item)
    elif isinstance(node, enum.Enum):
        yield type(node)
    elif isinstance(node, type) or inspect.isfunction(node):
        yield node
