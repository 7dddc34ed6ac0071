"""A folder of Transformers as a model of ours. Only JSON and safetensors are read; nothing in it is executed."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from arch.hf import safetensors
from arch.hf.family import Family
from arch.hf.folder import CONFIG, INDEX, WEIGHTS
from arch.hf.tiers import FAMILIES
from arch.hf.weights import closed
from arch.models.base import Model
from arch.params import Tree
from arch.spec import UserError


@dataclasses.dataclass(frozen=True)
class Read:
    """A model that was read.

    Attributes:
      model: its spec.
      params: its parameters, float32.
      config: what `config.json` says.
      family: that it is of.
      dropped: names of tensors that the function does not depend on.
    """

    model: Model
    params: Tree
    config: Mapping[str, Any]
    family: Family
    dropped: tuple[str, ...]


def read(folder: Path) -> Read:
    """The model in `folder`.

    Raises:
      UserError: in one line: no such folder, an architecture without a counterpart, weights that are missing,
        left over, of another shape, cut off or pickled.
    """
    config = object_of(folder / CONFIG)
    family = _family(folder, config)
    model = family.read(config, str(folder / CONFIG))
    held = dict(tensors(folder))
    found, dropped = arrays(family, model, held, folder)
    return Read(model, closed(model, found), config, family, dropped)


def _family(folder: Path, config: Mapping[str, Any]) -> Family:
    inside(folder, _code(config.get("auto_map")))
    kind, known = config.get("model_type"), {one.model_type: one for one in FAMILIES}
    if kind not in known:
        raise UserError(
            f"{folder / CONFIG}: model_type={kind!r} has no counterpart here; these have: {', '.join(known)}"
        )
    return known[kind]


def _code(value: Any) -> list[str]:
    """The files that an `auto_map` names."""
    each = value.values() if isinstance(value, dict) else ()
    words = [word for one in each for word in (one if isinstance(one, list) else [one]) if isinstance(word, str)]
    return [word.rpartition("--")[2].rpartition(".")[0].replace(".", "/") + ".py" if "/" not in word else word
            for word in words]  # fmt: skip


def inside(folder: Path, names: list[str]) -> None:
    """Refuses names of files that are not in `folder` itself. Raises UserError."""
    for name in names:
        if Path(name).name != name or name in ("", ".", ".."):
            raise UserError(f"{folder}: names the file {name!r}, which leaves the folder; it is not opened")


def tensors(folder: Path) -> Mapping[str, np.ndarray]:
    """Name -> array of all files of weights, mapped. Raises UserError."""
    if (folder / INDEX).exists():
        where = object_of(folder / INDEX).get("weight_map")
        if not isinstance(where, dict) or not all(isinstance(name, str) for name in where.values()):
            raise UserError(f"{folder / INDEX}: has no weight_map of names of files")
        files = list(dict.fromkeys(where.values()))
        inside(folder, files)
    elif (folder / WEIGHTS).exists():
        where, files = None, [WEIGHTS]
    else:
        pickles = sorted(path.name for path in folder.glob("*.bin"))
        if pickles:
            raise UserError(f"{folder}: has {pickles[0]}, a pickle, which is not opened; save it as safetensors")
        raise UserError(f"{folder}: has no {WEIGHTS}")
    found: dict[str, np.ndarray] = {}
    for file in files:
        if not file.endswith(".safetensors"):
            raise UserError(f"{folder / file}: is no safetensors file by its name; nothing else is opened")
        for name, array in safetensors.read(folder / file).items():
            if name in found:
                raise UserError(f"{folder / file}: {name} is in another file too")
            found[name] = array
    if where is not None and set(where) != set(found):
        odd = sorted(set(where) ^ set(found))[0]
        raise UserError(f"{folder / INDEX}: {odd} is in the index or in the files, not in both")
    return found


def arrays(
    family: Family, model: Model, held: Mapping[str, np.ndarray], where: Path, told: str = CONFIG
) -> tuple[dict[str, np.ndarray], tuple[str, ...]]:
    """(path by layer -> float32 array, names of what was left out). Each tensor is used once or reported.

    Args:
      held: name -> array.
      where: they come from, a folder or a file.
      told: what says their shapes.

    Raises:
      UserError: a tensor is missing, left over, or of another shape or type.
    """
    table, known = family.table(model)
    held = {_full(name, family, table): array for name, array in held.items()}
    found: dict[str, np.ndarray] = {}
    for tensor in table:
        array = held.pop(tensor.name, None)
        copies = [(name, held.pop(name)) for name in tensor.copies if name in held]
        if array is None and not copies:
            raise UserError(f"{where}: the tensor {tensor.name} is missing; {_some(held)}")
        array = copies[0][1] if array is None else array
        for name, copy in copies:
            if copy.shape != array.shape or not np.array_equal(copy, array):
                raise UserError(f"{where}: {name} differs from {tensor.name}, which it must equal here")
        wanted = tensor.layout.shape([known[path] for path in tensor.paths])
        if array.shape != wanted:
            raise UserError(
                f"{where}: {tensor.name} has shape {list(array.shape)}; by {told} it must be {list(wanted)}"
            )
        if array.dtype.kind in "iub" and array.dtype != safetensors.TYPES["BF16"]:
            raise UserError(f"{where}: {tensor.name} holds {array.dtype}; it must hold floating numbers")
        found[tensor.name] = np.asarray(array, np.float32)
        if not np.isfinite(found[tensor.name]).all():
            raise UserError(f"{where}: {tensor.name} has numbers that are not finite")
    whole = family.absorbed(found, lambda name: held.pop(name, None))
    dropped = tuple(name for name in held if any(re.search(pattern, name) for pattern in family.ignored))
    extra = [name for name in held if name not in dropped]
    if extra:
        raise UserError(f"{where}: the tensor {extra[0]} has no place in {family.architecture}; {len(extra)} in all")
    placed: dict[str, np.ndarray] = {}
    for tensor in table:
        pieces = tensor.layout.split(whole[tensor.name], [known[path] for path in tensor.paths])
        placed |= dict(zip(tensor.paths, pieces, strict=True))
    return placed, dropped


def _full(name: str, family: Family, table: list[Any]) -> str:
    """The name with the beginning that checkpoints of the bare model lack, and as norms are called today."""
    name = re.sub(r"(?<=LayerNorm\.)(gamma|beta)$", lambda old: {"gamma": "weight", "beta": "bias"}[old[1]], name)
    if not family.base or name.startswith(family.base):
        return name
    return family.base + name if any(one.name == family.base + name for one in table) else name


def _some(names: Mapping[str, Any]) -> str:
    shown = ", ".join(sorted(names)[:3])
    return f"not used yet: {shown}" if shown else "all that there are, are used"


def object_of(file: Path) -> dict[str, Any]:
    """A JSON object. Raises UserError."""
    try:
        value = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(
            f"{file}: cannot be read ({error.strerror or error}); is it a folder of Transformers?"
        ) from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"{file}: is no JSON ({error})") from error
    if not isinstance(value, dict):
        raise UserError(f"{file}: is no JSON object")
    return value
