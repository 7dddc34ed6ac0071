"""A trained decoder as a model of EleutherAI's lm-evaluation-harness (version 0.4 and later).

    opened = open_run(render.read("runs/a"), "runs/a")
    lm_eval.simple_evaluate(model=Harness(opened), tasks=["lambada_openai"])

A text begins with bos, as in training; an empty context is bos alone. What is longer than the model's positions loses
its beginning, bos too. The tokens of a continuation are those that the whole text has behind its context's, with the
white space at the end of a context counted to the continuation, as the harness has it.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import logging

from arch.decode.generate import generate
from arch.decode.sampling import Greedy, Sample
from arch.decode.strategy import Strategy
from arch.models.base import Causal, Inputs, Seq2Seq
from arch.params import merge, split
from arch.spec import UserError
from experiments.suites.batches import batches
from train.trained import TrainedRun

KNOWN = ("until", "max_gen_toks", "do_sample", "temperature", "top_k", "top_p")
NEW = 256
"""Tokens of a continuation, where a request does not say."""


def _base() -> Any:
    """`lm_eval.api.model.LM`, which the harness asks for; where it is not installed, the methods alone."""
    try:
        from lm_eval.api.model import LM
    except ImportError:
        return object
    return LM


class Harness(_base()):  # type: ignore[misc]
    """Answers requests of the harness: objects with `args`.

    Args:
      opened: a decoder trained on text.
      batch: rows of a call.
      length: tokens that the model reads at most; None: its positions, or if they have no bound what it was trained on.

    Raises:
      UserError: the model continues no text.
    """

    def __init__(self, opened: TrainedRun, batch: int = 16, length: int | None = None):
        super().__init__()
        model = opened.program.run.model
        if not isinstance(model, Causal) or isinstance(model, Seq2Seq):
            raise UserError(f"the harness needs a decoder; {type(model).__name__} continues no text")
        if getattr(opened.dataset, "tokenizer", None) is None:
            raise UserError("the harness needs a model of text; the data of this one has no tokenizer")
        self.model, self.tokenizer, self.batch = opened.model, opened.dataset.tokenizer, batch
        self.length = length or self.model.limit or opened.dataset.description.arrays["tokens"][0][0] - 1

    def loglikelihood(self, requests: Sequence[Any], **_: Any) -> list[tuple[float, bool]]:
        """Of requests (context, continuation): the log-probability of the continuation in nats, and whether each of its
        tokens is the most probable one."""
        return self.scored([self.pair(*request.args) for request in requests])

    def loglikelihood_rolling(self, requests: Sequence[Any], **_: Any) -> list[float]:
        """Of requests (text,): the log-probability of the text in nats, each token once, behind as much of the text as
        the windows that the model can read leave to it: the first begins with bos, and each has at least one token
        before what it tells."""
        cut = [self.windows(self.tokenizer.encode(request.args[0])) for request in requests]
        found = iter(self.scored([window for windows in cut for window in windows]))
        return [float(sum(next(found)[0] for _ in windows)) for windows in cut]

    def generate_until(self, requests: Sequence[Any], **_: Any) -> list[str]:
        """Of requests (context, options): what the model writes, up to the first of `until`, the end of its document,
        or `max_gen_toks` tokens. Equal requests are drawn each by itself. Raises UserError for options that are not
        known."""
        written, prompts, cut = [""] * len(requests), [], 0
        groups: dict[tuple[int, Strategy], list[int]] = {}
        for index, request in enumerate(requests):
            asked, strategy = self.manner(request.args[1])
            prompt, new = self.fitted(self.encoded(request.args[0]), asked)
            prompts.append(prompt)
            cut += new < asked
            groups.setdefault((new, strategy), []).append(index)
        if cut:
            logging.warning(
                "generate_until: %d of %d requests want more tokens than the %d that the model reads leave beside "
                "their contexts; half of those are written at most", cut, len(requests), self.length
            )  # fmt: skip
        drawn = itertools.count()
        for (new, strategy), all_of_it in groups.items():
            for start in range(0, len(all_of_it), self.batch):
                which = all_of_it[start : start + self.batch]
                rows, stop = [prompts[one] for one in which], self.tokenizer.eos
                key = jax.random.fold_in(jax.random.key(0), next(drawn))
                out = generate(self.model, rows, new, strategy=strategy, key=key, stop=stop)
                for index, row, length in zip(which, out.tokens, out.lengths, strict=True):
                    text = self.tokenizer.decode(row[:length].tolist())
                    written[index] = _up_to(text, requests[index].args[1].get("until", ()))
        return written

    def fitted(self, prompt: list[int], new: int) -> tuple[list[int], int]:
        """A prompt and how many tokens are written behind it. Where both do not fit what the model reads, the written
        ones get half of it at most, and the prompt loses its beginning. The last one that is written is not read."""
        room = self.length + 1
        if len(prompt) + new > room:
            new = min(new, room // 2)
        return prompt[-(room - new) :], new

    def encoded(self, text: str) -> list[int]:
        """bos and `text`."""
        return [self.tokenizer.bos, *self.tokenizer.encode(text)]

    def pair(self, context: str, continuation: str) -> tuple[list[int], list[int]]:
        """The tokens of a context, at least bos, and of what continues it."""
        bare = context.rstrip()
        first = self.encoded(bare)
        return first, self.encoded(bare + context[len(bare) :] + continuation)[len(first) :]

    def windows(self, tokens: Sequence[int]) -> list[tuple[list[int], list[int]]]:
        """A text as pairs of context and continuation, each of `length` + 1 tokens at most."""
        whole = [self.tokenizer.bos, *tokens]
        found = []
        for done in range(0, len(tokens), self.length):
            end = min(done + self.length, len(tokens))
            begin = max(end - self.length, 0)
            found.append((whole[begin : done + 1], whole[done + 1 : end + 1]))
        return found

    def scored(self, pairs: Sequence[tuple[list[int], list[int]]]) -> list[tuple[float, bool]]:
        """The log-probability of each continuation behind its context, and whether it is greedy.

        Raises:
          UserError: a continuation has more tokens than the model reads.
        """
        longest = max((len(continuation) for _, continuation in pairs), default=0)
        if longest > self.length:
            raise UserError(f"a continuation of {longest} tokens is longer than the {self.length} that the model reads")
        rows = [[*context, *continuation][-(self.length + 1) :] for context, continuation in pairs]
        found: list[tuple[float, bool]] = [(0.0, True)] * len(pairs)
        for which, tokens, segments in batches([row[:-1] for row in rows], self.batch, self.length):
            wanted = np.zeros_like(tokens)
            for place, index in enumerate(which):
                wanted[place, : len(rows[index]) - 1] = rows[index][1:]
            log_p, best = jax.device_get(_told(*split(self.model), tokens, segments, wanted))
            for place, index in enumerate(which):
                end = len(rows[index]) - 1
                told = slice(end - len(pairs[index][1]), end)
                found[index] = float(log_p[place, told].sum(dtype=np.float64)), bool(best[place, told].all())
        return found

    def manner(self, options: Mapping[str, Any]) -> tuple[int, Strategy]:
        """How many tokens are written at most, and how they are chosen. Raises UserError for an unknown option."""
        strange = [name for name in options if name not in KNOWN]
        if strange:
            raise UserError(f"generate_until: {strange[0]} is not known; there are {', '.join(KNOWN)}")
        new = options.get("max_gen_toks", NEW)
        temperature = options.get("temperature") or 0.0
        if not options.get("do_sample", temperature > 0) or temperature == 0:
            return new, Greedy()
        return new, Sample(temperature, options.get("top_k"), options.get("top_p"))


@functools.partial(jax.jit, static_argnums=0)
def _told(graphdef: Any, params: Any, buffers: Any, tokens: Any, segments: Any, wanted: Any) -> Any:
    """float32 and bool [B, T], of each of `wanted` behind the tokens up to its place: log-probability, and is it the
    most probable one?"""
    logits = merge(graphdef, params, buffers)(Inputs(tokens, None, segments)).logits.astype(jnp.float32)
    picked = jnp.take_along_axis(logits, wanted[..., None], axis=-1)[..., 0]
    return picked - jax.nn.logsumexp(logits, axis=-1), jnp.argmax(logits, axis=-1) == wanted


def _up_to(text: str, until: str | Sequence[str]) -> str:
    """`text` before the first of `until`."""
    for stop in [until] if isinstance(until, str) else until:
        text = text.partition(stop)[0] if stop else text
    return text
