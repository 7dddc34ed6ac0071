"""A schedule of phases with tokens for a clock: pre-training, context extension, decay (Ettin, arXiv 2507.11412).

Each phase goes from where the one before it ended to a value of its own, so that the multiplier has no jump:

    multiplier(t) = to + (from - to) (1 - fallen(t / T)),   t tokens into a phase of T

With "sqrt", fallen(u) = sqrt(u): the 1 - sqrt rule, a_f + (1 - a_f) (1 - sqrt(t/T)) times the value that it starts at
(arXiv 2405.18392). Phases with rows of other lengths are runs of their own: each has the same `phases`, its own
`step_tokens`, starts from the run before it (`train.starts.start.FromRun`) and takes in `before` how far that one
came.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np

from arch.spec import Problem, Spec, above, at_least, between, one_of
from train.optim.batch_warmup import BatchWarmup
from train.optim.schedules import FALLEN, Multiplier, Schedule, Shape


@dataclasses.dataclass(frozen=True)
class Phase(Spec):
    """`tokens` on the way to the multiplier `to`, in a `shape`; one that is there already stays.

    Attributes:
      tokens: T.
      to: the multiplier of the last update.
      shape: of the way: "linear", "cosine", "sqrt".
    """

    tokens: float
    to: float
    shape: Shape = "linear"

    def problems(self) -> Iterator[Problem]:
        yield from above(self, 0, "tokens")
        yield from between(self, 0, 1, "to")
        yield from one_of(self, "shape", FALLEN)


def pretraining(tokens: float, warmup: float) -> tuple[Phase, ...]:
    """A warm-up to the peak and the peak to the end: a trapezoid without its fall. `warmup` is among the `tokens`."""
    return (Phase(warmup, 1.0), Phase(tokens - warmup, 1.0))


@dataclasses.dataclass(frozen=True)
class Phases(Schedule):
    """Phases in turn, from a multiplier of zero.

    Attributes:
      phases: in order.
      step_tokens: how many tokens an update of this run has, its rows times their length; where the batch warms up
        (`Run.accumulate`), the same `BatchWarmup`.
      before: tokens of `phases` that earlier runs went through.
    """

    phases: tuple[Phase, ...] = (Phase(1e6, 1.0),)
    step_tokens: int | BatchWarmup = 1
    before: float = 0.0

    def problems(self) -> Iterator[Problem]:
        yield from super().problems()
        if self.warmup:
            yield Problem("warmup", self.warmup, "must be a phase: Phase(tokens, 1.0)")
        if not self.phases:
            yield Problem("phases", self.phases, "must hold at least one Phase")
        if not isinstance(self.step_tokens, BatchWarmup):
            yield from at_least(self, 1, "step_tokens")
        yield from at_least(self, 0, "before")

    @property
    def tokens(self) -> float:
        """Of all phases together."""
        return sum(phase.tokens for phase in self.phases)

    def steps(self) -> int:
        """How many updates of this run take the phases to their end."""
        left, step = self.tokens - self.before, self.step_tokens
        return step.updates_for(left) if isinstance(step, BatchWarmup) else math.ceil(left / step)

    def build(self, steps: int) -> Multiplier:
        """The multiplier of update 0 .. steps - 1, by the tokens that have been read with it.

        Raises `SpecError` for a run that goes on after the last phase.
        """
        if steps > self.steps():
            raise self.invalid("phases", f"have tokens for {self.steps():,} updates; the run has {steps:,}")
        ends = np.cumsum([phase.tokens for phase in self.phases])
        step = self.step_tokens
        warming, step_tokens = (step, step.step_tokens) if isinstance(step, BatchWarmup) else (None, step)

        def multiplier(index: jax.typing.ArrayLike) -> jax.Array:
            at = jnp.asarray(index).astype(jnp.float32) + 1.0
            at = at if warming is None else warming.steps_read(at)
            value, start = jnp.zeros_like(at), 0.0
            for phase, end in zip(self.phases, ends, strict=True):
                # In whole steps of this run, not in tokens, of which float32 cannot count trillions one by one.
                first, last = ((float(tokens) - self.before) / step_tokens for tokens in (end - phase.tokens, end))
                left = 1.0 - FALLEN[phase.shape](jnp.clip((at - first) / (last - first), 0.0, 1.0))
                value = jnp.where(at > first, phase.to + (start - phase.to) * left, value)
                start = phase.to
            return value

        return multiplier

    def after_warmup(self, peak, steps):
        raise TypeError("Phases have no warm-up apart")
