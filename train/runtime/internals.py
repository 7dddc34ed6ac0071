"""What is taken from inside JAX, because its public interface has no such thing: all of it is here.

Tried with jax 0.10.2 and 0.12.0; train/record/waiting_threads.py is the same for Orbax.
"""

from __future__ import annotations

from typing import Any

import jax
from jax.extend import core
from jax.interpreters import partial_eval


def without_unused(closed: core.ClosedJaxpr) -> tuple[Any, list[bool]]:
    """The jaxpr of `closed` without what its results do not need, and which of its arguments they need.

    `jax.interpreters` is public; what it holds is not documented. The compiler's own elimination leaves loops alone.
    """
    return partial_eval.dce_jaxpr(closed.jaxpr, [True] * len(closed.jaxpr.outvars))


def coordination() -> Any:
    """Of the processes that have joined: `client` (None: none have), `coordinator_address`, `process_id` and
    `num_processes`. The client's key-value store is how processes exchange text before there are arrays."""
    return jax._src.distributed.global_state
