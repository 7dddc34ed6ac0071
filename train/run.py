"""A run: one model, trained on one data set towards one objective. What `get_config` of an experiment returns."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from typing import Any, Literal, get_args

import jax

from arch.cost import abstract
from arch.models.base import Causal, Model, Seq2Seq
from arch.params import Buffer, metadata
from arch.spec import COUNTED, Problem, Spec, SpecError, at_least, at_most, no_text, one_of
from train.data.base import LARGEST_SEED, Data
from train.data.description import Description
from train.objectives.base import Objective
from train.objectives.next_token import NextToken
from train.optim.batch_warmup import BatchWarmup
from train.optim.optimizers import AdamW, Optimizer
from train.optim.phases import Phases
from train.row_lengths import too_long
from train.sharding.axes import NAMES, misfits
from train.sharding.mesh import Mesh
from train.starts.start import Start

Precision = Literal["float32", "bfloat16"]


LONGEST = 2**26
"""Tokens of a row. The scores of longer ones are more bytes than 64 bits count, which ends XLA without a word."""


@dataclasses.dataclass(frozen=True)
class Logging(Spec):
    """What a run writes down and how often, in steps; 0: only at the end.

    Attributes:
      log: metrics of a training step.
      evaluate: metrics of the validation split and of further sets; the test split is evaluated at the end alone.
      checkpoint: the whole state, for resuming.
      keep: how many checkpoints are kept.
      prompt: text that the trained model continues at the end; None: no sample.
    """

    log: int = 10
    evaluate: int = 200
    checkpoint: int = 500
    keep: int = 2
    prompt: str | None = None

    def problems(self) -> Iterator[Problem]:
        yield from at_least(self, 0, "log", "evaluate", "checkpoint")
        yield from at_least(self, 1, "keep")
        if self.prompt is not None and (why := no_text(self.prompt)):
            yield Problem("prompt", self.prompt, why)


@dataclasses.dataclass(frozen=True)
class Run(Spec):
    """Trains `model` on `data`.

    Attributes:
      model: the network.
      data: what it reads.
      objective: what it is trained to do.
      optimizer: how it learns.
      batch: rows a step, over all devices and micro-batches.
      steps: updates.
      accumulate: micro-batches that a step is cut into; `BatchWarmup`: of which the first updates take few.
      seed: of parameters, data order and dropout.
      precision: type of the computation; parameters, their updates, softmax and loss stay float32. "float32" is
        multiplied whole on CPUs, in TF32 on GPUs and in one bfloat16 pass on TPUs, unless
        JAX_DEFAULT_MATMUL_PRECISION=highest.
      mesh: how devices are laid out.
      logging: what is written down and when.
      start: what the parameters begin as; None: fresh ones.
    """

    model: Model
    data: Data
    objective: Objective = NextToken()
    optimizer: Optimizer = AdamW()
    batch: int = 32
    steps: int = 1000
    accumulate: int | BatchWarmup = 1
    seed: int = 0
    precision: Precision = "float32"
    mesh: Mesh = Mesh()
    logging: Logging = Logging()
    start: Start | None = None

    def problems(self) -> Iterator[Problem]:
        yield from at_least(self, 1, "batch", "steps")
        yield from at_most(self, COUNTED, "batch", "steps")
        if not isinstance(self.accumulate, BatchWarmup):
            yield from at_least(self, 1, "accumulate")
        yield from at_least(self, 0, "seed")
        if self.seed > LARGEST_SEED:
            yield Problem("seed", self.seed, f"must be at most {LARGEST_SEED}: random keys are made of 32 bits of it")
        yield from one_of(self, "precision", get_args(Precision))
        if self.micro_batches > 0 and self.batch % self.micro_batches:
            yield Problem("batch", self.batch, f"must be a multiple of accumulate={self.micro_batches}")
        if isinstance(schedule := self.optimizer.schedule, Phases):
            clocks = [one if isinstance(one, BatchWarmup) else None for one in (schedule.step_tokens, self.accumulate)]
            if clocks[0] != clocks[1]:
                allowed = (
                    "must be the BatchWarmup of accumulate, or a number where that is one: phases go by tokens read"
                )
                yield Problem("optimizer.schedule.step_tokens", schedule.step_tokens, allowed)

    @property
    def micro_batches(self) -> int:
        """How many micro-batches a whole step is cut into."""
        return self.accumulate.most if isinstance(self.accumulate, BatchWarmup) else self.accumulate

    def conflicts(self, device_count: int | None = None) -> Iterator[SpecError]:
        """What is wrong between parts that are each right by themselves: widths and heads, batch and devices.

        `device_count` is of the devices to run on; None: all there are.
        """
        network = None
        try:
            network = self.abstract_model()
        except SpecError as error:
            yield error
        try:
            wrong = [*self.data.conflicts(), *self._unfit(self.data.describe())]
            yield from wrong or too_long(self, network, self.data.describe())
        except SpecError as error:
            yield error
        yield from self._undivided(device_count or jax.device_count(), network)

    def _unfit(self, data: Description) -> Iterator[SpecError]:
        """What the data, as far as it is known before it is built, does not allow."""
        for name, (shape, _) in data.batch(self.batch).items():
            if (count := math.prod(shape)) > COUNTED or (len(shape) == 2 and shape[1] > LONGEST):
                allowed = f"rows of {name} are {count:,} numbers; at most {COUNTED:,}, and {LONGEST:,} in each"
                yield self.invalid("batch", allowed)
        yield from self.objective.unfit(self.model, data)
        demands = self.objective.demands
        if demands and not isinstance(self.model, demands):
            kinds = " or ".join(kind.__name__ for kind in demands)
            yield self.invalid("model", f"must be {kinds} (arch.models.base) for {type(self.objective).__name__}")
        if self.logging.prompt is not None and (why := self._not_continued(data)):
            yield self.logging.invalid("prompt", f"{why}; leave it out")

    def _undivided(self, device_count: int, network: Any) -> Iterator[SpecError]:
        """What the mesh on `device_count` devices does not divide: the batch, and parameters of `network`, if any."""
        try:
            sizes = dict(zip(NAMES, self.mesh.shape(device_count), strict=True))
        except SpecError as error:
            yield error
            return
        parts = sizes["data"] * sizes["fsdp"]
        if self.batch % (self.micro_batches * parts):
            whole = f"accumulate * mesh.data * mesh.fsdp = {self.micro_batches} * {sizes['data']} * {sizes['fsdp']}"
            yield self.invalid("batch", f"must be a multiple of {whole} = {self.micro_batches * parts}")
        processes = jax.process_count()
        if processes > 1 and sizes["replica"] > 1:
            yield self.mesh.invalid(
                "replica", f"must be 1 with {processes} processes: each has rows of its own, for all"
            )
        if parts % processes:
            allowed = f"leaves data * fsdp = {parts}, which the {processes} processes must divide"
            yield self.mesh.invalid("tensor", allowed)
        arrays = {} if network is None else {**metadata(network), **metadata(network, Buffer)}
        for path, row in arrays.items():
            for problem in misfits(path, row["axes"], row["shape"], sizes):
                yield SpecError(self.mesh, [problem])

    def _not_continued(self, data: Description) -> str:
        """Why a prompt cannot be continued; "" if it can."""
        if not data.text:
            return f"{type(self.data).__name__} is no running text that a prompt can be continued in"
        if isinstance(self.model, Seq2Seq):
            return f"{type(self.model).__name__} continues a source"
        return "" if isinstance(self.model, Causal) else f"{type(self.model).__name__} is not causal, continues nothing"

    def abstract_model(self) -> Any:
        """The model with shapes in place of arrays."""
        return abstract(self.model)
