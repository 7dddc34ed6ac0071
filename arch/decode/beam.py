"""Beam search with length normalisation, coverage and pruning (GNMT, arXiv 1609.08144, section 7).

    s(Y, X) = log P(Y | X) / lp(Y) + cp(X; Y),   lp(Y) = ((5 + |Y|) / 6)^alpha           (eq. 14)
    cp(X; Y) = beta * sum_t log(min(sum_j p_{t,j}, 1))                                  over the tokens t of the source

|Y| counts the token that ends Y. Hypotheses grow by raw log-probability; s ranks those that have ended, which are kept
beside the beam, and at the end those that had no room to end. An end counts where it is among the `width` best
candidates, so that a beam of one is greedy decoding.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from arch.decode.strategy import Choice, Outcome, Strategy
from arch.spec import Problem, Spec, UserError, above, at_least

NEVER = -1e30
"""Score of what is not to be chosen: finite, so that differences are."""

UNSEEN = 1e-9
"""Attention that a token of the source is taken to have at least, so that cp stays finite."""


@dataclasses.dataclass(frozen=True)
class Coverage(Spec):
    """The penalty on tokens of the source that were not attended to.

    Attributes:
      beta: its weight.
      site: regular expression of the tap sites of the attention that is added up, patterns [..., T, S]: their mean over
        heads, and over layers where there are several. GNMT has one head; for transformers this is an extension.
    """

    beta: float = 0.2
    site: str = r".*cross\.attn\.pattern"

    def problems(self) -> Iterator[Problem]:
        yield from at_least(self, 0, "beta")

    def added(self, taps: Mapping[str, Any]) -> Float[Array, "R S"]:
        """How much the newest token attends to each of the source."""
        saved = jax.tree.leaves(dict(taps))
        means = [jnp.mean(x[..., -1, :], axis=tuple(i for i in range(x.ndim - 1) if i not in (x.ndim - 4, x.ndim - 2)))
                 for x in saved]  # fmt: skip
        return sum(means[1:], means[0]) / len(means)

    def penalty(self, coverage: Float[Array, "R S"], there: Float[Array, "R S"]) -> Float[Array, "R"]:
        """cp of each row; `there` is 1 where the source is no padding."""
        return self.beta * jnp.sum(there * jnp.log(jnp.clip(coverage, UNSEEN, 1.0)), axis=-1)


class Kept(NamedTuple):
    """Hypotheses, rows first: tokens and log-probabilities [R, new], tokens written [R], s [R]."""

    tokens: jax.Array
    log_p: jax.Array
    written: jax.Array
    s: jax.Array


class Beams(NamedTuple):
    """The beam: its hypotheses (whose `s` is their raw log-probability), those that ended, and what is added up of the
    source [R, S], with where it is no padding."""

    live: Kept
    ended: Kept
    coverage: jax.Array
    there: jax.Array


@dataclasses.dataclass(frozen=True)
class Beam(Strategy):
    """Beam search.

    Attributes:
      width: hypotheses of each prompt.
      length_penalty: alpha; 0: none.
      coverage: the penalty on what was not read of the source, or None.
      prune: nats. A token that is further below the best one of its hypothesis is not tried; a hypothesis whose s, at
        its present length, is further below the best ended one's is given up. 3.0 in GNMT; None: nothing is pruned.
    """

    width: int = 4
    length_penalty: float = 0.0
    coverage: Coverage | None = None
    prune: float | None = None

    def problems(self) -> Iterator[Problem]:
        yield from at_least(self, 1, "width")
        yield from at_least(self, 0, "length_penalty")
        yield from above(self, 0, "prune")

    @property
    def rows(self):
        return self.width

    @property
    def watch(self):
        return "" if self.coverage is None else self.coverage.site

    def init(self, prompt):
        R = prompt.tokens.shape[0]
        if self.coverage is not None and prompt.source is None:
            raise UserError("Beam(coverage=...): there is no source to cover; leave it out")
        there = jnp.zeros((R, 0))
        if self.coverage is not None and prompt.source is not None:
            tokens, segments = prompt.source.tokens, prompt.source.segments
            there = jnp.ones(tokens.shape) if segments is None else (segments > 0).astype(jnp.float32)
        first = jnp.arange(R) % self.width == 0  # the rows of a prompt are alike at first: one stands for all
        nothing = Kept(
            jnp.zeros((R, prompt.new), jnp.int32),
            jnp.zeros((R, prompt.new)),
            jnp.zeros(R, jnp.int32),
            jnp.full((R,), NEVER),
        )
        return Beams(nothing._replace(s=jnp.where(first, 0.0, NEVER)), nothing, jnp.zeros_like(there), there)

    def next(self, state, seen, key):
        W, live = self.width, state.live
        log_p = jax.nn.log_softmax(seen.logits[:, -1].astype(jnp.float32), axis=-1)
        R, V = log_p.shape
        B, new = R // W, live.tokens.shape[1]
        coverage = state.coverage if self.coverage is None else state.coverage + self.coverage.added(seen.taps)
        if self.prune is not None:
            log_p = jnp.where(log_p < jnp.max(log_p, axis=-1, keepdims=True) - self.prune, NEVER, log_p)

        # The 2 W best candidates of each prompt: at most W of them end, so that W others are left to go on.
        many = min(2 * W, W * V)
        total = (live.s[:, None] + log_p).reshape(B, W * V)
        scores_BC, places_BC = jax.lax.top_k(total, many)
        first = W * jnp.arange(B, dtype=jnp.int32)[:, None]
        parents_BC = first + (places_BC // V).astype(jnp.int32)
        tokens_BC = (places_BC % V).astype(jnp.int32)

        at = jnp.minimum(live.written[parents_BC.reshape(-1)], new - 1)
        step = jnp.take_along_axis(log_p.reshape(B, W * V), places_BC, axis=1).reshape(-1)
        put = jax.vmap(lambda row, value, at: row.at[at].set(value))
        flat = parents_BC.reshape(-1)
        grown = Kept(
            put(live.tokens[flat], tokens_BC.reshape(-1), at), put(live.log_p[flat], step, at), at + 1,
            scores_BC.reshape(-1),
        )  # fmt: skip

        ends = (tokens_BC == seen.stop) & (jnp.arange(many)[None] < W)
        ranked = self._s(grown.s, grown.written, coverage[flat], state.there[flat]).reshape(B, many)
        candidates = grown._replace(s=jnp.where(ends & (scores_BC > NEVER / 2), ranked, NEVER).reshape(-1))
        ended = _best(_side_by_side(state.ended, candidates, B), W)

        goes_on = jnp.where(tokens_BC == seen.stop, 2 * NEVER, scores_BC)
        if self.prune is not None:
            best = jnp.max(ended.s.reshape(B, W), axis=1, keepdims=True)
            goes_on = jnp.where(ranked < best - self.prune, 2 * NEVER, goes_on)
        kept_s, order = jax.lax.top_k(goes_on, W)
        rows = (many * jnp.arange(B, dtype=jnp.int32)[:, None] + order.astype(jnp.int32)).reshape(-1)
        next_live = Kept(*(leaf[rows] for leaf in grown))._replace(s=jnp.maximum(kept_s.reshape(-1), 4 * NEVER))
        parents = flat[rows]
        after = Beams(next_live, ended, coverage[parents], state.there[parents])
        chosen = tokens_BC.reshape(-1)[rows]
        done = self._settled(after, B, new)
        return after, Choice(chosen[:, None], step[rows][:, None], parents=parents, done=done)

    def outcome(self, state):
        live, W = state.live, self.width
        B = live.s.shape[0] // W
        full = live.written >= live.tokens.shape[1]
        s = self._s(live.s, live.written, state.coverage, state.there)
        last = live._replace(s=jnp.where(full & (live.s > NEVER / 2), s, NEVER))
        best = _best(_side_by_side(state.ended, last, B), W)
        return Outcome(best.tokens, best.log_p, best.written, best.s)

    def _s(self, log_p: jax.Array, written: jax.Array, coverage: jax.Array, there: jax.Array) -> jax.Array:
        """s(Y, X) of hypotheses."""
        s = log_p / self._lp(written)
        return s if self.coverage is None else s + self.coverage.penalty(coverage, there)

    def _lp(self, length: jax.Array | int) -> jax.Array:
        return ((5.0 + jnp.asarray(length, jnp.float32)) / 6.0) ** self.length_penalty

    def _settled(self, state: Beams, B: int, new: int) -> jax.Array:
        """Which rows' prompts are decided: no hypothesis can still beat the best that has ended, since log P only
        falls, lp is at most that of the full length, and cp at most 0."""
        most = jnp.max((state.live.s / self._lp(new)).reshape(B, -1), axis=1)
        return jnp.repeat(jnp.max(state.ended.s.reshape(B, -1), axis=1) >= most, self.width)


def _side_by_side(one: Kept, other: Kept, B: int) -> Kept:
    """The hypotheses of both, [B, rows, ...]."""
    joined = [jnp.concatenate([a.reshape(B, -1, *a.shape[1:]), b.reshape(B, -1, *b.shape[1:])], axis=1)
              for a, b in zip(one, other, strict=True)]  # fmt: skip
    return Kept(*joined)


def _best(those: Kept, width: int) -> Kept:
    """The `width` of highest s for each prompt, rows one after another."""
    s, order = jax.lax.top_k(those.s, width)
    take = lambda leaf: jax.vmap(lambda x, at: x[at])(leaf, order).reshape(-1, *leaf.shape[2:])  # noqa: E731
    return Kept(take(those.tokens), take(those.log_p), take(those.written), s.reshape(-1))
