"""Codebooks that start from data: centres of the vectors that a trained model has at their places (k-means).

    Run(model=with_codebooks, start=KMeansCodes(FromRun("runs/base")))
    arms={"base": ..., "codes": replace(run, model=with_codebooks, start=KMeansCodes(FromArm("base")))}

The inner start says what all else begins as. The vectors are those of the model with every bottleneck open, that is of
the model without bottlenecks. Which arrays are made of them a bottleneck says itself (`Quantizer.fitted`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from arch.bottlenecks.base import Opening
from arch.bottlenecks.from_data import codes_of
from arch.buffers import part_at, stacked
from arch.params import split
from arch.spec import Problem, UserError, at_least
from train.forward import numbered
from train.setup import prepare
from train.sharding.mesh import Mesh
from train.starts.from_arrays import FromArrays
from train.starts.layers import rearranged
from train.starts.start import KINDS, Start, begin, shapes_of
from train.step import EVALUATION


@dataclasses.dataclass(frozen=True)
class KMeansCodes(Start):
    """What `start` says, and the codes from data.

    Attributes:
      start: where the trained model comes from.
      rows: of the data, the first that the run trains on, rounded up to whole batches. Their vectors at all places
        are in memory together, on one device.
      steps: of Lloyd's algorithm.
    """

    start: Start
    rows: int = 256
    steps: int = 10

    def problems(self) -> Iterator[Problem]:
        yield from at_least(self, 1, "rows")
        yield from at_least(self, 0, "steps")

    def digest(self):
        return self.start.digest()

    def origins(self):
        return self.start.origins()  # which arrays are codes from data is known of a model alone

    def arrays(self):
        raise UserError("start: KMeansCodes makes codes of the data of a run; it cannot stand where there is none")

    def within(self, run, dataset):
        inner = self.start.within(run, dataset)
        alone = dataclasses.replace(run, mesh=Mesh(), start=None)
        program = prepare(alone, dataset.description, devices=jax.local_devices()[:1])
        module = run.model.build(rngs=nnx.Rngs(jax.random.key(run.seed)))
        state = dict(zip(KINDS, split(module)[1:], strict=True))
        state = begin(inner, state, lambda line: None)
        seen = self._seen(program, state, dataset)
        found = codes_of(program.model(state), seen, jax.random.key(run.seed), self.steps)
        if not any(found.values()):
            raise UserError("start: the model has no bottleneck whose codes are made of data; leave KMeansCodes out")
        taken = rearranged(inner.arrays(), {kind: shapes_of(state[kind]) for kind in KINDS})
        held = {kind: {**taken[kind], **jax.device_get(found[kind])} for kind in KINDS}
        return FromArrays(held, "k-means")

    def _seen(self, program: Any, state: Any, dataset: Any) -> dict[str, Any]:
        """Path of a bottleneck -> vectors and weights of all the rows."""
        forward = program.learner.forward.holding(program.frozen())

        @jax.jit
        def call(params: Any, buffers: Any, batch: Any) -> Any:
            looks = {"training": False, "tap": Opening()}
            return forward(params, buffers, numbered(batch), None, jax.random.key(EVALUATION), **looks)[1].statistics

        run = program.run
        batches = dataset.train(run.batch, run.seed)
        each = [call(state["params"], state["buffers"], next(batches)) for _ in range(-(-self.rows // run.batch))]
        model = program.model(state)
        axes = {path: stacked(part_at(model, path)) for path in each[0]}
        return {
            path: jax.tree.map(lambda *parts: jnp.concatenate(parts, axis=axes[path]), *(one[path] for one in each))  # noqa: B023
            for path in each[0]
        }
