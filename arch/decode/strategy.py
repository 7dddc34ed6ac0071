"""Decoding strategies: how tokens are chosen, over the one compiled loop of `decode.loop`.

A strategy is `init(prompt) -> state` and `next(state, seen, key) -> (state, choice)`. Each turn the loop feeds tokens
to the model and shows the strategy their logits; the strategy returns the tokens that are written, those to feed
next, how many of those just fed stay in the cache (speculation takes some back), and from which row each row goes on
(beams change places). One that keeps continuations of its own, as a beam does with those that have ended, answers them
at the end (`outcome`).
"""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
from jaxtyping import Array, Float, Int

from arch.models.base import Inputs
from arch.spec import Spec
from arch.taps import Edit


class Prompt(NamedTuple):
    """What is continued. B counts the rows of all beams.

    Attributes:
      tokens: int32 [B, P], padded on the left.
      lengths: int32 [B], how many of them are text.
      source: what an encoder-decoder reads, [B, S]; None: nothing.
      new: how many tokens are added at most.
    """

    tokens: jax.Array
    lengths: jax.Array
    source: Inputs | None
    new: int


class Seen(NamedTuple):
    """What the model said of the tokens that were fed.

    Attributes:
      fed: int32 [B, F].
      logits: float32 [B, F, V], of the token after each of them.
      done: bool [B], rows that have ended.
      stop: int32 scalar, the token that ends a row; -1: none does.
      taps: site -> what the model saved there, of the sites that the strategy watches.
    """

    fed: Int[Array, "B F"]
    logits: Float[Array, "B F V"]
    done: jax.Array
    stop: jax.Array
    taps: Mapping[str, Any]


class Outcome(NamedTuple):
    """Continuations that a strategy has kept itself, R for each prompt, those of one prompt after each other.

    Attributes:
      tokens: int32 [B R, new].
      scores: float32 [B R, new], the log-probability of each.
      written: int32 [B R], how many of them there are, the stop token included.
      ranks: float32 [B R], what the continuations of a prompt are ranked by, highest best.
    """

    tokens: jax.Array
    scores: jax.Array
    written: jax.Array
    ranks: jax.Array


class Choice(NamedTuple):
    """What a strategy chose.

    Attributes:
      tokens: int32 [B, F], written to the output, the first `counts` of each row.
      scores: float32 [B, F], the log-probability of each under the model.
      counts: int32 [B]; None: all of them.
      feed: int32 [B, F], fed next; None: `tokens`.
      kept: int32 [B], how many of the tokens just fed stay in the cache; None: all.
      parents: int32 [B], the row that each goes on from; None: its own. The rest of the choice is by new row.
      done: bool [B], rows that end whatever was chosen; None: those alone that chose the stop token.
    """

    tokens: jax.Array
    scores: jax.Array
    counts: jax.Array | None = None
    feed: jax.Array | None = None
    kept: jax.Array | None = None
    parents: jax.Array | None = None
    done: jax.Array | None = None


@dataclasses.dataclass(frozen=True)
class Strategy(Spec, abc.ABC):
    """A way of decoding. `rows` are worked on for each prompt (beams), `ahead` tokens are fed a turn (speculation);
    `watch`, a regular expression, names the tap sites that it looks at."""

    @property
    def rows(self) -> int:
        return 1

    @property
    def ahead(self) -> int:
        return 1

    @property
    def watch(self) -> str:
        return ""

    def edits(self, prompts: int) -> Mapping[str, Edit]:
        """Tap site -> what is made of its value in each call of the model, for `prompts * rows` rows."""
        return {}

    def check(self, sites: Mapping[str, Any]) -> None:
        """Raises SpecError for an edit that would change nothing. `sites`: the shape of each, [L, B, T, ...]."""

    def init(self, prompt: Prompt) -> Any:
        """The state before the first token: a tree of arrays with the B rows first, or of scalars."""
        return ()

    @abc.abstractmethod
    def next(self, state: Any, seen: Seen, key: jax.Array) -> tuple[Any, Choice]:
        """The next state, and what is chosen after the tokens in `seen`.

        The first turn shows the logits of the prompt's last token alone, F = 1; all others those of `ahead` tokens.
        What is tapped is of all tokens that were fed, the first time the whole prompt.
        """

    def outcome(self, state: Any) -> Outcome | None:
        """The continuations at the end; None: what was written, one a prompt."""
        return None
