"""Distillation: a student learns the distribution of a frozen teacher at every target (arXiv 1503.02531).

    L = alpha * mean over targets of D(p_teacher | p_student) + (1 - alpha) * the student's own loss

Teacher and student may be of different kinds, as in distillation across architectures (arXiv 2501.16273): each reads
the batch as its own objective has it, a decoder-only teacher source and target in one row, an encoder-decoder student
as two. The j-th target of a row is the same token for both (`Objective.same_targets`; others are refused), and there
their distributions are compared. Vocabularies of unequal size are cut to the smaller one before the softmax.

The prefixes y_<t after which they are compared are those of the data, or are written by the student or the teacher
(`prefix_sources.py`), while the student's own loss stays that of the data (arXiv 2501.16273, released code):

    L = alpha * mean over sources x of 1/|y| sum_t D(p_teacher(. | y_<t, x) | p_student(. | y_<t, x)),  y ~ the writer
        + (1 - alpha) * the student's own loss

with the mean over a sentence's own steps as in GKD (arXiv 2306.13649, section 3), y held fixed: no gradient goes
through the writing.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from arch.answers import Sum
from arch.models.base import Output
from arch.spec import Problem, above, between, one_of
from train.objectives.base import Objective, Task
from train.objectives.divergences import Divergence, ForwardKL
from train.objectives.prefix_sources import GoldPrefixes, PrefixSource, WrittenPrefixes
from train.objectives.sequence_to_sequence import SequenceToSequence
from train.objectives.tokens import Targets
from train.starts.frozen import Pretrained


class Taught(NamedTuple):
    """What a batch of B rows teaches.

    Attributes:
      own: the student's own targets.
      logits: [B, T, V], the teacher's where the student's steps are.
      weights: float32 [B, T], of D at each step.
      counts: float32 [B], what each row adds to what the sum of D is divided by; it depends on the batch alone.
    """

    own: Targets
    logits: jax.Array
    weights: jax.Array
    counts: jax.Array


class Unwritten(NamedTuple):
    """The student's own targets, and the batch whose targets are to be written."""

    own: Targets
    batch: Mapping[str, jax.Array]


@dataclasses.dataclass(frozen=True)
class Distill(Objective):
    """Trains a student by a frozen teacher.

    The metrics are those of `objective`; `loss/distillation` is alpha times the mean divergence, nats a target.

    Attributes:
      teacher: a model and where its parameters come from.
      objective: how the student reads a batch, and its own loss; an objective over tokens.
      reads: how the teacher reads the same batch; None: as the student.
      prefixes: after what both are compared; written ones need pairs, one a row.
      divergence: D.
      alpha: the share of the divergence.
      temperature: what logits are divided by in D, which is multiplied by its square (arXiv 1503.02531, section 2).
      compat: "unmasked": D is averaged over all B * T steps, padding too, as in the released code of arXiv 2501.16273.
    """

    teacher: Pretrained
    objective: Objective = SequenceToSequence()
    reads: Objective | None = None
    prefixes: PrefixSource = GoldPrefixes()
    divergence: Divergence = ForwardKL()
    alpha: float = 0.9
    temperature: float = 1.0
    compat: Literal["paper", "unmasked"] = "paper"

    def problems(self) -> Iterator[Problem]:
        yield from between(self, 0, 1, "alpha")
        yield from above(self, 0, "temperature")
        yield from one_of(self, "compat", ("paper", "unmasked"))
        for field in ("objective", "reads"):
            one = getattr(self, field)
            if one is not None and (one.unit != "tokens" or one.frozen):
                yield Problem(field, one, "must be an objective over tokens without frozen models of its own")
            elif one is not None and self.written and not isinstance(one, SequenceToSequence):
                kind = type(self.prefixes).__name__
                allowed = f"must read pairs for {kind}: SequenceToSequence, Concatenated or PrefixConcatenated"
                yield Problem(field, one, allowed)
        if self.reads is not None and not self.objective.same_targets(self.reads):
            told = f"must have the same targets as the student's {type(self.objective).__name__}"
            yield Problem("reads", self.reads, f"{told}: the teacher tells of those, one by one")

    unit = "tokens"

    @property
    def demands(self) -> tuple[type, ...]:  # type: ignore[override]
        """The kinds of model that the student may be."""
        return self.objective.demands

    @property
    def frozen(self) -> Mapping[str, Pretrained]:
        return {"teacher": self.teacher}

    @property
    def reading(self) -> Objective:
        """How the teacher reads."""
        return self.reads or self.objective

    @property
    def written(self) -> bool:
        """Whether a model writes the prefixes."""
        return isinstance(self.prefixes, WrittenPrefixes)

    def needs(self, description):
        return self.objective.needs(description)

    def refusals(self, model):
        yield from self.objective.refusals(model)
        kinds = self.reading.demands
        if kinds and not isinstance(self.teacher.model, kinds):
            told = " or ".join(kind.__name__ for kind in kinds)
            yield self.teacher.invalid("model", f"must be {told} (arch.models.base) for {type(self.reading).__name__}")

    def unfit(self, model, description):
        yield from super().unfit(model, description)
        yield from self.reading.unfit(self.teacher.model, description)
        if self.written and "positions" in description.arrays:
            yield self.invalid("prefixes", "must be GoldPrefixes() for rows of several pairs: others write one a row")

    def build(self, description):
        student, teacher = self.objective.build(description), self.reading.build(description)
        for field, one in (("objective", student), ("reads", teacher)):
            if one.draw is not None:
                raise self.invalid(field, "must read what the data have: it draws its inputs from the model itself")

        def taught(own: Targets, batch: Any, keys: jax.Array, told: Targets, models: Any) -> Taught:
            """Of `batch`, whose targets are `told` for the student."""
            read, theirs = teacher.prepare(batch, keys)
            logits = jax.lax.stop_gradient(models["teacher"](read).logits)
            weights, counts = self.weigh(own, told)
            return Taught(own, aligned(logits, theirs.weights, told.weights), weights, counts)

        def prepare(batch: Any, keys: jax.Array, **models: Any) -> tuple[Any, Any]:
            inputs, own = student.prepare(batch, keys)
            return inputs, Unwritten(own, batch) if self.written else taught(own, batch, keys, own, models)

        def draw(model: Any, inputs: Any, left: Unwritten, keys: jax.Array, **models: Any) -> tuple[Any, Taught]:
            """Each row becomes two: the target of the data, and what was written."""
            assert isinstance(self.prefixes, WrittenPrefixes)
            writer, read = self.prefixes.writer((model, student), (models["teacher"], teacher))
            batch = self.prefixes.batch(writer, lambda b: read.prepare(b, keys), left.batch, keys, description.vocab)
            more, told = student.prepare(batch, keys)
            both = jax.tree.map(lambda a, b: jnp.stack([a, b], axis=1).reshape(-1, *a.shape[1:]), inputs, more)
            return both, taught(left.own, batch, keys, told, models)

        def loss(output: Output, targets: Taught) -> Any:
            rows = dataclasses.replace(output, logits=output.logits[:: self.prefixes.rows])
            return self.own(student.loss(rows, targets.own))

        return Task(prepare, loss, self.divergences, draw if self.written else None)

    def weigh(self, own: Targets, told: Targets) -> tuple[jax.Array, jax.Array]:
        """`Taught.weights` and `Taught.counts` of rows whose targets in the data are `own`, and `told` where D is."""
        there = (told.weights > 0).astype(jnp.float32)
        if self.compat == "unmasked":
            return jnp.ones_like(there), jnp.full(there.shape[:1], there.shape[1], jnp.float32)
        if self.written:
            count = jnp.any(own.weights > 0, axis=1).astype(jnp.float32)
            length = jnp.maximum(jnp.sum(there, axis=1, keepdims=True), 1.0)
            return there * count[:, None] / length, count
        return there, jnp.sum(there, axis=1)

    def own(self, loss: Any) -> Any:
        """The student's own loss, with its share."""
        return dataclasses.replace(loss, total=(1 - self.alpha) * loss.total)

    def divergences(self, output: Output, targets: Taught) -> dict[str, Sum]:
        """The divergence over all targets, with its share."""
        both = targets.logits, output.logits[self.prefixes.rows - 1 :: self.prefixes.rows]
        p, q = (self.log_probabilities(logits, min(x.shape[-1] for x in both)) for logits in both)
        scale = self.alpha * self.temperature**2
        total = jnp.sum(self.divergence(p, q) * targets.weights)
        return {"distillation": Sum(scale * total, jnp.sum(targets.counts))}

    def log_probabilities(self, logits: jax.Array, vocab: int) -> jax.Array:
        """log softmax of the first `vocab` logits, float32."""
        return jax.nn.log_softmax(logits[..., :vocab].astype(jnp.float32) / self.temperature, axis=-1)

    def metrics(self, loss):
        return self.objective.metrics(loss)

    def baselines(self, dataset, split):
        return self.objective.baselines(dataset, split)


def aligned(
    logits_BTV: Float[Array, "B T V"], theirs_BT: Float[Array, "B T"], own_BS: Float[Array, "B S"]
) -> Float[Array, "B S V"]:
    """The teacher's logits where the student's targets stand: at its j-th target for the student's j-th.

    `theirs` and `own` are the weights of the targets. A step of the student that is no target goes on from the target
    before it.
    """
    there = jnp.arange(own_BS.shape[1], dtype=jnp.int32)[None]
    rank = jnp.maximum(jnp.cumsum(own_BS > 0, axis=1, dtype=jnp.int32) - 1, 0)
    before = jax.lax.cummax(jnp.where(own_BS > 0, there, 0), axis=1)
    order = jnp.argsort(theirs_BT <= 0, axis=1, stable=True).astype(jnp.int32)
    place = jnp.take_along_axis(order, jnp.minimum(rank, order.shape[1] - 1), axis=1) + there - before
    place = jnp.clip(place, 0, logits_BTV.shape[1] - 1)
    return jnp.take_along_axis(logits_BTV, place[:, :, None], axis=1)
