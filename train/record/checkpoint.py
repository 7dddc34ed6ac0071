"""Checkpoints of a run: Orbax, asynchronous and atomic, restored from the newest that is whole.

    FOLDER/checkpoints/STEP/state/       the train state
    FOLDER/checkpoints/STEP/extra/       position in the data, types and digest of the arrays, as JSON
    FOLDER/checkpoints/STEP/files.json   sizes of all files, SHA-256 of all but the arrays

Orbax writes into a temporary folder and renames it, so a process that is killed leaves no half a checkpoint. What a
disk or a copy loses afterwards is found by the sizes, and what it changes by digests: of the files that say what is in
it and where the run was, and of the arrays, a sum over the bits of each, which does not depend on how it is spread over
devices.
Only that, and data that cannot be decoded, is damage; at any other error (no memory, no permission, a network that is
down) the checkpoint stays where it is.
"""

from __future__ import annotations

import dataclasses
import errno
import gc
import json
import logging
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import jax
import jax.numpy as jnp
import orbax.checkpoint as ocp
from etils import epath
from jax.experimental import multihost_utils

from arch.spec import UserError, differences
from train.record import (
    literal_paths,  # noqa: F401  (Orbax takes folders for patterns)
    waiting_threads,
)
from train.record.damage import FILES, DamagedError, reading, refusal, seals, wrong
from train.runtime.distributed import agreed, is_main
from train.step import State

CHECKPOINTS, DAMAGED = "checkpoints", "damaged"
MEND = "earlier ones are kept, make room and run the same command again"


@dataclasses.dataclass(frozen=True)
class Restored:
    """What `Checkpoints.restore` found: the state, the iterator's state, and the step they belong to."""

    state: State
    data: dict[str, Any]
    step: int


class Checkpoints:
    """The checkpoints in a run folder; use it as a context or `close` it.

    Args:
      folder: the run folder, also `gs://`.
      keep: how many to keep.
      note: called with one line about each checkpoint that is skipped.
      writes: False: they are another process's, which may be at work; nothing is saved, cleared away or moved.
      before: called before each save; what it raises prevents it.
    """

    def __init__(
        self,
        folder: epath.PathLike,
        keep: int,
        note: Callable[[str], None] = print,
        *,
        writes: bool = True,
        before: Callable[[], None] = lambda: None,
    ):
        self._folder = epath.Path(folder) / CHECKPOINTS
        self._note, self._writes, self._before = note, writes, before
        self._saving, self._unread = 0, False
        self._hush = _hushed()
        self._hush.__enter__()
        beside = ocp.options.AsyncOptions(post_finalization_callback=self._seal)
        remote = "://" in str(folder)
        options = ocp.CheckpointManagerOptions(
            max_to_keep=keep, cleanup_tmp_directories=remote and writes, async_options=beside, read_only=not writes
        )
        with _trouble(self._folder):
            if writes and not remote and is_main() and self._folder.exists():
                # Orbax clears what a killed save left in a thread of its own, which may still be at it when the same
                # step is saved again.
                for left in self._folder.glob("*.orbax-checkpoint-tmp"):
                    left.rmtree()
            self._manager = ocp.CheckpointManager(absolute(self._folder), options=options)

    def __enter__(self) -> Checkpoints:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Waits for what is being written."""
        try:
            self.wait()
        finally:
            self._manager.close()
            if self._unread:
                gc.collect()  # those that were still under way then
            self._hush.__exit__(None, None, None)

    @property
    def newest(self) -> int | None:
        """The step of the newest checkpoint, saved or being saved."""
        return self._manager.latest_step()

    def save(self, step: int, state: State, data: dict[str, Any]) -> None:
        """Saves the state after `step` steps. Returns when it has been copied off the devices; the rest goes on beside.

        Raises:
          UserError: this or the save before could not be written, say for want of room.
        """
        self.wait()
        with _trouble(self._folder):
            self._before()
            self._refuse_if_full(state)
        state = _held(state)
        extra = {"data": data, "digest": digest(state), "arrays": _arrays(state)}
        with _trouble(self._folder):
            items = ocp.args.Composite(state=ocp.args.StandardSave(state), extra=ocp.args.JsonSave(extra))
            self._saving = step
            self._manager.save(step, args=items)

    def _refuse_if_full(self, state: State) -> None:
        """A write that runs out of room ends in many lines of other programs' errors, so it is not begun."""
        if jax.process_count() > 1 or "://" in str(self._folder):
            return  # others write parts of it, or only the store knows
        needed, free = sum(leaf.nbytes for leaf in jax.tree.leaves(state)), shutil.disk_usage(self._folder).free
        if needed > free:
            raise UserError(f"{self._folder}: no space left for a checkpoint, which takes {needed / 1e6:,.1f} MB where "
                            f"{free / 1e6:,.1f} MB are free; {MEND}")  # fmt: skip

    def wait(self) -> None:
        """Until the last save is on the disk. Raises UserError if it failed."""
        with _trouble(self._folder):
            try:
                self._manager.wait_until_finished()
            except Exception:
                waiting_threads.end()
                raise

    def _seal(self) -> None:
        """Seals the files; called by Orbax in process 0 when all are written, before the renaming."""
        for folder in self._folder.glob(f"{self._saving}*"):
            if folder.name.partition(".")[0] == str(self._saving):
                (folder / FILES).write_text(json.dumps(seals(folder)))

    def restore(self, abstract: State) -> Restored | None:
        """The newest checkpoint that is whole, in the structure and shardings of `abstract`; None if there are none.

        Damaged ones that are newer are reported and moved aside; where nothing is written, they are passed over.

        Raises:
          UserError: there are checkpoints, but none could be read, or they hold other arrays than `abstract`, or there
            is no memory for them or no permission to read them.
        """
        steps = sorted(self._manager.all_steps(), reverse=True)
        damaged: dict[int, str] = {}
        for step in steps:
            try:
                found = self._read(step, abstract)
            except DamagedError as error:
                damaged[step] = str(error)
                if error.__cause__ is not None:
                    del error
                    self._unread = True
                    gc.collect()  # the reads that nobody waits for, while they are kept quiet
                continue
            for bad, reason in damaged.items():
                self._note(f"checkpoint {bad} in {self._folder} is damaged ({reason}); going on from {step} instead")
                if self._writes:
                    self._set_aside(bad)
            return found
        if steps:
            raise UserError(f"{self._folder}: none of the checkpoints {', '.join(map(str, steps))} can be read "
                            f"({damaged[steps[0]]}); remove them to start over, or give another folder")  # fmt: skip
        return None

    def _read(self, step: int, abstract: State) -> Restored:
        at = self._folder / str(step)
        with reading(at):
            problem = wrong(at) if is_main() else ""
            if agreed(bool(problem)):
                raise DamagedError(problem or "process 0 found it damaged")
            extra = self._manager.restore(step, args=ocp.args.Composite(extra=ocp.args.JsonRestore()))["extra"]
            if not extra.keys() >= {"arrays", "digest", "data"}:
                raise DamagedError("extra/metadata is not what was saved")
            changed = differences(extra["arrays"], _arrays(abstract))
            if changed:
                raise UserError(f"{at}: was saved by another version of the model or the optimiser "
                                f"({'; '.join(changed[:3])}); give another run folder")  # fmt: skip
            items = ocp.args.Composite(state=ocp.args.StandardRestore(_held(abstract)))
            state = self._manager.restore(step, args=items)["state"]
            if extra["digest"] != digest(state):
                raise DamagedError("its arrays are not what was saved")
            return Restored({**abstract, **state}, extra["data"], step)

    def _set_aside(self, step: int) -> None:
        if is_main():
            aside = self._folder.parent / DAMAGED / str(step)
            with _trouble(aside.parent):
                aside.parent.mkdir(parents=True, exist_ok=True)
                if aside.exists():
                    aside.rmtree()
                (self._folder / str(step)).rename(aside)
        if jax.process_count() > 1:
            multihost_utils.sync_global_devices("damaged checkpoint set aside")
        self._manager.reload()


def _held(state: State) -> State:
    """The parts of a state that hold arrays: a model without buffers has the checkpoints of before there were any."""
    return {name: part for name, part in state.items() if jax.tree.leaves(part)}


def digest(state: State) -> list[int]:
    """One number for each array: the sum of its bits as unsigned 32-bit words, which wraps around."""
    return [int(number) for number in jax.device_get(_digest(state))]


@jax.jit
def _digest(state: State) -> list[jax.Array]:
    def bits(array: jax.Array) -> jax.Array:
        if not jnp.issubdtype(array.dtype, jnp.floating):
            return jnp.sum(array.astype(jnp.uint32))
        word = {2: jnp.uint16, 4: jnp.uint32}[array.dtype.itemsize]
        return jnp.sum(jax.lax.bitcast_convert_type(array, word).astype(jnp.uint32))

    return [bits(leaf) for leaf in jax.tree.leaves(state)]


def _arrays(state: State) -> dict[str, str]:
    """Path -> type and shape of each array."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(state)
    return {jax.tree_util.keystr(path, simple=True, separator="."): _kind(leaf) for path, leaf in leaves}


def _kind(leaf: Any) -> str:
    return f"{leaf.dtype}{list(leaf.shape)}"


def absolute(path: epath.Path) -> epath.Path:
    """What Orbax finds everything in; stores, `gs://`, are that."""
    return path if "://" in str(path) else path.absolute()


@contextmanager
def _hushed() -> Iterator[None]:
    """Keeps the tracebacks to itself that Orbax and asyncio log on top of an error that they raise, and those of the
    reads that nobody waits for once one has failed."""
    loggers = logging.getLogger("absl"), logging.getLogger("asyncio")
    for logger in loggers:
        logger.addFilter(_not_of_a_failure)
    shown = sys.unraisablehook

    def unraisable(told: Any) -> None:
        if "/orbax/" not in getattr(getattr(told.object, "cr_code", None), "co_filename", ""):
            shown(told)

    sys.unraisablehook = unraisable
    try:
        yield
    finally:
        sys.unraisablehook = shown
        for logger in loggers:
            logger.removeFilter(_not_of_a_failure)


def _not_of_a_failure(record: logging.LogRecord) -> bool:
    return not ("/orbax/" in record.pathname or "never retrieved" in record.getMessage())


@contextmanager
def _trouble(folder: epath.Path) -> Iterator[None]:
    """Makes one line of a file system's refusal. The checkpoints before stay as they are."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        why = refusal(error)
        if why is None:
            raise
        if why == os.strerror(errno.ENOSPC) or "No space left" in why or "RESOURCE_EXHAUSTED" in why:
            raise UserError(f"{folder}: no space left for a checkpoint; {MEND}") from error
        raise UserError(f"{folder}: cannot write a checkpoint: {why}; earlier ones are kept, mend that and run "
                        "the same command again") from error  # fmt: skip
