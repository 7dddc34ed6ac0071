"""Configuration files: plain Python with `get_config(argument)`, named as `FILE.py` or `FILE.py:ARGUMENT`.

Whatever is wrong with a file is one line. A file may declare `FORMS = ("", "tiny", ...)`, the arguments
that tests and golden files use, and refuse others by `raise unknown_form(argument, FORMS)`.
"""

from __future__ import annotations

import dataclasses
import hashlib
import importlib
import os
import re
import sys
import traceback
import types
from collections.abc import Iterable
from pathlib import Path

import experiments
from arch.spec import Spec, SpecError, UserError
from experiments.config.errors import ConfigError, hint, nearest, one_line

ROOT = Path(__file__).resolve().parents[2]


@dataclasses.dataclass(frozen=True)
class Loaded:
    """What a configuration file gave."""

    reference: str  # as the user wrote it, FILE.py[:ARGUMENT]
    file: Path
    argument: str
    module: types.ModuleType
    spec: Spec


def split(reference: str) -> tuple[str, str]:
    """(file, argument) of `FILE.py[:ARGUMENT]`."""
    match = re.fullmatch(r"(.+?\.py)(?::(.*))?", reference, re.DOTALL)
    if match:
        return match[1], match[2] or ""
    file, _, argument = reference.partition(":")
    return file, argument


def load(reference: str) -> Loaded:
    """Executes the file that `reference` names and calls its `get_config`.

    Raises ConfigError, in one line (a line for each field that a spec refused), for a file that is missing, that
    is not Python, that fails, that has no `get_config`, and for a `get_config` that fails or returns no Spec.
    """
    name, argument = split(reference)
    file = find(name)
    module = execute(file, shown=name)
    get_config = getattr(module, "get_config", None)
    if not callable(get_config):
        near = nearest("get_config", [key for key, value in vars(module).items() if callable(value)])
        raise ConfigError([f"{name}: has no get_config(argument)" + (f"; did you mean {near}?" if near else "")])
    try:
        spec = get_config(argument)
    except UserError as error:
        raise ConfigError(f"--config={reference}: {line}" for line in str(error).splitlines()) from error
    except (Exception, SystemExit) as error:
        raise ConfigError(_failure(error, file, name)) from error
    if not isinstance(spec, Spec):
        what = "None; is a return missing?" if spec is None else f"a {type(spec).__name__}"
        raise ConfigError([f"{name}: get_config must return a Run or another Spec; it returned {what}"])
    return Loaded(reference, file, argument, module, spec)


def unknown_form(argument: str, forms: Iterable[str]) -> UserError:
    """The error that a configuration file raises for an argument it does not know."""
    forms = tuple(forms)
    known = ", ".join(f":{form}" if form else "none" for form in forms)
    return UserError(f"no form {argument!r}{hint(argument, forms)} (forms: {known})")


def find(name: str) -> Path:
    """The file called `name`, from the working folder or from the root of the repository."""
    name = os.path.expanduser(name)
    for path in (Path(name), ROOT / name):
        if path.is_file():
            return path.resolve()
    if Path(name).is_dir():
        raise ConfigError([f"--config={name}: is a folder; name a file in it"])
    ours = {f"{path.parent.name}/{path.name}" for path in (ROOT / "experiments").glob("*.py") if path.stem[0] != "_"}
    beside = {str(path) for path in Path(name).parent.glob("*.py")} if Path(name).parent.is_dir() else set()
    stems = {Path(other).stem: other for other in sorted(ours | beside, reverse=True)}
    near = nearest(Path(name).stem, stems)
    more = f"did you mean {stems[near]}?" if near else f"there are: {', '.join(sorted(ours)) or 'no experiments'}"
    raise ConfigError([f"--config={name}: no such file; {more}"])


def module_name(file: Path) -> str:
    """The name a file is imported by: its own inside the repository, else one made of its stem and place."""
    if file.is_relative_to(ROOT / "experiments"):
        return ".".join(file.relative_to(ROOT).with_suffix("").parts)
    stem = re.sub(r"\W", "_", file.stem)
    return f"config_{stem}_{hashlib.sha256(str(file).encode()).hexdigest()[:8]}"


def execute(file: Path, shown: str = "", name: str = "") -> types.ModuleType:
    """The module of a Python file, which errors call `shown`. Files of experiments/ are imported once, as usual;
    another file is executed anew, can import what lies beside it, and is registered as `name`."""
    shown, name = shown or str(file), name or module_name(file)
    try:
        if file.is_relative_to(ROOT / "experiments"):
            return importlib.import_module(name)
        if str(file.parent) not in sys.path:
            sys.path.append(str(file.parent))
        code = compile(file.read_bytes(), str(file), "exec", dont_inherit=True)
        module = types.ModuleType(name)
        module.__file__ = str(file)
        sys.modules[name] = module
        exec(code, module.__dict__)
        return module
    except UserError as error:
        raise ConfigError(f"{shown}: {line}" for line in str(error).splitlines()) from error
    except (Exception, SystemExit) as error:
        raise ConfigError(_failure(error, file, shown)) from error


def _failure(error: BaseException, file: Path, shown: str) -> list[str]:
    """One line for an exception, at the deepest line of the configuration file that led to it."""
    if isinstance(error, SyntaxError) and error.filename:
        where = shown if Path(error.filename) == file else error.filename
        return [f"{where}:{error.lineno}: {error.msg}"]
    frames = traceback.extract_tb(error.__traceback__)
    lines = [frame.lineno for frame in frames if frame.filename == str(file)]
    where = f"{shown}:{lines[-1]}" if lines else shown
    if isinstance(error, SpecError):
        return [f"{where}: {line}" for line in str(error).splitlines()]
    meant, text = _where_it_is(error) + _field(error), one_line(error)
    if meant:  # since 3.13 Python says in its own words what it takes a field for
        text = re.sub(r"\. Did you mean '\w+'\?$", "", text)
    return [f"{where}: {type(error).__name__}: {text}{meant}"]


def _where_it_is(error: BaseException) -> str:
    """Of a name that is not defined, or that `experiments` does not have: where there is one."""
    missing = re.match(r"cannot import name '(\w+)' from 'experiments'", str(error))
    name = error.name if isinstance(error, NameError) else missing[1] if missing else None
    if not name:
        return ""
    if name in experiments.public():
        return f"; it is there by: from experiments import {name}"
    near = nearest(name, experiments.public())
    return f"; did you mean {near}? (from experiments import {near})" if near else ""


def _field(error: BaseException) -> str:
    """Of a field that a spec does not have: the one that was meant, or all that there are."""
    strange = re.match(r"(\w+)\.__init__\(\) got an unexpected keyword argument '(\w+)'", str(error))
    trace = error.__traceback__
    if not isinstance(error, TypeError) or strange is None or trace is None:
        return ""
    while trace.tb_next is not None:
        trace = trace.tb_next
    kind = {**trace.tb_frame.f_globals, **trace.tb_frame.f_locals}.get(strange[1])
    if not (isinstance(kind, type) and issubclass(kind, Spec)):
        return ""
    names = [field.name for field in dataclasses.fields(kind) if field.init]
    return hint(strange[2], names) or f"; its fields are {', '.join(names)}"
