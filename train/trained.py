"""A trained run, opened again: its data, its program and the parameters of its newest good checkpoint."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from etils import epath

from arch.decode.generate import BUCKET, generate
from arch.decode.strategy import Strategy
from arch.models.base import Inputs
from arch.spec import UserError, no_text
from train.ensemble import Ensemble, pick
from train.evaluate import evaluate_all, evaluation_batches
from train.record import folder as run_folder
from train.record.checkpoint import CHECKPOINTS, Checkpoints
from train.run import Run
from train.setup import CompiledRun, prepare


@dataclasses.dataclass(frozen=True)
class TrainedRun:
    """A run with parameters.

    Attributes:
      program: the run made ready.
      state: its parameters, float32, and buffers.
      dataset: what it was trained on.
      step: the update after which they were saved.
    """

    program: CompiledRun
    state: Mapping[str, Any]
    dataset: Any
    step: int

    @property
    def params(self) -> Any:
        """The parameters."""
        return self.state["params"]

    def evaluate(self) -> dict[str, float]:
        """PREFIX/NAME -> the objective's metrics over the validation split (val/), the test split and further sets.

        All processes must call it; each evaluates its own rows.
        """
        return evaluate_all(self.program, self.state, evaluation_batches(self.program, self.dataset)) or {}

    def continuations(self, prompts: Sequence[str], new: int, strategy: Strategy, key: Any) -> list[str]:
        """Each of `prompts` followed by up to `new` tokens of the model's own, as text.

        Raises:
          UserError: the model has no positions for that many tokens, or a prompt is no text.
        """
        _refuse_other_bytes(prompts)
        tokenizer = self._tokenizer("tokenizer")
        encoded = [[tokenizer.bos, *tokenizer.encode(prompt)] for prompt in prompts]
        return [prompt + text for prompt, text in zip(prompts, self._decoded(encoded, new, strategy, key), strict=True)]

    def translations(self, sources: Sequence[str], new: int, strategy: Strategy, key: Any) -> list[str]:
        """The target, of up to `new` tokens, that an encoder-decoder writes for each of `sources`.

        Raises:
          UserError: the model has no positions for a source, or for that many tokens.
        """
        begin = [self._tokenizer("tokenizer").bos]
        return self._decoded([begin] * len(sources), new, strategy, key, self.encoded(sources))

    def _tokenizer(self, name: str) -> Any:
        """That of the data. Raises UserError for data that are no text."""
        if not hasattr(self.dataset, name):
            raise UserError(f"{type(self.program.run.data).__name__} is no text: it has no {name} to read a prompt by")
        return getattr(self.dataset, name)

    def encoded(self, sources: Sequence[str]) -> Inputs:
        """`sources` as the encoder reads them in training, padded on the right to one length.

        Raises:
          UserError: one is empty, no text, or longer than the encoder's positions.
        """
        _refuse_other_bytes(sources)
        tokenizer = self._tokenizer("source_tokenizer")
        rows = [[*tokenizer.encode(text), tokenizer.eos] for text in sources]
        if any(len(row) < 2 for row in rows):
            raise UserError("a source must hold at least one token; it is empty")
        longest, limit = max(map(len, rows)), self.model.source_limit
        if limit is not None and longest > limit:
            raise UserError(f"a source of {longest} tokens does not fit the {limit} positions of the encoder")
        length = -(-longest // BUCKET) * BUCKET
        tokens = np.array([row + [0] * (length - len(row)) for row in rows], np.int32)
        there = np.array([[1] * len(row) + [0] * (length - len(row)) for row in rows], np.int32)
        return Inputs(tokens, None, there)

    @functools.cached_property
    def model(self) -> Any:
        """The `Network`, in the type of the computation."""
        return self.program.model({**self.state, "params": self.program.learner.cast(self.state["params"])})

    def _decoded(
        self, prompts: Sequence[Sequence[int]], new: int, strategy: Strategy, key: Any, source: Inputs | None = None
    ) -> list[str]:
        tokenizer = self.dataset.tokenizer
        try:
            told = {"strategy": strategy, "key": key, "stop": tokenizer.eos, "source": source}
            out = generate(self.model, prompts, new, **told)
        except ValueError as error:
            raise UserError(str(error)) from error
        return [tokenizer.decode(row[:length].tolist()) for row, length in zip(out.tokens, out.lengths, strict=True)]


def _refuse_other_bytes(prompts: Sequence[str]) -> None:
    for prompt in prompts:
        if why := no_text(prompt):
            raise UserError(f"prompt {prompt!r}: {why}")


def open_run(
    run: Run,
    folder: epath.PathLike,
    note: Callable[[str], None] = print,
    ensemble: Ensemble | None = None,
    replica: int = 0,
) -> TrainedRun:
    """The newest good checkpoint of `run` in `folder`, of which nothing is changed: another process may train there.

    Args:
      run: the run that was trained.
      folder: its folder.
      note: called with one line where its code, or a checkpoint, is not what it was.
      ensemble: the replicas that were trained as one program there, of which the one with index `replica` is opened.

    Raises:
      UserError: the folder holds no such run, or no checkpoint.
    """
    folder = epath.Path(folder)
    if not run_folder.check(folder, run, ensemble, other=note, writes=False) or not (folder / CHECKPOINTS).exists():
        raise UserError(f"{folder}: holds no checkpoint of this run; train it first, or give its --run_folder")
    dataset = run.data.build()
    program = prepare(run, dataset.description, ensemble=ensemble)
    with Checkpoints(folder, run.logging.keep, note=note, writes=False) as checkpoints:
        restored = checkpoints.restore(program.abstract)
    if restored is None:
        raise UserError(f"{folder}: holds no checkpoint yet; train it further")
    if ensemble is None:
        return TrainedRun(program, restored.state, dataset, restored.step)
    alone = prepare(ensemble.lone(run, replica), dataset.description)
    return TrainedRun(alone, pick(restored.state, replica), dataset, restored.step)
