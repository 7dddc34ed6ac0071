"""The loop of decoding: one compiled program over a cache, for every strategy and every causal model.

Prompts are padded on the left to one length, so that one call fills the cache for all rows; padding is segment 0
and is never attended to, and positions count from each row's own first token.
"""

from __future__ import annotations

import dataclasses
import re
from functools import partial
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp

from arch.decode.strategy import Choice, Outcome, Prompt, Seen, Strategy
from arch.models.base import Cache, Inputs, Output
from arch.params import merge
from arch.sharding import platform
from arch.stacks.apart import FEW
from arch.taps import Tap


class Run(NamedTuple):
    """Where a decoding is: `written` [B] tokens are in `out` [B, new + ahead], `feed` [B, ahead] comes next."""

    turn: jax.Array
    written: jax.Array
    done: jax.Array
    out: jax.Array
    scores: jax.Array
    feed: jax.Array
    cache: Cache
    state: Any


@partial(jax.jit, static_argnums=(0, 1, 2))
def decode(
    graphdef: Any,
    strategy: Strategy,
    new: int,
    params: Any,
    buffers: Any,
    tokens_BP: jax.Array,
    lengths_B: jax.Array,
    source: Inputs | None,
    key: jax.Array,
    stop: jax.Array,
    prefix: jax.Array | None = None,
) -> Outcome:
    """What was written after each prompt, or the strategy's own outcome.

    Ends early once every row has stopped. Each prompt's rows come one after another. A prompt, and the source of an
    encoder-decoder, is read once for all of them, unless the strategy watches or edits sites: what is there is by row.
    `prefix` is that of the prompts, bool [B, P] (`Inputs.prefix`).
    """
    model = merge(graphdef, params, buffers)
    prompts = tokens_BP.shape[0]
    rows = jnp.repeat(jnp.arange(prompts, dtype=jnp.int32), strategy.rows)

    def spread(tree: Any) -> Any:
        return jax.tree.map(lambda x: x[rows] if x.shape[0] == prompts else x, tree)

    edits = strategy.edits(prompts)
    by_row = bool(strategy.watch or edits)
    if by_row:
        tokens_BP, lengths_B, source, prefix = spread((tokens_BP, lengths_B, source, prefix))
    B, P = tokens_BP.shape
    padding_B1 = (P - lengths_B)[:, None]
    places_BP = jnp.arange(P, dtype=jnp.int32)[None]
    segments = (places_BP >= padding_B1).astype(jnp.int32)
    positions = jnp.maximum(places_BP - padding_B1, 0)
    ahead, room = strategy.ahead, P + new + strategy.ahead
    dtype = jax.tree.leaves(params)[0].dtype
    cache = model.init_cache(B, room, dtype, snapshots=ahead if ahead > 1 else 0)
    tap = Tap(save=strategy.watch, edit=edits) if by_row else None
    later = tap and dataclasses.replace(tap, strict=False)  # what an encoder has is met by the first call alone
    prompt = Inputs(tokens=tokens_BP, positions=positions, segments=segments, source=source, prefix=prefix)
    if edits:
        see = Tap(save="|".join(map(re.escape, edits)))
        strategy.check(jax.eval_shape(lambda: model(prompt, cache=cache, tap=see, last=1).taps))
    first = model(prompt, cache=cache, tap=tap, last=1)
    last = dataclasses.replace(first, logits=first.logits[:, -1:])
    if strategy.rows > 1 and not by_row:
        tokens_BP, lengths_B, padding_B1, source = spread((tokens_BP, lengths_B, padding_B1, source))
        last = dataclasses.replace(last, logits=last.logits[rows], cache=cast(Cache, last.cache).reordered(rows))
        B = B * strategy.rows

    if platform() == "cpu" and ahead <= FEW:
        last = dataclasses.replace(last, cache=model.apart(cast(Cache, last.cache)))

    def turn(run: Run, fed: jax.Array, output: Output) -> Run:
        seen = Seen(fed, output.logits, run.done, stop, output.taps)
        state, choice = strategy.next(run.state, seen, jax.random.fold_in(key, run.turn))
        return _written(run._replace(state=state, cache=cast(Cache, output.cache)), choice, fed.shape[1], new, stop)

    def unfinished(run: Run) -> jax.Array:
        return (run.turn < new) & ~jnp.all(run.done)

    def advance(run: Run) -> Run:
        at = run.cache.index[:, None] + jnp.arange(ahead, dtype=jnp.int32)[None] - padding_B1
        return turn(run, run.feed, model(Inputs(tokens=run.feed, positions=at), cache=run.cache, tap=later))

    start = Run(
        turn=jnp.int32(0),
        written=jnp.zeros(B, jnp.int32),
        done=jnp.zeros(B, bool),
        out=jnp.full((B, new + ahead), stop, jnp.int32),
        scores=jnp.zeros((B, new + ahead), jnp.float32),
        feed=jnp.zeros((B, ahead), jnp.int32),
        cache=last.cache,
        state=strategy.init(Prompt(tokens_BP, lengths_B, source, new)),
    )
    run = jax.lax.while_loop(unfinished, advance, turn(start, tokens_BP[:, -1:], last))
    kept = strategy.outcome(run.state)
    if kept is not None:
        return kept
    return Outcome(run.out[:, :new], run.scores[:, :new], jnp.minimum(run.written, new), jnp.zeros(B, jnp.float32))


def _written(run: Run, choice: Choice, fed: int, new: int, stop: jax.Array) -> Run:
    """`run` with what was chosen entered: rows in their new places, tokens in the output, the cache taken back."""
    written, done, out, scores, cache = run.written, run.done, run.out, run.scores, run.cache
    if choice.kept is not None:
        cache = cache.rewound(cache.index - jnp.int32(fed) + choice.kept)
    if choice.parents is not None:
        written, done, out, scores = (jnp.take(x, choice.parents, axis=0) for x in (written, done, out, scores))
        cache = cache.reordered(choice.parents)
    n = choice.tokens.shape[1]
    ended = jnp.zeros((), bool) if choice.done is None else choice.done
    count = jnp.full(written.shape, n, jnp.int32) if choice.counts is None else choice.counts
    count = jnp.where(done, 0, jnp.minimum(count, new - written))
    places = jnp.arange(n, dtype=jnp.int32)[None]
    stops = (choice.tokens == stop) & (places < count[:, None])
    first_stop = jnp.min(jnp.where(stops, places, jnp.int32(n)), axis=1)
    count = jnp.minimum(count, first_stop + 1)
    fresh = places < count[:, None]

    def put(row: jax.Array, values: jax.Array, keep: jax.Array, at: jax.Array) -> jax.Array:
        old = jax.lax.dynamic_slice_in_dim(row, at, n)
        return jax.lax.dynamic_update_slice_in_dim(row, jnp.where(keep, values, old), at, axis=0)

    return Run(
        turn=run.turn + 1,
        written=written + count,
        done=done | (first_stop < n) & jnp.any(stops, axis=1) | (written + count >= new) | ended,
        out=jax.vmap(put)(out, choice.tokens, fresh, written),
        scores=jax.vmap(put)(scores, choice.scores, fresh, written),
        feed=_feed(choice, run.feed.shape[1]),
        cache=cache,
        state=run.state,
    )


def _feed(choice: Choice, ahead: int) -> jax.Array:
    feed = choice.tokens if choice.feed is None else choice.feed
    return jnp.broadcast_to(feed, (feed.shape[0], ahead)) if feed.shape[1] != ahead else feed
