"""The verb `codes`: which codes of a trained model fire on what, as a table and as a page to browse."""

from __future__ import annotations

import os
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from rich.console import Console
from rich.table import Table

from arch.bottlenecks.bits import entropy_bits
from arch.decode.sampling import Sample
from arch.decode.steered import Steered
from arch.models.base import Causal, Seq2Seq
from arch.spec import UserError
from experiments.codes.contexts import Gathered, Places, gather
from experiments.codes.effects import effects
from experiments.codes.page import Shown, context, page, set_names
from experiments.codes.reading import Reader, Site
from experiments.codes.steering import activation
from experiments.config import render
from train.record.confined import confined
from train.run import Run
from train.trained import TrainedRun, open_run

TOKENS = 200_000
SAMPLES, WRITTEN = 24, 40
"""How many codes a site has samples of, and of how many tokens."""

TOP = 3
"""Contexts in the table."""


def codes(folder: str, out: str | None = None, *, tokens: int = TOKENS, trust: bool = False) -> None:
    """The codes of the newest checkpoint of the run in `folder`; the page goes into the folder `out`, by default there.
    `trust`: as of `render.read`.

    Raises:
      UserError: it holds no run, its model has no codebooks or reads no text, or the page cannot be written.
    """
    run = render.read(folder, trust=trust)
    if not isinstance(run, Run):
        raise UserError(f"{folder}: holds a {type(run).__name__}, not a run")
    show(open_run(run, folder), folder, Path(out or folder), tokens=tokens)


def show(opened: TrainedRun, folder: str, out: Path, *, tokens: int = TOKENS) -> Path:
    """Prints a table of the codes of an opened run and writes the page; returns its file."""
    start, file = time.perf_counter(), out / "codes.html"
    _refuse_unwritable(out)
    tokenizer = getattr(opened.dataset, "tokenizer", None)
    if tokenizer is None:
        raise UserError(f"codes: {type(opened.program.run.data).__name__} is no text that a person could read")
    reader = Reader(opened)
    read = gather(reader(tokens), reader.sites)
    shown = [Shown(site, effects(reader, site), samples(reader, site, read.places[site.name])) for site in reader.sites]
    console = Console(soft_wrap=True, highlight=False)
    for site in reader.sites:
        console.print(table(site, read, tokenizer.decode), markup=False)
    summary = f"step {opened.step:,}; {read.told}"
    text = page(f"Codes of {folder}", summary, read, shown, tokenizer.decode)
    try:
        out.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UserError(f"codes: {file} cannot be written ({error.strerror or error}); give another --out") from error
    console.print(f"\n{read.told}, in {time.perf_counter() - start:.0f} s\ncodes   {file}", markup=False)
    return file


def _refuse_unwritable(out: Path) -> None:
    """Before anything is read for the page. Raises UserError."""
    confined(out, "codes.html")
    there = next(path for path in (out, *out.absolute().parents) if path.exists())
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        raise UserError(f"codes: {out / 'codes.html'} cannot be written; give another --out")


def table(site: Site, read: Gathered, decode: object) -> Table:
    """How much of each codebook of a site is used, and what its most frequent codes fire on."""
    told = Table(title=site.name, title_justify="left")
    for heading in ("codebook", "used", "of", "bits", "most frequent codes"):
        told.add_column(heading, justify="left" if heading.startswith(("code", "most")) else "right")
    places = read.places[site.name]
    counts = places.counts.reshape(-1, site.size)
    bits = np.asarray(entropy_bits(jnp.asarray(counts, jnp.float32)))
    first, where = places.of()
    for at, name in enumerate(set_names(site)):
        top = [int(code) for code in np.argsort(-counts[at], kind="stable")[:TOP] if counts[at, code]]
        numbers = [at * site.size + code for code in top]
        texts = [
            f"{code}: {_line(context(read.tokens, int(where[first[n]]), decode))}"  # type: ignore[arg-type]
            for code, n in zip(top, numbers, strict=True)
            if first[n] < first[n + 1]
        ]
        used = int((counts[at] > 0).sum())
        told.add_row(name, f"{used:,}", f"{site.size:,}", f"{bits[at]:.2f}", "   ".join(texts))
    return told


def _line(pieces: tuple[str, str, str]) -> str:
    before, at, after = (piece.replace("\n", "⏎") for piece in pieces)
    return f"{before[-12:]}⟦{at}⟧{after[:6]}"


def samples(reader: Reader, site: Site, places: Places) -> dict[int, str]:
    """What the model writes while a code is active at every token, of the codes that fire most: number -> text."""
    opened = reader.opened
    model = opened.program.run.model
    if not isinstance(model, Causal) or isinstance(model, Seq2Seq) or site.stages > 1:
        return {}
    numbers = [int(n) for n in np.argsort(-places.counts, kind="stable")[:SAMPLES] if places.counts[n]]
    if not numbers:
        return {}
    prompt = opened.program.run.logging.prompt or ""
    limit = opened.model.limit
    room = WRITTEN if limit is None else min(WRITTEN, limit - 1 - len(opened.dataset.tokenizer.encode(prompt)))
    if room < 1:
        return {}
    plans = tuple((activation(site, number),) for number in numbers)
    strategy = Steered(Sample(0.8, top_p=0.95), plans)
    texts = opened.continuations([prompt] * len(numbers), room, strategy, jax.random.key(0))
    return dict(zip(numbers, texts, strict=True))
