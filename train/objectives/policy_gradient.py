"""Maximum likelihood and expected reward: O = alpha O_ML + O_RL (arXiv 1609.08144, eq. 9).

O_ML = sum_i log P(Y*_i | X_i) and O_RL = sum_i sum_Y P(Y | X_i) r(Y, Y*_i). The expectation is over sentences that the
model draws: its gradient is the mean of (r - baseline) grad log P(Y | X) (REINFORCE). Both are summed over sentences,
and what is minimised is their mean over them.

A batch is that of `SequenceToSequence`, one pair a row.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp

from arch.models.base import Inputs, Network, Output, Seq2Seq
from arch.spec import Problem, UserError, at_least, one_of
from train.objectives.base import Loss, Objective, Task
from train.objectives.continuations import continuations
from train.objectives.rewards import GLEU, Reward
from train.objectives.sequence_to_sequence import prepare as of_pair
from train.objectives.tokens import Targets, cross_entropy

Subtracted = Literal["others", "mean", "none"]


@dataclasses.dataclass(frozen=True)
class PolicyGradient(Objective):
    """The mixed objective, for a model that maximum likelihood has trained already.

    Attributes:
      alpha: weight of maximum likelihood.
      samples: m, sentences drawn of each source.
      reward: of each, against the target.
      end: the token that ends a target. None: targets have none, and a sample is as long as its target.
      baseline: what is subtracted from a reward: the mean of the source's "others"; the "mean" of all its samples, as
        the paper has it, which makes the gradient of O_RL (m - 1) / m of what it is; "none".
    """

    alpha: float = 0.017
    samples: int = 15
    reward: Reward = GLEU()
    end: int | None = None
    baseline: Subtracted = "others"

    demands: ClassVar[tuple[type, ...]] = (Seq2Seq,)
    unit: ClassVar[Literal["tokens", "rows"]] = "tokens"

    def problems(self) -> Iterator[Problem]:
        yield from at_least(self, 0, "alpha", "end")
        yield from at_least(self, 2 if self.baseline == "others" else 1, "samples")
        yield from one_of(self, "baseline", get_args(Subtracted))

    def build(self, description):
        return Task(prepare, self.loss, draw=self.draw)

    def draw(self, model: Network, inputs: Inputs, targets: Targets, keys: jax.Array) -> tuple[Inputs, Drawn]:
        """Each row becomes 1 + m: the target, and the samples. No sample is longer than the longest target may be."""
        (B, T), m = targets.tokens.shape, self.samples
        again = lambda x: jnp.repeat(x, m, axis=0)  # noqa: E731
        own = jax.vmap(lambda key: jax.random.split(key, m))(keys).reshape(B * m)
        begin = again(inputs.tokens[:, :1])
        prompt = Inputs(tokens=begin, source=jax.tree.map(again, inputs.source))
        tokens = continuations(model, prompt, T, own)
        weights, lengths = self.read(tokens, again(targets.weights))
        wanted = jnp.sum((targets.weights > 0) & (targets.tokens != self.stop), axis=1, dtype=jnp.int32)
        rewards = self.reward(tokens, lengths, again(targets.tokens), again(wanted))
        rewards = rewards.reshape(B, m)

        def together(first: jax.Array, samples: jax.Array) -> jax.Array:
            rows = jnp.concatenate([first[:, None], samples.reshape(B, m, *first.shape[1:])], axis=1)
            return rows.reshape(B * (1 + m), *first.shape[1:])

        seen = weights.astype(jnp.int32)
        read = Inputs(
            tokens=together(inputs.tokens, jnp.concatenate([begin, tokens[:, :-1]], axis=1)),
            segments=together(inputs.segments, seen),
            source=jax.tree.map(lambda x: jnp.repeat(x, 1 + m, axis=0), inputs.source),
        )
        factors = together(jnp.full((B,), self.alpha, jnp.float32), self.advantages(rewards) / m)
        there = jnp.any(targets.weights > 0, axis=1).astype(jnp.float32)
        drawn = Drawn(together(targets.tokens, tokens), together(targets.weights, weights), factors, rewards, there)
        return read, drawn

    @property
    def stop(self) -> int:
        """The end token; none: a number that no token has."""
        return -1 if self.end is None else self.end

    def read(self, tokens: jax.Array, real: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Of samples [R, T]: the weights of their tokens, the end token's too, and their lengths without it. `real`:
        the weights of the target's tokens."""
        ends = tokens == self.stop
        before = jnp.cumsum(ends, axis=1) - ends.astype(jnp.int32)
        there = real > 0 if self.end is None else (before == 0) & jnp.any(real > 0, axis=1, keepdims=True)
        return there.astype(jnp.float32), jnp.sum(there & ~ends, axis=1, dtype=jnp.int32)

    def advantages(self, rewards_Bm: jax.Array) -> jax.Array:
        """Rewards less the baseline."""
        if self.baseline == "none":
            return rewards_Bm
        advantages = rewards_Bm - jnp.mean(rewards_Bm, axis=1, keepdims=True)
        return advantages * (self.samples / (self.samples - 1)) if self.baseline == "others" else advantages

    def loss(self, output: Output, drawn: Drawn) -> Loss:
        """The sums over all pairs: -log P of targets and samples, each with its factor."""
        nats, _ = cross_entropy(output.logits, drawn.tokens)
        rows = jnp.sum(nats * drawn.weights, axis=1)
        first = slice(None, None, 1 + self.samples)
        sums = {
            "nats": jnp.sum(rows[first]),
            "targets": jnp.sum(drawn.weights[first]),
            "reward": jnp.sum(jnp.mean(drawn.rewards, axis=1) * drawn.there),
            "pairs": jnp.sum(drawn.there),
        }
        return Loss(jnp.sum(rows * drawn.factors), sums["pairs"], sums)

    def metrics(self, loss):
        nats, reward = loss.sums["nats"], loss.sums["reward"]
        told = {"loss": nats / jnp.maximum(loss.sums["targets"], 1.0)}
        return {**told, "reward": reward / jnp.maximum(loss.sums["pairs"], 1.0)}


class Drawn(NamedTuple):
    """Of B pairs and their samples, R = B (1 + m) rows.

    Attributes:
      tokens, weights: [R, T], what is predicted.
      factors: float32 [R], what -log P of each row is multiplied by.
      rewards: float32 [B, m].
      there: float32 [B], 0 for rows that fill up a batch.
    """

    tokens: jax.Array
    weights: jax.Array
    factors: jax.Array
    rewards: jax.Array
    there: jax.Array


def prepare(batch: Mapping[str, jax.Array], keys: jax.Array) -> tuple[Inputs, Any]:
    """The pairs, as `SequenceToSequence` has them. Raises UserError for rows of several pairs."""
    if "positions" in batch:
        raise UserError("PolicyGradient draws one sentence a row: the data must not pack several pairs into one")
    return of_pair(batch, keys)
