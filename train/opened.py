"""A trained run, opened again: its data, its program and the parameters of its newest good checkpoint."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax
from etils import epath

from arch.decode.generate import generate
from arch.decode.sampling import Sampler
from arch.spec import UserError
from train import folder as run_folder
from train.checkpoint import CHECKPOINTS, Checkpoints
from train.evaluate import evaluate
from train.run import Run
from train.setup import Program, prepare
from train.step import Params


@dataclasses.dataclass(frozen=True)
class Opened:
    """A run with parameters.

    Attributes:
      program: the run made ready.
      params: float32 parameters.
      dataset: what it was trained on.
      step: the update after which they were saved.
    """

    program: Program
    params: Params
    dataset: Any
    step: int

    def evaluate(self) -> dict[str, float]:
        """The objective's metrics over the whole validation split, of which each process reads its share."""
        rows = self.program.run.batch // self.program.run.accumulate
        batches = self.dataset.validation(rows, jax.process_index(), jax.process_count())
        return evaluate(self.program, self.params, batches) or {}

    def continuations(self, prompts: Sequence[str], new: int, sampler: Sampler, key: Any) -> list[str]:
        """Each of `prompts` followed by up to `new` tokens of the model's own, as text.

        Raises:
          UserError: the model has no positions for that many tokens.
        """
        tokenizer = self.dataset.tokenizer
        encoded = [[tokenizer.bos, *tokenizer.encode(prompt)] for prompt in prompts]
        model = self.program.model(self.learner_params())
        try:
            out = generate(model, encoded, new, sampler=sampler, key=key, stop=tokenizer.eos)
        except ValueError as error:
            raise UserError(str(error)) from error
        tokens = [row[:length].tolist() for row, length in zip(out.tokens, out.lengths, strict=True)]
        return [prompt + tokenizer.decode(row) for prompt, row in zip(prompts, tokens, strict=True)]

    def learner_params(self) -> Params:
        """The parameters in the run's precision."""
        return self.program.learner.cast(self.params)


def open_run(run: Run, folder: epath.PathLike, note: Callable[[str], None] = print) -> Opened:
    """The newest good checkpoint of `run` in `folder`.

    Raises:
      UserError: the folder holds no such run, or no checkpoint.
    """
    folder = epath.Path(folder)
    if not run_folder.check(folder, run) or not (folder / CHECKPOINTS).exists():
        raise UserError(f"{folder}: holds no checkpoint of this run; train it first, or give its --run_folder")
    dataset = run.data.build()
    program = prepare(run, dataset)
    with Checkpoints(folder, run.reports.keep, note=note) as checkpoints:
        restored = checkpoints.restore(program.abstract)
    if restored is None:
        raise UserError(f"{folder}: holds no checkpoint yet; train it further")
    return Opened(program, restored.state["params"], dataset, restored.step)
