"""A picture of what each token of a text attended to: of the source in an encoder-decoder, else of the text itself.

The mean over heads and layers (arXiv 1409.0473, figure 3, for one head).
"""

from __future__ import annotations

from pathlib import Path

import jax
import numpy as np
from matplotlib.figure import Figure

from arch.models.base import Inputs, Seq2Seq
from arch.spec import UserError
from arch.taps import Tap
from experiments.study.report.style import plain, style
from experiments.study.report.svg import svg
from train.trained import TrainedRun

MOST = 80
"""Tokens on a side; what comes after is left out."""


def draw(opened: TrainedRun, prompt: str, text: str, file: Path) -> None:
    """Writes the picture of `text`, written for the source or prompt `prompt`, to an SVG `file`.

    Raises:
      UserError: the model has no attention pattern to show, or the file cannot be written.
    """
    pattern, rows, columns = weights(opened, prompt, text)
    if not rows:
        raise UserError("attention: nothing was written, so that there is nothing to show")
    with style():
        figure = Figure(figsize=(1.5 + 0.16 * len(columns), 1.2 + 0.16 * len(rows)), layout="constrained")
        axes = figure.add_subplot()
        axes.imshow(pattern, cmap="Greys", vmin=0.0, vmax=float(pattern.max()), aspect="auto", interpolation="nearest")
        axes.set_xticks(range(len(columns)), [*map(plain, columns)], rotation=90, fontsize=7)
        axes.set_yticks(range(len(rows)), [*map(plain, rows)], fontsize=7)
        axes.set_xlabel("read")
        axes.set_ylabel("written")
        picture = svg(figure)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(picture, encoding="utf-8")
    except OSError as error:
        raise UserError(f"attention: {file} cannot be written ({error.strerror})") from error


def weights(opened: TrainedRun, prompt: str, text: str) -> tuple[np.ndarray, list[str], list[str]]:
    """(mean attention [T, S], the T tokens written, the S tokens read)."""
    tokenizer, pair = opened.dataset.tokenizer, isinstance(opened.program.run.model, Seq2Seq)
    own = tokenizer.encode(text)[:MOST]
    inputs = Inputs(np.array([[tokenizer.bos, *own]], np.int32))
    if pair:
        source = opened.encoded([prompt])
        inputs = Inputs(inputs.tokens, source=source)
    site = r".*cross\.attn\.pattern" if pair else r"attn\.pattern"
    try:
        saved = jax.tree.leaves(dict(opened.model(inputs, tap=Tap(save=site)).taps))
    except ValueError as error:
        raise UserError(f"attention: {type(opened.program.run.model).__name__} has no pattern to show") from error
    each = [np.asarray(x, np.float32).reshape(-1, *x.shape[-2:]) for x in saved]
    pattern = np.concatenate(each).mean(axis=0)[: len(own)]  # row t writes token t
    if not pair:
        return pattern, _shown(tokenizer, own), ["", *_shown(tokenizer, own)]
    read = opened.dataset.source_tokenizer.encode(prompt)[:MOST]  # without the token that ends it
    return pattern[:, : len(read)], _shown(tokenizer, own), _shown(opened.dataset.source_tokenizer, read)


def _shown(tokenizer: object, ids: list[int]) -> list[str]:
    return [tokenizer.decode([one]) for one in ids]  # type: ignore[attr-defined]
