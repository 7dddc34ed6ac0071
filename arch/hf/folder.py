"""A folder that Transformers opens: `config.json`, `generation_config.json`, `model.safetensors` or its shards, and
whatever text files the caller adds (tokenizer, card). It is written beside its place and renamed, so that there is
never half of one.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from arch.hf import safetensors
from arch.hf.family import Planned
from arch.hf.tiers import Plan
from arch.spec import UserError

Dtype = Literal["float32", "bfloat16", "float16"]
KINDS = {"float32": "F32", "bfloat16": "BF16", "float16": "F16"}
CONFIG, WEIGHTS, INDEX = "config.json", "model.safetensors", "model.safetensors.index.json"
SHARD = 5 * 10**9
"""Bytes of a file, at most, as in Transformers; a larger tensor has a file by itself."""

MARKER = ".writing-"
Progress = Callable[[str, int, int | None], None]


def write(
    plan: Plan,
    to: Path,
    *,
    dtype: str = "float32",
    files: Mapping[str, str] | None = None,
    generation: Mapping[str, Any] | None = None,
    shard: int = SHARD,
    progress: Progress = lambda what, done, of: None,
    check: Callable[[Path], None] = lambda folder: None,
    replace: Callable[[Path], bool] = lambda folder: False,
) -> None:
    """Writes a model.

    Args:
      plan: what is written.
      to: the folder; new, empty, or one that `replace` says is another export, which it then takes the place of.
      dtype: the type of the numbers.
      files: name -> text of further files.
      generation: the contents of `generation_config.json`; None: there is none.
      shard: bytes of a file of weights, at most.
      progress: called with (what, bytes done, bytes in all).
      check: called with the folder before it takes its place; what it raises prevents that.

    Raises:
      UserError: `to` holds something else, or there is no room or permission to write.
    """
    if dtype not in get_args(Dtype):
        raise UserError(f"dtype={dtype}: must be one of {', '.join(get_args(Dtype))}")
    if to.exists() and not to.is_dir():
        raise UserError(f"{to}: is a file; give a new folder")
    if to.exists() and any(to.iterdir()) and not replace(to):
        shown = ", ".join(sorted(path.name for path in to.iterdir())[:3])
        raise UserError(f"{to}: holds something already ({shown}); give a new or empty folder")
    with _beside(to) as new:
        texts = {CONFIG: _json({**plan.config, "dtype": dtype}), **plan.files, **(files or {})}
        if generation is not None:
            texts["generation_config.json"] = _json(generation)
        for name, text in texts.items():
            if Path(name).name != name:
                raise UserError(f"{name}: is no name of a file in the folder")
            (new / name).write_text(text, encoding="utf-8")
        _weights(plan.tensors, new, safetensors.TYPES[KINDS[dtype]], shard, progress)
        check(new)
        if to.exists():
            old = Path(tempfile.mkdtemp(prefix=f".{to.name}.old-", dir=to.parent))
            to.rename(old / to.name)
            new.rename(to)
            shutil.rmtree(old)
        else:
            new.rename(to)


@contextmanager
def _beside(to: Path) -> Iterator[Path]:
    """A new folder beside `to`, gone at any error."""
    new = None
    try:
        to.parent.mkdir(parents=True, exist_ok=True)
        new = Path(tempfile.mkdtemp(prefix=f".{to.name}{MARKER}", dir=to.parent))
        os.chmod(new, 0o755)
        yield new
    except OSError as error:
        why = "no space left" if error.errno == errno.ENOSPC else error.strerror or str(error)
        raise UserError(f"{to}: cannot be written ({why}); nothing is left of it") from error
    finally:
        if new is not None and new.exists():
            shutil.rmtree(new, ignore_errors=True)


def _json(values: Mapping[str, Any]) -> str:
    return json.dumps(values, indent=2, ensure_ascii=False) + "\n"


def _weights(tensors: Sequence[Planned], folder: Path, dtype: Any, most: int, progress: Progress) -> None:
    """The tensors in as few files of at most `most` bytes as their order allows."""
    entries = [safetensors.Entry(one.name, dtype, one.shape) for one in tensors]
    total, done = sum(entry.nbytes for entry in entries), 0
    shards: list[list[int]] = [[]]
    for number, entry in enumerate(entries):
        if shards[-1] and sum(entries[one].nbytes for one in shards[-1]) + entry.nbytes > most:
            shards.append([])
        shards[-1].append(number)
    count = len(shards)
    names = [WEIGHTS] if count == 1 else [f"model-{i + 1:05}-of-{count:05}.safetensors" for i in range(count)]
    for name, numbers in zip(names, shards, strict=True):
        with (folder / name).open("wb") as file:
            file.write(safetensors.header([entries[one] for one in numbers], {"format": "pt"}))
            for one in numbers:
                with np.errstate(over="ignore"):
                    value = tensors[one].value().astype(dtype)
                assert value.shape == entries[one].shape, tensors[one].name
                if not np.isfinite(value).all():
                    told = f"has numbers that are not finite as {np.dtype(dtype).name}"
                    raise UserError(f"{tensors[one].name}: {told}; it is not exported")
                safetensors.write(file, value)
                done += entries[one].nbytes
                progress("write weights", done, total)
            file.flush()
            os.fsync(file.fileno())
    if count > 1:
        where = {entries[one].name: name for name, numbers in zip(names, shards, strict=True) for one in numbers}
        (folder / INDEX).write_text(_json({"metadata": {"total_size": total}, "weight_map": where}))
