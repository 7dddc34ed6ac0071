"""Is a checkpoint what was saved, or damaged: files missing or cut, digests that fail, data that cannot be decoded?

    STEP/files.json     path -> [bytes, SHA-256] of every file of a checkpoint; of large files of arrays [bytes]

Any other error (no memory, no permission, a network that is down) says nothing of the checkpoint.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from etils import epath

from arch.spec import UserError

FILES = "files.json"
LATER = ("_CHECKPOINT_METADATA", "commit_success.txt")
"""Files that Orbax touches after a checkpoint was sealed."""

SMALL = 2**16
"""Bytes of a file of arrays up to which its content is sealed as well; larger ones have digests of their own."""

ARRAYS = "d"
"""The folders in which OCDBT keeps the bytes of arrays."""

METADATA = "extra/metadata"
"""What a checkpoint holds beside its arrays: position in the data, types and digests of the arrays."""

UNDECODABLE = re.compile(r"DATA_LOSS|OUT_OF_RANGE|NOT_FOUND|[Ee]rror decoding|[Dd]ecompress")
"""What TensorStore says of files whose content is not what it wrote."""


REFUSED = re.compile(r"\b(RESOURCE_EXHAUSTED|PERMISSION_DENIED|NOT_FOUND|UNAVAILABLE|DEADLINE_EXCEEDED|ABORTED): ")
"""What TensorStore says when a disk or a store does not do what it should."""


class DamagedError(Exception):
    """A checkpoint is not what was saved."""


def seals(folder: epath.Path) -> dict[str, list[Any]]:
    """Relative path -> `seal` of every file below `folder`."""
    found: dict[str, list[Any]] = {}
    rest = [folder]
    while rest:
        for path in rest.pop().iterdir():
            if path.is_dir():
                rest.append(path)
            elif path.name not in LATER:
                found[str(path.relative_to(folder))] = seal(path)
    return found


def seal(path: epath.Path) -> list[Any]:
    """[bytes, SHA-256] of a file; a large one of arrays has no SHA-256."""
    size = path.stat().length
    if size > SMALL and path.parent.name == ARRAYS:
        return [size]
    sha = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(2**20):
            sha.update(block)
    return [size, sha.hexdigest()]


def wrong(folder: epath.Path, only: str | None = None) -> str:
    """What is wrong with the files of a checkpoint, or with the one file `only`; "" if nothing."""
    if not (folder / FILES).exists():
        return f"{FILES} is missing"
    try:
        wanted = dict(json.loads((folder / FILES).read_text()))
    except (ValueError, TypeError, RecursionError) as error:
        return f"{FILES} is not what was saved ({type(error).__name__})"
    if only is None:
        there = seals(folder)
    else:
        wanted = {only: wanted.get(only, [-1])}
        there = {only: seal(folder / only)} if (folder / only).exists() else {}
    for name, told in wanted.items():
        size, *sums = told if isinstance(told, list) and told else [told]  # by its size alone, as it used to be
        if name not in there:
            return f"{name} is missing"
        if there[name][0] != size:
            return f"{name} has {there[name][0]} bytes of {size}"
        if sums and there[name][1:] != sums:
            return f"{name} is not what was saved"
    return ""


@contextmanager
def reading(folder: epath.Path) -> Iterator[None]:
    """Distinguishes damage from other errors, and makes one line of those that a user can mend."""
    try:
        yield
    except (UserError, DamagedError):
        raise
    except Exception as error:
        texts = [_bare(cause) for cause in _causes(error)]
        line = (texts[-1] or type(_causes(error)[-1]).__name__)[:160]
        if _is_out_of_memory(error):
            raise UserError(f"{folder}: there is no memory to read it ({line}); it is kept: free some memory, or use "
                            "more devices, and run the same command again") from error  # fmt: skip
        if any(_is_decoding(cause, text) for cause, text in zip(_causes(error), texts, strict=True)):
            raise DamagedError(line) from error
        refused = next((cause for cause in _causes(error) if isinstance(cause, OSError)), None)
        if refused is not None or any("PERMISSION_DENIED" in text for text in texts):
            why = getattr(refused, "strerror", None) or line
            raise UserError(f"{folder}: cannot be read ({why}); it is kept: mend that, and run the same command "
                            "again") from error  # fmt: skip
        raise


def refusal(error: BaseException) -> str | None:
    """Why the file system or the store refused, in a few words, also where TensorStore or Orbax say so; None: it did
    not."""
    for cause in reversed(_causes(error)):
        text = _bare(cause)
        if code := re.search(r"os_error_code[=:] *'?(\d+)", str(cause)):
            return os.strerror(int(code[1]))
        if isinstance(cause, OSError):
            return cause.strerror or text or type(cause).__name__
        if REFUSED.search(text):
            return text[:160]
    return None


def _causes(error: BaseException | None) -> list[BaseException]:
    """An error and those that led to it."""
    found: list[BaseException] = []
    while error is not None and error not in found:
        found.append(error)
        error = error.__cause__
    return found


def _bare(error: BaseException) -> str:
    """What an error says, in one line, without TensorStore's description of itself."""
    return re.split(r"\[tensorstore_spec|See full TensorStore details", " ".join(str(error).split()))[0].strip()


def _is_out_of_memory(error: Exception) -> bool:
    return any(isinstance(cause, MemoryError) or "RESOURCE_EXHAUSTED" in str(cause) for cause in _causes(error))


def _is_decoding(error: BaseException, text: str) -> bool:
    kinds = FileNotFoundError, json.JSONDecodeError, UnicodeDecodeError, RecursionError
    return isinstance(error, kinds) or bool(UNDECODABLE.search(text))
