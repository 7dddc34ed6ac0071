"""The loop: every run goes through it, whatever its model, objective and data.

Step n + 1 is dispatched before the results of step n are read, and the batch after it is fetched while it runs, so
that the devices do not wait for the host. After a step come, where they are due, metrics, evaluation and checkpoint;
a resumed run takes up what was still owed, so that it ends with the files of one that was never interrupted.
"""

from __future__ import annotations

import contextlib
import dataclasses
import signal
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NoReturn

import jax
import numpy as np
from etils import epath

from arch.spec import UserError
from train.data.description import prefix
from train.ensemble import Ensemble
from train.evaluate import TEST, evaluate_all, evaluation_batches
from train.finite import explain, unfinite
from train.forward import Batch, Params
from train.hook import Hook
from train.record import folder as run_folder
from train.record.checkpoint import Checkpoints
from train.record.lock import Lock
from train.record.reporter import Reporter
from train.run import Run
from train.runtime import memory as room
from train.runtime.distributed import agreed, is_main
from train.runtime.hardware import rounding
from train.runtime.profiling import Profile, Window
from train.runtime.signals import Stopped, StopSignals
from train.setup import CompiledRun, prepare
from train.starts.start import begin
from train.step import State
from train.trained import TrainedRun


@dataclasses.dataclass(frozen=True)
class Trained:
    """A run that has reached its last step.

    Attributes:
      program: the run made ready.
      state: the parameters and the optimiser's state after the last step.
      dataset: what it was trained on.
      metrics: PREFIX/NAME -> value of the last evaluation, as val/loss and test/loss, with members a list of one value
        a replica; empty if the data has nothing to evaluate on.
      stopped: replica -> the step at which it ceased to be finite; it stays as it was before that step.
    """

    program: CompiledRun
    state: State
    dataset: Any
    metrics: dict[str, Any]
    stopped: dict[int, int] = dataclasses.field(default_factory=dict)

    @property
    def params(self) -> Params:
        """The parameters."""
        return self.state["params"]

    @property
    def model(self) -> Any:
        """The trained model."""
        return self.program.model(self.state)


def train(
    run: Run,
    folder: epath.PathLike,
    *,
    ensemble: Ensemble | None = None,
    describe: Callable[[epath.Path], None] | None = None,
    profile: Window | None = None,
    trust: bool = False,
    hooks: Sequence[Hook] = (),
) -> Trained:
    """Trains `run`, or goes on with what `folder` holds of it.

    An `ensemble` is one program; a member that is no longer finite does not stop the others.

    Args:
      run: what to train.
      folder: where the run is kept, also `gs://`: a new or empty folder, or one that this call was used with before.
      ensemble: what replicas of the run differ in; None: the run alone.
      describe: called with the folder of a new run, to write what people read about it. In process 0 alone.
      profile: the steps to record with `jax.profiler`, into `folder/profile`.
      trust: whether to go on with what other code has begun, with one line that says so.
      hooks: what else is done after some steps.

    Raises:
      UserError: a folder that holds something else, that another process trains in, or that cannot be written; a step
        that is not finite.
      SpecError: parts of the run that do not fit each other, the devices or the data.
      Stopped: SIGTERM, SIGINT or a preemption notice; the state is saved.
    """
    folder = epath.Path(folder)
    run_folder.check(folder, run, ensemble, other=_say if trust else run_folder.invalid)
    for error in run.conflicts():  # before anything is fetched or tokenised for it
        raise error
    with Lock(folder, note=_say) as lock:
        dataset = run.data.build()
        program = prepare(run, dataset.description, ensemble=ensemble)
        resumed = run_folder.check(folder, run, ensemble, other=lambda line: None)  # as it is now that it is locked
        if is_main() and not resumed:
            run_folder.mark(folder, run, ensemble)
            if describe is not None:
                describe(folder)
        with Checkpoints(folder, run.logging.keep, note=_say, before=lock.confirm) as checkpoints, _memory():
            if checkpoints.newest != run.steps:
                room.check(program)
            return _Loop(program, dataset, folder, checkpoints, Profile(profile, folder), hooks).go()


class _Loop:
    """One run on its way through `train`."""

    def __init__(
        self, program: CompiledRun, dataset: Any, folder: epath.Path, checkpoints: Checkpoints, profile: Profile,
        hooks: Sequence[Hook],
    ):  # fmt: skip
        self.hooks = hooks
        self.program, self.run, self.dataset = program, program.run, dataset
        self.folder, self.checkpoints, self.profile = folder, checkpoints, profile
        self.batches = program.batches(dataset)
        self.splits = evaluation_batches(program, dataset)
        restored = checkpoints.restore(program.abstract)
        self.start = restored.step if restored else 0
        self.state: State = restored.state if restored else self.fresh()
        self.stopped: dict[int, int] = {}
        self.fine = program.go()
        written = None
        if restored:
            written = restored.data.get("metrics")
            self.batches.set_state(restored.data)
            self.stopped = {int(replica): step for replica, step in restored.data.get("stopped", {}).items()}
            if self.stopped:
                alive = np.ones(self.fine.shape, bool)
                alive[list(self.stopped)] = False
                self.fine = jax.device_put(alive, self.fine.sharding)
        self.reporter, self.signals = Reporter(program, folder, self.start, written), StopSignals()
        self.unread: tuple[int, dict[str, jax.Array], Batch] | None = None
        self.metrics: dict[str, Any] = {}

    def fresh(self) -> State:
        """The state before the first step."""
        state = self.program.start()
        if self.run.start is None:
            return state
        ensemble = self.program.ensemble
        if ensemble is None:
            return begin(self.run.start.within(self.run, self.dataset), state, _say)
        lone = [ensemble.lone(self.run, i) for i in range(len(ensemble))]
        starts = [one.start.within(one, self.dataset) for one in lone]
        return begin(starts[0], state, _say, starts)

    def go(self) -> Trained:
        """All the steps that are left."""
        with self.reporter, self.signals, self.profile:
            if line := rounding(self.program.mesh.devices.flat[0], self.program.run.precision):
                self.reporter.note(line)
            if self.start:
                self.reporter.note(f"going on from step {self.start:,} of {self.run.steps:,} in {self.folder}")
                self.metrics = self.reporter.evaluated(self.start)
                prefixes = {name.partition("/")[0] for name in self.metrics}
                if self.due("evaluate", self.start) and not agreed({*map(prefix, self.owed(self.start))} <= prefixes):
                    self.evaluate(self.start)
                self.call(self.start)
            for step in range(self.start + 1, self.run.steps + 1):
                batch = self.program.place(next(self.batches))
                self.profile.before(step)
                self.state, results = self.program.train_step(self.state, batch, self.fine)
                self.fine = results["finite"]
                self.read()
                self.unread = step, results, batch
                self.profile.after(step, self.state)
                self.between(step)
            self.read()
        return Trained(self.program, self.state, self.dataset, self.metrics, self.stopped)

    def between(self, step: int) -> None:
        """What comes after `step`: nothing, most often; else the results are read first."""
        stop = self.signals.after(step)
        if stop is None and self.due("evaluate", step):
            self.read()
            self.evaluate(step)
            stop = self.signals.after(step)
        if stop is not None or self.due("checkpoint", step):
            self.read()
            self.save(step)
        if stop is None:
            self.call(step)
        else:
            self.checkpoints.wait()
            name = signal.Signals(stop).name
            self.reporter.note(f"{name}: stopped after step {step:,} of {self.run.steps:,}, which is saved; "
                               f"to go on, run the same command again (it finds {self.folder})")  # fmt: skip
            raise Stopped(stop)

    def call(self, step: int) -> None:
        """The hooks that are due after `step`."""
        for hook in [hook for hook in self.hooks if hook.due(step, self.run.steps)]:
            self.read()
            self.reporter.flush()
            with self.reporter.pause():
                hook(TrainedRun(self.program, self.state, self.dataset, step), self.reporter.note)

    def due(self, what: str, step: int) -> bool:
        """Whether `reports` has `what` after `step`."""
        every = getattr(self.run.logging, what)
        return step == self.run.steps or bool(every and step % every == 0)

    def read(self) -> None:
        """Waits for the results that are not read yet, and reports them. Raises UserError if they are not finite."""
        if self.unread is None:
            return
        (step, results, batch), self.unread = self.unread, None
        finite = np.asarray(results["finite"])
        if self.program.ensemble is not None:
            for replica in np.flatnonzero(~finite).tolist():
                if replica not in self.stopped:
                    self.stopped[replica] = step
                    about = self.program.ensemble.describe(replica)
                    self.reporter.note(f"step {step:,}: replica {replica} ({about}) is not finite; it stays as it was")
            self.reporter.step(step, results, batch)
            return
        if finite:
            self.reporter.step(step, results, batch)
            return
        self.reporter.failed(step, results)
        # The guard in the step has kept the parameters, also if the step after this one is under way.
        where = explain(self.program, self.state, batch)
        self.fail(step, f"the loss or its gradient is not finite: {where}")

    def owed(self, step: int) -> dict[str, Any]:
        """The batches of the splits to evaluate after `step`: of the test split at the end alone."""
        return {split: batches for split, batches in self.splits.items() if split != TEST or step == self.run.steps}

    def evaluate(self, step: int) -> None:
        """The metrics of the splits that are owed; given up halfway if this process is to stop."""
        with self.reporter.pause():
            stop = lambda: self.signals.noted  # noqa: E731
            metrics = evaluate_all(self.program, self.state, self.owed(step), stop)
        if metrics:
            self.metrics = metrics
            self.reporter.evaluation(step, metrics)

    def save(self, step: int) -> None:
        """A checkpoint after `step`, of finite parameters only."""
        with self.reporter.pause():
            # A replica whose update overflows fails its next step, and stops none of the others.
            for kind in () if self.program.ensemble else ("params", "buffers"):
                if bad := unfinite(self.program, self.state[kind]):
                    what = {"params": "parameter", "buffers": "buffer"}[kind]
                    self.fail(step, f"the update made the {what} {bad[0]} not finite")
            self.reporter.flush()
            stopped = {"stopped": self.stopped} if self.stopped else {}
            written = {} if self.reporter.mark is None else {"metrics": self.reporter.mark}
            self.checkpoints.save(step, self.state, {**self.batches.get_state(), **stopped, **written})

    def fail(self, step: int, what: str) -> NoReturn:
        self.checkpoints.wait()
        newest = self.checkpoints.newest
        kept = "there is no checkpoint" if newest is None else f"the checkpoint of step {newest:,} is good"
        raise UserError(f"step {step:,}: {what}; {kept}; {self.folder}")


@contextlib.contextmanager
def _memory() -> Iterator[None]:
    """Makes one line of what is said, by Python or a device, when there is no memory left."""
    try:
        yield
    except Exception as error:
        if room.is_out_of_memory(error):
            raise UserError(room.line(error)) from error
        raise


def _say(line: str) -> None:
    if is_main():
        print(line, flush=True)
