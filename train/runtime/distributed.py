"""Several processes as one program: a TPU pod, or GPU and CPU hosts that are given where to meet.

Every process runs the same command. Process 0 alone writes metrics and prints; checkpoints are written by all.
"""

from __future__ import annotations

import glob
import importlib.util
import sys

import jax
import jax.numpy as jnp
from jax.experimental import multihost_utils

from arch.spec import UserError
from train.runtime.internals import coordination
from train.runtime.peers import Peers, is_loopback


def initialize(coordinator: str | None = None, process_count: int | None = None, process_id: int | None = None) -> None:
    """Joins the processes of a run. To be called before anything asks JAX for its devices.

    Args:
      coordinator: HOST:PORT of process 0, or "auto" where the cluster tells (Slurm, Open MPI, GKE). None: a TPU pod
        is joined as it tells itself, and elsewhere the process is alone.
      process_count: processes in all.
      process_id: which of them this is, from 0.

    Raises:
      UserError: arguments that do not belong together.
    """
    if coordinator in (None, "auto"):
        if process_count is not None or process_id is not None:
            raise UserError("process_count and process_id need the coordinator's address, HOST:PORT of process 0")
        if coordinator == "auto" or _on_tpu():
            _use_gloo()
            jax.distributed.initialize()
            _watch()
        return
    if process_count is None or process_id is None:
        raise UserError(f"coordinator={coordinator} needs process_count and process_id, too")
    if not 0 <= process_id < process_count:
        raise UserError(f"process_id={process_id}: must be between 0 and {process_count - 1}")
    _use_gloo()
    host, _, port = coordinator.rpartition(":")
    bound = coordinator if is_loopback(host) and port else None  # else the default, all interfaces, for other machines
    jax.distributed.initialize(coordinator, process_count, process_id, coordinator_bind_address=bound)
    _watch()


def _watch() -> None:
    """Ends this process soon after another one is lost."""
    state = coordination()
    if state.client is not None and state.num_processes > 1:
        host = (state.coordinator_address or "").rpartition(":")[0].strip("[]")
        try:
            Peers(state.client, host, state.process_id, state.num_processes)
        except OSError as error:  # a firewall, say
            told = f"process {state.process_id} does not watch the others ({error}); one that is lost is noticed later"
            print(told, file=sys.stderr)


def is_main() -> bool:
    """Whether this process writes and prints."""
    return jax.process_index() == 0


def agreed(flag: bool) -> bool:
    """Process 0's `flag`, in every process; all must ask."""
    return flag if jax.process_count() == 1 else bool(multihost_utils.broadcast_one_to_all(jnp.asarray(flag)))


def _use_gloo() -> None:
    """CPU processes exchange arrays through Gloo."""
    jax.config.update("jax_cpu_collectives_implementation", "gloo")


def _on_tpu() -> bool:
    chips = glob.glob("/dev/accel*") + glob.glob("/dev/vfio/[0-9]*")
    return bool(chips) and importlib.util.find_spec("libtpu") is not None
