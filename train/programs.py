"""The programs of a run as pure functions, of one or of all its replicas, before they are compiled for a mesh."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax

from arch.spec import UserError
from train.ensemble import Ensemble, Values, substitute
from train.forward import Sums
from train.run import Run
from train.step import State, StepFunctions


class Steps(NamedTuple):
    """The three programs of a run as pure functions, and the arguments that come before all others."""

    first: tuple[Any, ...]
    initial: Callable[..., State]
    train_step: Callable[..., Any]
    eval_step: Callable[..., Any]


def lone(learner: StepFunctions, frozen: bool) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """Both steps of a run; with `frozen`, the arrays of frozen models are their first argument."""
    if not frozen:
        return learner.train_step, learner.eval_step
    return (
        lambda held, *told: learner.holding(held).train_step(*told),
        lambda held, *told: learner.holding(held).eval_step(*told),
    )


def vectorised(
    run: Run, ensemble: Ensemble, learner_of: Callable[[Run], StepFunctions], initial: Callable[[Run], State]
) -> Steps:
    """The programs of all members of `ensemble`: those of one, with its values traced, under `vmap`.

    The values are arguments of what is compiled, so that other members of the same run find it compiled.
    """
    values = ensemble.arrays()
    over = functools.partial(jax.vmap, spmd_axis_name="replica")
    shared = (None,) if run.objective.frozen else ()  # frozen models are one for all

    def train_one(values: Values, *told: Any) -> Any:
        *frozen, state, batch, go = told
        return learner_of(substitute(run, values)).holding(*frozen).train_step(state, batch, go)

    def eval_one(values: Values, *told: Any) -> Sums:
        *frozen, params, buffers, batch = told
        return learner_of(substitute(run, values)).holding(*frozen).eval_step(params, buffers, batch)

    def start_one(values: Values) -> State:
        return initial(substitute(run, values))

    train = over(train_one, in_axes=(0, *shared, 0, 0, 0))
    return Steps((values,), over(start_one), train, over(eval_one, in_axes=(0, *shared, 0, 0, None)))


def shapes_of(steps: Steps, ensemble: Ensemble) -> State:
    """The shapes of the members' state. Raises UserError if their start depends on a value that was to vary."""
    with one_program(ensemble):
        return jax.eval_shape(steps.initial, *steps.first)


NEEDS_A_VALUE = (
    jax.errors.ConcretizationTypeError,
    jax.errors.TracerArrayConversionError,
    jax.errors.TracerIntegerConversionError,
)
"""What a program raises that needs the value of a traced number: `if x:`, `float(x)`, `np.sqrt(x)`, `range(x)`."""


@contextlib.contextmanager
def one_program(ensemble: Ensemble) -> Iterator[None]:
    """Raises UserError if what is traced inside depends on a value that was to vary."""
    try:
        yield
    except NEEDS_A_VALUE as error:
        paths = ", ".join(ensemble.rows[0])
        raise UserError(f"{paths}: the program itself depends on one of these, so its replicas must share it; "
                        "make each value an arm of its own") from error  # fmt: skip
