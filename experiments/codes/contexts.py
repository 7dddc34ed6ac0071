"""How often each code fires over a text, and some of the places where it does.

Of each code's places a few are kept: of sparse codes those with the largest amplitudes, of others a draw in which every
place has the same chance, so that what is shown is what the code does and not its best moments. One pass, in memory
that does not grow with the text but by its tokens.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping

import numpy as np

from experiments.codes.reading import Read, Site


class Places:
    """The counts and places of the codes of one site; a code is called by its number among all of the site."""

    def __init__(self, codes: int, most: int):
        self.most = most
        self.counts = np.zeros(codes, np.int64)
        self.mass = np.zeros(codes, np.float64)
        self._least = np.full(codes, -np.inf, np.float32)  # what a place must exceed to be kept
        self._code, self._rank, self._place = (np.zeros(0, kind) for kind in (np.int32, np.float32, np.int64))

    def add(self, codes: np.ndarray, ranks: np.ndarray, places: np.ndarray, mass: np.ndarray | None = None) -> None:
        """Firings [n]: which code, how much it is wanted to be shown, at which token."""
        self.counts += np.bincount(codes, minlength=len(self.counts))
        if mass is not None:
            self.mass += np.bincount(codes, mass, minlength=len(self.counts))
        better = ranks > self._least[codes]
        kept = (self._code, codes[better]), (self._rank, ranks[better]), (self._place, places[better])
        code, rank, place = (np.concatenate(both) for both in kept)
        order = np.lexsort((-rank, code))
        code, rank, place = code[order], rank[order], place[order]
        first = np.flatnonzero(np.diff(code, prepend=-1))
        nth = np.arange(len(code)) - np.repeat(first, np.diff(np.append(first, len(code))))
        last = nth == self.most - 1
        self._least[code[last]] = rank[last]
        few = nth < self.most
        self._code, self._rank, self._place = code[few], rank[few], place[few]

    def of(self) -> tuple[np.ndarray, np.ndarray]:
        """(first [C + 1], places): those of code c are `places[first[c] : first[c + 1]]`, best first."""
        return np.searchsorted(self._code, np.arange(len(self.counts) + 1)), self._place


@dataclasses.dataclass(frozen=True)
class Gathered:
    """What was read.

    Attributes:
      tokens: int32 [M], those of all rows one after another, -1 between rows.
      count: how many of them were read.
      places: site -> its codes.
    """

    tokens: np.ndarray
    count: int
    places: Mapping[str, Places]


def gather(reads: Iterable[Read], sites: Iterable[Site], most: int = 8, seed: int = 0) -> Gathered:
    """Counts and places of all codes of `sites`, at most `most` places a code."""
    sites = tuple(sites)
    places = {site.name: Places(site.layers * site.sets * site.size, most) for site in sites}
    rng, texts, start, count = np.random.default_rng(seed), [], 0, 0
    for read in reads:
        rows, length = read.tokens.shape
        texts.append(np.where(np.pad(read.there, ((0, 0), (0, 1))), np.pad(read.tokens, ((0, 0), (0, 1))), -1).ravel())
        at = (start + np.arange(rows)[:, None] * (length + 1) + np.arange(length))[read.there]
        for site in sites:
            flat = site.flat(read.codes[site.name])[read.there]
            each, where = flat.reshape(-1).astype(np.int32), np.repeat(at, flat.shape[-1])
            if site.name in read.amplitudes:
                much = site.beside(read.amplitudes[site.name])[read.there].reshape(-1).astype(np.float32)
                fires = much > 0
                places[site.name].add(each[fires], much[fires], where[fires], much[fires])
            else:
                places[site.name].add(each, rng.random(len(each), np.float32), where)
        start, count = start + rows * (length + 1), count + int(read.there.sum())
    return Gathered(np.concatenate(texts).astype(np.int32) if texts else np.zeros(0, np.int32), count, places)
