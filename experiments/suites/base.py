"""Scores: what a trained model can do, measured in the same way for encoders, decoders and pairs of both.

A score reads rows of one split of the run's own data, in tokens, and returns numbers by name. It says which kinds of
model it can be taken of; each family has scores that are its own, some that are unfair to it, and some that are fair.
What is drawn at random (places, distractors) depends on the row alone: all models get the same.
"""

from __future__ import annotations

import abc
import dataclasses
import functools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

import jax
import numpy as np

from arch.models.base import Inputs, Output
from arch.params import merge, split
from arch.spec import Problem, Spec, UserError, at_least
from experiments.suites.exhibits import Exhibit
from train.data.base import Dataset
from train.data.baselines import Baseline
from train.run import Run
from train.trained import TrainedRun

Rows = Mapping[str, np.ndarray]


def first(dataset: Dataset, split: str, rows: int) -> Rows:
    """The first rows of a split, `rows` at most."""
    there = dataset.rows[split]
    return there.gather(np.arange(min(rows, len(there))))


class Asked:
    """A trained model to be scored, on some rows of its data.

    Args:
      opened: the model.
      split: of its data.
      rows: how many of the rows of the split, from the first on, at most.
      batch: rows of a call.
      curve: metrics along its training, each line with "step", where they are known.
    """

    def __init__(
        self, opened: TrainedRun, split: str, rows: int, batch: int = 32, curve: Sequence[Mapping[str, float]] = ()
    ):
        self.opened, self.split, self.batch, self.curve = opened, split, batch, curve
        self.rows = first(opened.dataset, split, rows)

    @property
    def run(self) -> Run:
        return self.opened.program.run

    @property
    def mask(self) -> int:
        """The token that hides one, as the model was trained with."""
        found = self.run.objective.mask_token(self.opened.dataset.description)
        if found is None:
            raise UserError(f"{type(self.run.objective).__name__} hides no tokens: there is no mask to score with")
        return found

    def outputs(self, inputs: Inputs, network: Any = None) -> Iterator[tuple[slice, Output]]:
        """The output of the model, or of another `network`, on each `batch` of rows, on the host: (rows, output)."""
        count, parts = len(jax.tree.leaves(inputs)[0]), split(self.opened.model if network is None else network)
        for start in range(0, count, self.batch):
            which = slice(start, min(start + self.batch, count))
            missing = self.batch - (which.stop - which.start)
            part = jax.tree.map(lambda x: np.pad(x[which], [(0, missing)] + [(0, 0)] * (x.ndim - 1)), inputs)  # noqa: B023
            out = jax.device_get(_output(*parts, part))
            yield which, jax.tree.map(lambda x: x[: which.stop - which.start], out)  # noqa: B023


@functools.partial(jax.jit, static_argnums=0)
def _output(graphdef: Any, params: Any, buffers: Any, inputs: Inputs) -> Output:
    """Compiled once for all models of one shape."""
    out: Output = merge(graphdef, params, buffers)(inputs)
    return dataclasses.replace(out, cache=None, losses={}, metrics={}, statistics={})


@dataclasses.dataclass(frozen=True)
class Score(Spec, abc.ABC):
    """A measure of a trained model. `rows` of the split are scored, at most."""

    kinds: ClassVar[tuple[type, ...]] = ()
    """The kinds of model, of those in `arch.models.base`, that it can be taken of."""

    rows: int = 256

    def problems(self) -> Iterator[Problem]:
        yield from at_least(self, 1, "rows")

    def refusal(self, run: Run) -> str:
        """Why a model of `run` cannot be scored so, in one line; "" if it can."""
        if isinstance(run.model, self.kinds):
            return ""
        kinds = " or ".join(kind.__name__ for kind in self.kinds)
        return f"{type(self).__name__} scores models that are {kinds}; {type(run.model).__name__} is none"

    @abc.abstractmethod
    def measure(self, asked: Asked) -> dict[str, float]:
        """Name -> value."""

    def baselines(self, dataset: Dataset, split: str) -> tuple[Baseline, ...]:
        """What models that learn nothing reach on the same rows, in the names of `measure`; none here."""
        return ()

    def show(self, asked: Asked) -> Iterator[Exhibit]:
        """What the report shows of it beside the numbers; nothing by default."""
        return iter(())


def score(
    scores: tuple[Score, ...], opened: TrainedRun, split: str, curve: Sequence[Mapping[str, float]] = ()
) -> dict[str, float]:
    """All of `scores` of a model on one split; `curve` as in `Asked`.

    Raises:
      UserError: one that cannot be taken of this model; before any is.
    """
    for one in scores:
        why = one.refusal(opened.program.run)
        if why:
            raise UserError(f"suite: {why}")
    found: dict[str, float] = {}
    for one in scores:
        for name, value in one.measure(Asked(opened, split, one.rows, curve=curve)).items():
            if name in found:
                raise UserError(f"suite: two scores are called {name}")
            found[name] = value
    return found


def exhibits(
    scores: tuple[Score, ...], opened: TrainedRun, split: str, curve: Sequence[Mapping[str, float]] = ()
) -> list[Exhibit]:
    """What all of `scores` show of a model. Raises UserError for two of one title."""
    found = [shown for one in scores for shown in one.show(Asked(opened, split, one.rows, curve=curve))]
    titles = [one.title for one in found]
    for title in titles:
        if titles.count(title) > 1:
            raise UserError(f"suite: two exhibits are called {title}")
    return found
