"""What a run starts from: fresh parameters, or those of another run.

    Run(start=FromRun("runs/pretrained", take=("^embedding", "^stack"), rename=(("^stack", "encoder.stack"),)))

Resuming comes before starting, starting before fresh parameters. What is taken must have a place and the same shape;
what is left fresh is reported. A layer's place is found by its number (`layers.py`): bottlenecks may stand between the
layers of a model that was trained without. Together with `optimizer.freeze` it is a frozen pretrained start, or a
probe.
"""

from __future__ import annotations

import abc
import dataclasses
import hashlib
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
from etils import epath

from arch.params import nest
from arch.spec import Problem, Spec, UserError, at_least
from train.record.checkpoint import CHECKPOINTS, absolute
from train.record.damage import METADATA, wrong
from train.starts.layers import rearranged

KINDS = ("params", "buffers")


@dataclasses.dataclass(frozen=True)
class Start(Spec, abc.ABC):
    """Where parameters and buffers come from before the first step."""

    @abc.abstractmethod
    def digest(self) -> str | None:
        """A name of the content, for the identity of the run; None: it is not there, or no longer."""

    @abc.abstractmethod
    def origins(self) -> Mapping[str, str]:
        """Path in the new model -> where its array comes from. Raises UserError if the source is not there."""

    @abc.abstractmethod
    def arrays(self) -> Mapping[str, Mapping[str, np.ndarray]]:
        """ "params" and "buffers" -> path in the new model -> array. Raises UserError if they cannot be read."""

    def within(self, run: Any, dataset: Any) -> Start:
        """What it is for `run` (a `Run` without replicas) on its built data, before the first step: by default itself;
        another start where arrays are made of the model and the data."""
        return self


@dataclasses.dataclass(frozen=True)
class FromRun(Start):
    """Parameters and buffers of another run's checkpoint.

    Attributes:
      folder: the run folder, also `gs://`.
      take: regular expressions; the source's arrays whose path one of them finds are taken, each at least one; empty:
        all.
      rename: (pattern, replacement) pairs that make a path of the new model of the source's, as `re.sub`, in turn; each
        changes at least one.
      step: of the checkpoint; None: the newest.
      replica: of an ensemble, counted from 0; None: the source is a run by itself. Replicas of one program may start
        from different ones.
    """

    folder: str
    take: tuple[str, ...] = ()
    rename: tuple[tuple[str, str], ...] = ()
    step: int | None = None
    replica: int | None = None

    def problems(self) -> Iterator[Problem]:
        yield from at_least(self, 0, "replica")
        for field, patterns in (("take", self.take), ("rename", [pattern for pattern, _ in self.rename])):
            for pattern in patterns:
                try:
                    re.compile(pattern)
                except re.error as error:
                    yield Problem(field, pattern, f"must be a regular expression ({error})")

    def digest(self):
        try:
            saved = self._saved()
        except UserError:
            return None
        content = json.dumps([saved["arrays"], saved["digest"]], sort_keys=True)
        return hashlib.sha256(content.encode()).hexdigest()[:20]

    def origins(self):
        at = self._checkpoint()
        return {new: f"{self.folder} {at.name} {old}" for kind in KINDS for new, old in self._names(kind).items()}

    def arrays(self):
        self._check_patterns()
        found: dict[str, dict[str, np.ndarray]] = {}
        for kind in KINDS:
            names = self._names(kind)
            wanted = nest({f"{kind}.{old}": None for old in names.values()})
            read = _read(self._checkpoint() / "state", wanted) if names else {}
            found[kind] = {new: _below(read, f"{kind}.{old}") for new, old in names.items()}
        self._check(found)
        if self.replica is None:
            return found
        return {kind: {new: self._of_replica(value) for new, value in arrays.items()} for kind, arrays in found.items()}

    def _of_replica(self, value: np.ndarray) -> np.ndarray:
        """The part of an array [R, ...] that is the replica's."""
        if value.ndim == 0 or len(value) <= (self.replica or 0):
            raise UserError(f"start.replica={self.replica}: {self.folder} has no such replica; leave it out for a run "
                            "that is no ensemble")  # fmt: skip
        picked: np.ndarray = value[self.replica]
        return picked

    def _names(self, kind: str) -> dict[str, str]:
        """Path in the new model -> path in the source, of what is taken. Raises UserError for two that become one."""
        names: dict[str, str] = {}
        for path in self._saved()["arrays"]:
            first, _, old = path.partition(".")
            if first != kind or (self.take and not any(re.search(pattern, old) for pattern in self.take)):
                continue
            new = old
            for pattern, replacement in self.rename:
                new = re.sub(pattern, replacement, new)
            if new in names:
                raise UserError(f"start.rename: {names[new]} and {old} of {self.folder} would both become {new}")
            names[new] = old
        return names

    def _check_patterns(self) -> None:
        """Refuses patterns that decide nothing, for they were meant to. Raises UserError."""
        paths = [path.partition(".")[2] for path in self._saved()["arrays"] if path.partition(".")[0] in KINDS]
        for pattern in self.take:
            if not any(re.search(pattern, path) for path in paths):
                raise UserError(f"start.take: {pattern!r} matches no parameter of {self.folder}; {_some(paths)}")
        taken = [old for kind in KINDS for old in self._names(kind).values()]
        for pattern, replacement in self.rename:
            renamed = [re.sub(pattern, replacement, path) for path in taken]
            if renamed == taken:
                raise UserError(f"start.rename: {pattern!r} changes no path that is taken; {_some(taken)}")
            taken = renamed

    def _checkpoint(self) -> epath.Path:
        """The folder of the checkpoint."""
        above = absolute(epath.Path(self.folder).expanduser()) / CHECKPOINTS
        steps = sorted(int(path.name) for path in above.iterdir() if path.name.isdigit()) if above.exists() else []
        if not steps or (self.step is not None and self.step not in steps):
            there = f"it has steps {', '.join(map(str, steps))}" if steps else "train it first"
            raise UserError(f"start.folder={self.folder}: holds no checkpoint{'' if self.step is None else ' of step '}"
                            f"{'' if self.step is None else self.step}; {there}")  # fmt: skip
        return above / str(steps[-1] if self.step is None else self.step)

    def _saved(self) -> dict[str, Any]:
        """What the checkpoint says of its arrays."""
        folder = self._checkpoint()
        if problem := wrong(folder, METADATA):
            raise UserError(f"start.folder={self.folder}: {folder} is damaged ({problem}); name another step")
        try:
            told: dict[str, Any] = json.loads((folder / METADATA).read_text())
            return {"arrays": told["arrays"], "digest": told["digest"]}
        except (OSError, ValueError, KeyError) as error:
            raise UserError(f"start.folder={self.folder}: {folder} cannot be read ({error})") from error

    def _check(self, found: Mapping[str, Mapping[str, np.ndarray]]) -> None:
        """Compares what was read with the digests that were saved with it. Raises UserError."""
        saved = self._saved()
        digests = dict(zip(saved["arrays"], saved["digest"], strict=True))
        for kind in KINDS:
            for new, old in self._names(kind).items():
                if _words(found[kind][new]) != digests[f"{kind}.{old}"]:
                    raise UserError(
                        f"start.folder={self.folder}: the checkpoint is damaged, {old} is not what was saved"
                    )


def begin(
    start: Start, state: dict[str, Any], note: Callable[[str], None], replicas: Sequence[Start] | None = None
) -> dict[str, Any]:
    """`state`, fresh and on its devices, with the arrays of `start` in place.

    Args:
      start: where they come from.
      state: of a run that has not begun.
      note: called with one line about what was taken and what is fresh.
      replicas: the start of each replica, where the arrays of `state` have a leading axis of replicas.

    Raises:
      UserError: an array that the model has no place for, or of another shape.
    """
    each = [start] if replicas is None else list(replicas)
    shapes = {kind: shapes_of(state[kind], 0 if replicas is None else 1) for kind in KINDS}
    read = {one: rearranged(one.arrays(), shapes) for one in dict.fromkeys(each)}
    found = read[each[0]]
    state = dict(state)
    fresh: list[str] = []
    for kind in KINDS:
        leaves, tree = jax.tree_util.tree_flatten_with_path(state[kind])
        paths = [".".join(str(key.key) for key in path) for path, _ in leaves]
        strange = [path for path in found[kind] if path not in paths]
        if strange:
            raise UserError(f"start: the model has no {strange[0]}; rename it or do not take it; {_some(paths)}")
        fresh += [path for path in paths if path not in found[kind]]
        placed = [
            leaf if path not in found[kind] else _placed(path, [read[one][kind][path] for one in each], leaf, replicas)
            for path, (_, leaf) in zip(paths, leaves, strict=True)
        ]
        state[kind] = jax.tree.unflatten(tree, placed)
    taken = sum(len(found[kind]) for kind in KINDS)
    note(f"start: {taken} arrays taken; " + (f"fresh: {', '.join(fresh)}" if fresh else "none is fresh"))
    return state


def shapes_of(tree: Any, skipped: int = 0) -> dict[str, tuple[int, ...]]:
    """Path -> shape without its `skipped` first axes."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    return {".".join(str(key.key) for key in path): tuple(leaf.shape[skipped:]) for path, leaf in leaves}


def _placed(path: str, values: Sequence[np.ndarray], leaf: jax.Array, replicas: Sequence[Start] | None) -> jax.Array:
    """`values`, one or those of all replicas, where `leaf` lies, in its type."""
    value = values[0]
    wanted = leaf.shape if replicas is None else leaf.shape[1:]
    if wanted != value.shape:
        raise UserError(f"start: {path} has the shape {list(value.shape)} in the source and {list(wanted)} here")
    if jnp.issubdtype(value.dtype, jnp.floating) != jnp.issubdtype(leaf.dtype, jnp.floating):
        raise UserError(f"start: {path} is {value.dtype} in the source and {leaf.dtype} here")
    whole = (value if replicas is None else np.stack(values)).astype(leaf.dtype)
    return jax.make_array_from_callback(leaf.shape, leaf.sharding, lambda index: whole[index])


def _some(paths: Sequence[str]) -> str:
    return f"there are {', '.join(paths[:8])}{', ...' if len(paths) > 8 else ''}"


def _read(folder: epath.Path, wanted: Any) -> dict[str, Any]:
    """The arrays of a checkpoint that `wanted` names, on the host."""
    with ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as reader:
        item = _pick(reader.metadata(folder).item_metadata.tree, wanted)
        how = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), item)
        told = ocp.args.PyTreeRestore(item=item, restore_args=how, partial_restore=True)
        read: dict[str, Any] = reader.restore(folder, args=told)
    return read


def _pick(tree: Any, wanted: Any) -> Any:
    if wanted is None:
        return tree
    return {name: _pick(tree[name], below) for name, below in wanted.items()}


def _below(tree: Any, path: str) -> np.ndarray:
    for name in path.split("."):
        tree = tree[name]
    return np.asarray(tree)


def _words(array: np.ndarray) -> int:
    """The sum of the bits of an array as unsigned 32-bit words, as `train.record.checkpoint.digest` takes it."""
    if array.dtype.kind in "iub":
        return int(np.sum(array.astype(np.uint32), dtype=np.uint64) % 2**32)
    word = {2: np.uint16, 4: np.uint32}[array.dtype.itemsize]
    return int(np.sum(np.ascontiguousarray(array).view(word), dtype=np.uint64) % 2**32)
