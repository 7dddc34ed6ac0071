"""Are the codes of two trained models the same? Their overlap, site by site and layer by layer, on the same tokens.

A `Score` sees one model, so that this is no part of a suite: two run folders are compared. Codes are matched one to one
(`arch.probe.firing.overlap`); of several heads or groups each may be matched with any of the other model's, since
nothing fixes their order.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from arch.probe.firing import Overlap, overlap
from arch.spec import UserError
from experiments.codes.reading import Reader
from experiments.config import render
from train.run import Run
from train.trained import TrainedRun, open_run


def compare(one: str, other: str, tokens: int = 20_000) -> dict[str, Overlap]:
    """`overlaps` of the newest checkpoints of the runs in two folders. Raises UserError for a folder without a run."""
    return overlaps(_opened(one), _opened(other), tokens)


def _opened(folder: str) -> TrainedRun:
    run = render.read(folder)
    if not isinstance(run, Run):
        raise UserError(f"{folder}: holds a {type(run).__name__}, not a run")
    return open_run(run, folder)


def overlaps(one: TrainedRun, other: TrainedRun, tokens: int = 20_000) -> dict[str, Overlap]:
    """ "SITE layer N" -> how much the codes there are the same, of the sites that both models have.

    Raises:
      UserError: they were trained on other data, or have no site with codes in common.
    """
    if one.dataset.fingerprint != other.dataset.fingerprint:
        raise UserError("codes are compared on the same tokens: the two runs have other data")
    first, second = _codes(one, tokens), _codes(other, tokens)
    shared = [name for name in first if name in second]
    if not shared:
        raise UserError(f"the two models have no site with codes in common: {', '.join(first)}; {', '.join(second)}")
    return {name: overlap(first[name], second[name]) for name in shared}


def _codes(opened: TrainedRun, tokens: int) -> Mapping[str, np.ndarray]:
    """ "SITE layer N" -> int [M, G k], the codes of each token that is no padding; -1: a sparse code of amplitude 0."""
    reader = Reader(opened)
    found: dict[str, list[np.ndarray]] = {}
    for read in reader(tokens):
        for site in reader.sites:
            flat = site.flat(read.codes[site.name])[read.there]
            if site.name in read.amplitudes:
                flat = np.where(site.beside(read.amplitudes[site.name])[read.there] > 0, flat, -1)
            each = flat.reshape(len(flat), site.layers, -1)
            for layer in range(site.layers):
                found.setdefault(f"{site.name} layer {layer}", []).append(each[:, layer])
    return {name: np.concatenate(parts) for name, parts in found.items()}
