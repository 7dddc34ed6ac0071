"""Is a checkpoint what was saved, or damaged: files missing or cut, digests that fail, data that cannot be decoded?

    STEP/files.json     path -> [bytes, SHA-256 if they are few] of every file of a checkpoint

Any other error (no memory, no permission, a network that is down) says nothing of the checkpoint.
"""

from __future__ import annotations

import hashlib
import json
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
"""Bytes of a file up to which its content is sealed as well."""

UNDECODABLE = re.compile(r"DATA_LOSS|OUT_OF_RANGE|NOT_FOUND|[Ee]rror decoding|[Dd]ecompress")
"""What TensorStore says of files whose content is not what it wrote."""


class DamagedError(Exception):
    """A checkpoint is not what was saved."""


def seals(folder: epath.Path) -> dict[str, list[Any]]:
    """Relative path -> [bytes, SHA-256 if they are few] of every file below `folder`."""
    found: dict[str, list[Any]] = {}
    rest = [folder]
    while rest:
        for path in rest.pop().iterdir():
            if path.is_dir():
                rest.append(path)
            elif path.name not in LATER:
                size = path.stat().length
                sums = [hashlib.sha256(path.read_bytes()).hexdigest()] if size <= SMALL else []
                found[str(path.relative_to(folder))] = [size, *sums]
    return found


def wrong(folder: epath.Path) -> str:
    """What is wrong with the files of a checkpoint; "" if nothing."""
    if not (folder / FILES).exists():
        return f"{FILES} is missing"
    wanted, there = json.loads((folder / FILES).read_text()), seals(folder)
    for name, seal in wanted.items():
        size, *sums = seal if isinstance(seal, list) else [seal]  # sealed by its size alone, as they used to be
        if name not in there:
            return f"{name} is missing"
        if there[name][0] != size:
            return f"{name} has {there[name][0]} bytes of {size}"
        if sums and there[name][1:] != sums:
            return f"{name} is not what was saved"
    return ""


@contextmanager
def reading(folder: epath.Path) -> Iterator[None]:
    """Tells damage from other errors, and makes one line of those that a user can mend."""
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
    gone = isinstance(error, FileNotFoundError)
    return gone or isinstance(error, (json.JSONDecodeError, UnicodeDecodeError)) or bool(UNDECODABLE.search(text))
