"""Tasks on a Ray cluster, from the cores of this machine to many machines.

Every task runs in a process of its own, which imports this checkout; the checkout and the folder of the study are at
the same paths on all machines (a shared disk; the folder may be `gs://`). A task whose worker is lost - killed, out
of memory, its machine gone - is tried again, and goes on from what it left in the folder.
"""

from __future__ import annotations

import dataclasses
import os
import signal
import sys
import textwrap
import threading
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from arch.spec import Problem, Spec, UserError, at_least
from experiments.config.errors import one_line
from experiments.study.work.executors import Failure, Note, Work, attempt

ROOT = Path(__file__).resolve().parents[2]
PASSED_ON = ("JAX_", "XLA_", "LIBTPU_", "NNX_", "STRATA_")
"""Beginnings of the names of environment variables that workers take over from here."""

GRACE = 30.0
"""Seconds that tasks have to save their state when they have to stop."""


@dataclasses.dataclass(frozen=True)
class Ray(Spec):
    """Tasks side by side on Ray.

    Attributes:
      address: of a cluster, as "auto" or "ray://head:10001"; None: RAY_ADDRESS, else a Ray of our own on this machine.
      cpus, gpus: what one task takes.
      resources: further resources that one task takes, as {"TPU": 4}.
      retries: how often a task is tried again after its worker was lost.
    """

    address: str | None = None
    cpus: float = 1
    gpus: float = 0
    resources: Mapping[str, float] = dataclasses.field(default_factory=dict)
    retries: int = 3

    def problems(self) -> Iterator[Problem]:
        yield from at_least(self, 0, "cpus", "gpus", "retries")
        for name, amount in self.resources.items():
            if name in ("CPU", "GPU"):
                yield Problem("resources", name, f"is given as {name.lower()}s")
            elif not amount > 0:
                yield Problem(f"resources[{name}]", amount, "must be greater than 0")

    def run(self, tasks: Sequence[str], work: Work, note: Note) -> list[Failure]:
        """See `Executor.run`. Raises UserError if there is no Ray, no cluster, or no machine large enough."""
        if not tasks:
            return []
        ray = _import(local=_is_local(self.address))
        with _connected(ray, self.address):
            self._check(ray, note)
            options = {
                "num_cpus": self.cpus,
                "num_gpus": self.gpus,
                "resources": dict(self.resources),
                "max_retries": self.retries,
                "retry_exceptions": False,
                "max_calls": 1,  # JAX holds on to the devices and their memory while its process lives
                "runtime_env": {"env_vars": _environment()},
            }
            remote = ray.remote(**options)(_do)
            here, pending = os.getcwd(), {}
            failures: list[Failure] = []
            try:
                pending = {remote.remote(work, task, here): index for index, task in enumerate(tasks)}
                while pending:
                    (done,), _ = ray.wait(list(pending), num_returns=1)
                    index = pending.pop(done)
                    line = self._result(ray, done)
                    if line is not None:
                        failures.append(Failure(index, line))
                        note(f"task {index + 1} of {len(tasks)}: {line}")
                    note(f"ray: {len(tasks) - len(pending)} of {len(tasks)} tasks, {len(failures)} failed")
            except BaseException:  # also Ctrl-C, and the SystemExit of SIGTERM
                _stop(ray, list(pending))
                raise
            return sorted(failures, key=lambda failure: failure.index)

    def _result(self, ray: Any, done: Any) -> str | None:
        """The line of a failure; an error that is no user's is raised."""
        try:
            return ray.get(done)
        except ray.exceptions.RayTaskError:
            raise
        except ray.exceptions.RayError as error:
            why = textwrap.shorten(one_line(error), 200, placeholder=" ...")
            return f"its worker was lost {self.retries + 1} times, the last time: {why}"

    def _check(self, ray: Any, note: Note) -> None:
        """Refuses tasks that no machine has room for: Ray would wait for one for ever. Reports GPUs left idle."""
        wanted = {"CPU": self.cpus, "GPU": self.gpus, **self.resources}
        machines = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        if any(all(machine.get(name, 0) >= amount for name, amount in wanted.items()) for machine in machines):
            if not self.gpus and any(machine.get("GPU") for machine in machines):
                note("ray: the tasks take no GPU, so they will see none, though there are some")
            return
        needs = " ".join(f"{name}={amount:g}" for name, amount in wanted.items() if amount)
        has = "; ".join(
            " ".join(f"{name}={machine[name]:g}" for name in sorted(machine) if name in {"CPU", "GPU", "TPU", *wanted})
            for machine in machines
        )
        raise UserError(f"ray: a task takes {needs}, and no machine of the cluster has as much ({has})")


def _do(work: Work, task: str, folder: str) -> str | None:
    """In the worker: the task, with the relative paths of the process that gave it."""
    from train.runtime.compilation import enable_compilation_cache
    from train.runtime.host import keep_freed_memory

    keep_freed_memory()  # as launch.py does
    enable_compilation_cache()
    if os.path.isdir(folder):
        os.chdir(folder)
    return attempt(work, task)


def _is_local(address: str | None) -> bool:
    """Whether a Ray of our own is started, on this machine alone."""
    return address is None and not os.environ.get("RAY_ADDRESS")


def _import(local: bool = False) -> Any:
    if local:  # Ray's word, on any system, for processes that listen at the loopback address alone
        os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "1")  # a task sees the GPUs it takes, and no others
    try:
        import ray
        import ray.exceptions
    except ImportError as error:
        raise UserError(f"executor ray: Ray cannot be imported ({one_line(error)}); pip install ray") from error
    return ray


@contextmanager
def _connected(ray: Any, address: str | None) -> Iterator[None]:
    """A connection to a cluster: the one there is, else a new one, which is closed in the end."""
    if ray.is_initialized():
        yield
        return
    local = _is_local(address)
    options = {"include_dashboard": False, "object_store_memory": 100 * 2**20} if local else {}
    main = threading.current_thread() is threading.main_thread()
    before = signal.getsignal(signal.SIGTERM) if main else None
    try:
        with warnings.catch_warnings():
            # JAX warns of os.fork; what Ray forks becomes another program at once.
            warnings.filterwarnings("ignore", "os.fork", RuntimeWarning)
            ray.init(address=address, log_to_driver=False, logging_level="ERROR", **options)
    except (ConnectionError, RuntimeError, ValueError, TimeoutError) as error:
        where = address or os.environ.get("RAY_ADDRESS") or "this machine"
        raise UserError(f"ray: no cluster at {where} ({one_line(error)})") from error
    noted: list[int] = []

    def terminated(number: int, frame: Any) -> None:
        noted.append(128 + number)
        sys.exit(noted[0])

    try:
        if main:
            signal.signal(signal.SIGTERM, terminated)  # Ray's own handler ends the process on the spot
        yield
    finally:
        ray.shutdown()
        if main and before is not None:
            signal.signal(signal.SIGTERM, before)
        if noted:  # Ray has changed the code that the handler gave
            sys.exit(noted[0])


def _environment() -> dict[str, str]:
    """Environment variables of the workers."""
    paths = [str(ROOT), *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    kept = {name: value for name, value in os.environ.items() if name.startswith(PASSED_ON)}
    return {**kept, "PYTHONPATH": os.pathsep.join(dict.fromkeys(paths))}


def _stop(ray: Any, tasks: list[Any]) -> None:
    """Cancels tasks: those that run are interrupted as by Ctrl-C, so that they can save, and in the end killed."""
    for task in tasks:
        ray.cancel(task, force=False)
    if tasks:
        _, tasks = ray.wait(tasks, num_returns=len(tasks), timeout=GRACE)
    for task in tasks:
        ray.cancel(task, force=True)
