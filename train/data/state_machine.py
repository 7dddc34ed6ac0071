"""Walks on a random finite-state machine, each state written in two digits (TokFSM, arXiv 2310.17230, section 3).

A state s of S is the tokens s // b and s % b with b = sqrt(S); a row is token b, which begins it, and `length` states,
the first drawn uniformly, each next one uniformly from the states that the one before has an edge to. What a model has
to find out, the states, is not in its vocabulary, and is known to whoever has the data set: `dataset.machine`.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator

import numpy as np

from arch.spec import Problem, at_least
from train.data.base import Data, Dataset
from train.data.description import Description


@dataclasses.dataclass(frozen=True)
class StateMachine(Data):
    """Walks on one machine.

    Attributes:
      states: S, a square.
      edges: out of each state, to different states that are drawn at random.
      length: states of a row, which is 1 + 2 * length tokens.
      rows: to train on; `held_out` to validate on, `tested` for the test split. Row n is a function of split and n, so
        that none is stored.
      seed: of the machine and of the walks.
    """

    states: int = 100
    edges: int = 10
    length: int = 64
    rows: int = 1_000_000
    held_out: int = 1000
    tested: int = 1000
    seed: int = 0

    def problems(self) -> Iterator[Problem]:
        yield from at_least(self, 2, "length")
        yield from at_least(self, 1, "edges", "rows", "held_out", "tested")
        yield from at_least(self, 0, "seed")
        if self.states < 4 or math.isqrt(self.states) ** 2 != self.states:
            yield Problem("states", self.states, "must be a square, at least 4: a state is two digits")
        elif self.edges > self.states:
            yield Problem("edges", self.edges, f"must be at most states={self.states}: they lead to different ones")

    def describe(self):
        arrays = dict.fromkeys(("tokens", "segments"), ((1 + 2 * self.length,), np.int32))
        return Description(arrays, ("train", "validation", "test"), vocab=math.isqrt(self.states) + 1)

    def build(self, progress=None):
        machine = Machine.drawn(self.states, self.edges, self.seed)
        counts = {"train": self.rows, "validation": self.held_out, "test": self.tested}
        rows = {
            split: Walks(machine, self.length, count, self.seed, number)
            for number, (split, count) in enumerate(counts.items())
        }
        return StateMachineDataset(machine, rows, self.describe(), f"state machine 1 {self}")


class StateMachineDataset(Dataset):
    """Walks, and the `machine` that they are on."""

    def __init__(self, machine: Machine, rows: dict[str, Walks], description: Description, fingerprint: str):
        super().__init__(rows, description, fingerprint)
        self.machine = machine


@dataclasses.dataclass(frozen=True)
class Machine:
    """A finite-state machine. `targets`: int [S, E], the states that each has an edge to."""

    targets: np.ndarray

    @classmethod
    def drawn(cls, states: int, edges: int, seed: int) -> Machine:
        rng = np.random.default_rng((seed, states, edges))
        return cls(np.stack([rng.permutation(states)[:edges] for _ in range(states)]))

    @property
    def states(self) -> int:
        return len(self.targets)

    @property
    def base(self) -> int:
        """Digits are below it; it is itself the token that begins a row."""
        return math.isqrt(self.states)

    @property
    def edges(self) -> np.ndarray:
        """bool [S, S], from which state one gets to which."""
        found = np.zeros((self.states, self.states), bool)
        found[np.arange(self.states)[:, None], self.targets] = True
        return found

    @property
    def next_digit(self) -> np.ndarray:
        """float64 [S, V], the distribution of the token after each state: the first digit of the next."""
        found = np.zeros((self.states, self.base + 1))
        np.add.at(found, (np.arange(self.states)[:, None], self.targets // self.base), 1 / self.targets.shape[1])
        return found

    def tokens(self, states: np.ndarray) -> np.ndarray:
        """int32 [..., 1 + 2 n] of states [..., n]."""
        digits = np.stack([states // self.base, states % self.base], axis=-1)
        begin = np.full((*states.shape[:-1], 1), self.base)
        return np.concatenate([begin, digits.reshape(*states.shape[:-1], -1)], axis=-1).astype(np.int32)

    def read(self, digits: np.ndarray) -> np.ndarray:
        """The states [..., n] that tokens [..., 2 n] without the first spell; -1 where one of two is no digit."""
        pairs = digits.reshape(*digits.shape[:-1], -1, 2)
        states = pairs[..., 0] * self.base + pairs[..., 1]
        return np.where(np.all((pairs >= 0) & (pairs < self.base), axis=-1), states, -1)


class Walks:
    """The rows of a split: row n begins and turns as hashes of (seed, split, n, place) say."""

    def __init__(self, machine: Machine, length: int, count: int, seed: int, split: int):
        self.machine, self.length, self.count = machine, length, count
        self.key = np.random.default_rng((seed, split)).integers(0, 2**64, dtype=np.uint64)

    def __len__(self) -> int:
        return self.count

    def gather(self, indices):
        places = np.asarray(indices, np.uint64)[:, None] * np.uint64(self.length) + np.arange(
            self.length, dtype=np.uint64
        )
        drawn = mixed(places, self.key)
        states = np.empty(drawn.shape, np.int64)
        states[:, 0] = drawn[:, 0] % np.uint64(self.machine.states)
        turns = (drawn % np.uint64(self.machine.targets.shape[1])).astype(np.int64)
        for place in range(1, self.length):
            states[:, place] = self.machine.targets[states[:, place - 1], turns[:, place]]
        tokens = self.machine.tokens(states)
        return {"tokens": tokens, "segments": np.ones_like(tokens)}


def mixed(numbers: np.ndarray, key: np.uint64) -> np.ndarray:
    """A hash, uint64, of `numbers`, uint64, and `key`: the output function of SplitMix64 (Steele et al. 2014)."""
    with np.errstate(over="ignore"):
        z = (numbers + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15) + key
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return z ^ (z >> np.uint64(31))
