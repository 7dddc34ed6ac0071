"""Are the codes of two trained models the same? Their overlap, site by site and layer by layer, on the same tokens.

A `Score` sees one model, so that this is no part of a suite: two run folders are compared, by `codes RUN RUN`. Codes
are matched one to one (`arch.probe.firing.overlap`); of several heads or groups each may be matched with any of the
other model's, since nothing fixes their order.
"""

from __future__ import annotations

import numpy as np
from rich.console import Console
from rich.table import Table

from arch.probe.firing import Overlap, overlap
from arch.spec import UserError
from experiments.codes.reading import Reader
from experiments.config import render
from train.run import Run
from train.trained import TrainedRun, open_run

TOKENS = "the tokens that were read"


def show(one: str, other: str, tokens: int = 20_000, *, trust: bool = False) -> dict[str, Overlap]:
    """Prints `compare` as a table, each overlap beside what chance gives, and answers it."""
    found = compare(one, other, tokens, trust=trust)
    told = Table(title=f"Overlap of the codes of {one} and {other}", title_justify="left")
    for heading in ("codes", "overlap", "shuffled", "difference"):
        told.add_column(heading, justify="left" if heading == "codes" else "right")
    for name, (matched, shuffled) in found.items():
        told.add_row(name, f"{matched:.3f}", f"{shuffled:.3f}", f"{matched - shuffled:+.3f}")
    console = Console(soft_wrap=True, highlight=False)
    console.print(told, markup=False)
    said = "overlap: of the tokens on which a code or the one that it is matched to fires, the share on which both do; "
    console.print(f"{said}shuffled: with the tokens of the second in random order", markup=False)
    return found


def compare(one: str, other: str, tokens: int = 20_000, *, trust: bool = False) -> dict[str, Overlap]:
    """`overlaps` of the newest checkpoints of the runs in two folders, of the first `tokens` tokens.

    Raises:
      UserError: a folder without a run, or what `overlaps` refuses.
    """
    return overlaps(_opened(one, trust), _opened(other, trust), tokens, (one, other))


def _opened(folder: str, trust: bool) -> TrainedRun:
    run = render.read(folder, trust=trust)
    if not isinstance(run, Run):
        raise UserError(f"{folder}: holds a {type(run).__name__}, not a run")
    return open_run(run, folder)


def overlaps(
    one: TrainedRun, other: TrainedRun, tokens: int = 20_000, names: tuple[str, str] = ("the first", "the second")
) -> dict[str, Overlap]:
    """ "SITE layer N" -> how much the codes there are the same, of the sites that both models have. `names`: of the two
    runs, for messages.

    Raises:
      UserError: they read other data or other tokens, or have no site with codes in common.
    """
    _refuse_other_data(one, other)
    first, second = (_codes(opened, tokens, name) for opened, name in zip((one, other), names, strict=True))
    if not np.array_equal(first.pop(TOKENS), second.pop(TOKENS)):
        raise UserError("codes are compared on the same tokens: the objectives of the two runs hide or cut others")
    shared = [name for name in first if name in second]
    if not shared:
        raise UserError(f"the two models have no site with codes in common: {', '.join(first)}; {', '.join(second)}")
    return {name: overlap(first[name], second[name]) for name in shared}


def _refuse_other_data(one: TrainedRun, other: TrainedRun) -> None:
    """Raises UserError."""
    for field in ("tokenizer", "source_tokenizer"):
        mine, theirs = (getattr(getattr(run.dataset, field, None), "fingerprint", None) for run in (one, other))
        if mine != theirs:
            raise UserError("codes are compared on the same tokens: the two runs have other tokenizers")
    if one.dataset.fingerprint != other.dataset.fingerprint:
        raise UserError("codes are compared on the same tokens: the two runs have other data")


def _codes(opened: TrainedRun, tokens: int, name: str) -> dict[str, np.ndarray]:
    """ "SITE layer N" -> int [M, G k], the codes of each token that is no padding; -1: a sparse code of amplitude 0.
    `TOKENS` -> [M], those tokens."""
    try:
        reader = Reader(opened)
    except UserError as error:
        raise UserError(f"{name}: {error}") from error
    found: dict[str, list[np.ndarray]] = {}
    for read in reader(tokens):
        found.setdefault(TOKENS, []).append(read.tokens[read.there])
        for site in reader.sites:
            flat = site.flat(read.codes[site.name])[read.there]
            if site.name in read.amplitudes:
                flat = np.where(site.beside(read.amplitudes[site.name])[read.there] > 0, flat, -1)
            each = flat.reshape(len(flat), site.layers, -1)
            for layer in range(site.layers):
                found.setdefault(f"{site.name} layer {layer}", []).append(each[:, layer])
    return {name: np.concatenate(parts) for name, parts in found.items()}
