"""Reading data through a model with codebooks: which codes it has, and which fire on which tokens."""

from __future__ import annotations

import dataclasses
import functools
import re
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import numpy as np
from flax import nnx

from arch.blocks.at import parameter
from arch.bottlenecks.base import Quantizer
from arch.params import Buffer, merge, metadata, split
from arch.spec import UserError
from arch.taps import Tap
from train.data.description import Description
from train.evaluate import TEST
from train.opened import Opened

CODES = ".codes"
SAVED = r".*\.(codes|amplitudes)"
BETWEEN = re.compile(r"between_(\d+)")
"""The scope of a bottleneck between layers, which is there once and not once a layer."""


@dataclasses.dataclass(frozen=True)
class Site:
    """Where codes are.

    Attributes:
      name: of the tap site whose value the bottleneck makes: "mlp_out", "encoder.attn.z".
      layers: L, how many layers have it.
      groups: G, heads or groups with codes of their own; 1: there is one set.
      grouped: whether codes have an axis of groups: [..., G, k].
      size: C, codes of a set.
      slots: k, codes that a vector becomes.
      stages: whether each of the k has a set of its own, as the stages of a residual quantiser do.
    """

    name: str
    layers: int
    groups: int
    grouped: bool
    size: int
    slots: int
    stages: bool

    @property
    def sets(self) -> int:
        """Sets of codes in one layer."""
        return self.groups * (self.slots if self.stages else 1)

    def flat(self, codes: np.ndarray) -> np.ndarray:
        """[L, ..., (G,) k] as [..., L G k], each code by its number among all L * sets * C of the site."""
        codes = codes if self.grouped else codes[..., None, :]
        sets = np.arange(self.groups)[:, None] * (self.slots if self.stages else 1)
        sets = sets + (np.arange(self.slots) if self.stages else np.zeros(self.slots, int))
        first = np.arange(self.layers).reshape(-1, *(1,) * (codes.ndim - 1)) * self.sets + sets
        return np.moveaxis(first * self.size + codes, 0, -3).reshape(*codes.shape[1:-2], -1)

    def beside(self, amplitudes: np.ndarray) -> np.ndarray:
        """Amplitudes [L, ..., (G,) k] in the order of `flat`."""
        amplitudes = amplitudes if self.grouped else amplitudes[..., None, :]
        return np.moveaxis(amplitudes, 0, -3).reshape(*amplitudes.shape[1:-2], -1)


@dataclasses.dataclass(frozen=True)
class Read:
    """Some rows: `tokens` int32 [B, T], `there` bool [B, T] where they are no padding, and what was saved of each site,
    [L, B, T, (G,) k]; `amplitudes` of sparse codes."""

    tokens: np.ndarray
    there: np.ndarray
    codes: Mapping[str, np.ndarray]
    amplitudes: Mapping[str, np.ndarray]


class Reader:
    """A trained model with codebooks, and its data.

    Raises:
      UserError: it has no codebooks, or its data are no rows of tokens.
    """

    def __init__(self, opened: Opened, split_name: str | None = None):
        self.opened = opened
        self.task = opened.program.learner.forward.task
        rows = opened.dataset.rows
        self.split = split_name or (TEST if TEST in rows else "validation")
        if self.split not in rows:
            raise UserError(f"codes: the data have no split {self.split}; they have {', '.join(rows)}")
        self.batch = 32
        first = next(self._batches())
        shapes = jax.eval_shape(functools.partial(_saved, self.task), *split(opened.model), first)
        self.sites = tuple(sites_of(opened.model, shapes[2]))
        if not self.sites:
            name = type(opened.program.run.model).__name__
            raise UserError(f"codes: this {name} has no codebooks; put some in, as "
                            "--config.model.block.at=... or Sequential(between=...) do")  # fmt: skip

    @property
    def description(self) -> Description:
        return self.opened.dataset.description

    def __call__(self, tokens: int) -> Iterator[Read]:
        """Rows of the split in order, until `tokens` tokens were read."""
        parts, count = split(self.opened.model), 0
        run = jax.jit(functools.partial(_saved, self.task), static_argnums=0)
        for batch in self._batches():
            read, there, saved = jax.device_get(run(*parts, batch))
            kinds: dict[str, dict[str, np.ndarray]] = {"codes": {}, "amplitudes": {}}
            for name, value in saved.items():
                site, _, kind = name.rpartition(".")
                kinds[kind][site] = value
            yield Read(read, there, **kinds)
            count += int(there.sum())
            if count >= tokens:
                return

    def _batches(self) -> Iterator[Mapping[str, np.ndarray]]:
        """Whole batches; rows that do not fill the last one come once more, marked as padding where data have that."""
        yield from self.opened.dataset.evaluation(self.split, self.batch, 0, 1)


def _saved(task: Any, graphdef: Any, params: Any, buffers: Any, batch: Any) -> tuple[Any, Any, Any]:
    """(tokens, where they are no padding, what the codebooks chose) of the rows of a batch."""
    from train.forward import ROW  # rows know their number, which random masks depend on

    rows = {name: value for name, value in batch.items() if name != ROW}
    number = batch[ROW] if ROW in batch else np.arange(len(next(iter(rows.values()))))
    keys = jax.vmap(jax.random.fold_in, (None, 0))(jax.random.key(0), number)
    inputs, _ = task.prepare(rows, keys)
    if inputs.tokens is None:
        raise UserError("codes: the model reads no tokens")
    out = merge(graphdef, params, buffers)(inputs, tap=Tap(save=SAVED, strict=False))
    there = inputs.tokens == inputs.tokens if inputs.segments is None else inputs.segments > 0
    return inputs.tokens, there, {name: _by_layer(name, value) for name, value in out.taps.items()}


def _by_layer(name: str, value: Any) -> Any:
    """With an axis of layers first."""
    if isinstance(value, tuple):
        raise UserError(f"codes: the layers have codebooks of unlike shapes at {name.rpartition('.')[0]}")
    return value[None] if BETWEEN.fullmatch(name.split(".")[-2]) else value


def sites_of(model: nnx.Module, saved: Mapping[str, Any]) -> Iterator[Site]:
    """The sites of a model that saved `SAVED`, arrays or their shapes, layers first."""
    for name, shape in saved.items():
        if not name.endswith(CODES):
            continue
        site = name.removesuffix(CODES)
        sets = counts_shape(quantizer_of(model, site))
        grouped = len(shape.shape) > 4
        groups, slots = shape.shape[-2] if grouped else 1, shape.shape[-1]
        own = int(np.prod(sets[:-1], dtype=int))
        yield Site(site, shape.shape[0], groups, grouped, sets[-1], slots, stages=slots > 1 and own == groups * slots)


def quantizer_of(model: nnx.Module, site: str) -> Quantizer:
    """The part that makes the codes of a site, with its layers stacked; the first, where loops of a pattern have one
    each. Raises UserError if they are of several sizes."""
    parts = [(path, part) for path, part in nnx.iter_graph(model) if isinstance(part, Quantizer)]
    paths = [tuple(map(str, path)) for path, _ in parts]
    outer = [n for n, path in enumerate(paths) if not any(path[:k] in paths for k in range(len(path)))]
    mine = [parts[n][1] for n in outer if _is(paths[n], site)]
    sizes = {counts_shape(part) for part in mine}
    if len(sizes) != 1:
        raise UserError(f"codes: the codebooks at {site} are of several sizes: {sorted(sizes)}")
    found: Quantizer = mine[0]
    return found


def _is(path: tuple[str, ...], site: str) -> bool:
    """Whether the part at `path` makes the codes of `site`, whose first pieces may be the scope of a stack."""
    pieces = site.split(".")
    between = BETWEEN.fullmatch(pieces[-1])
    if between:
        return path[-2:] == ("between", between[1]) and all(piece in path for piece in pieces[:-1])
    for scope in range(len(pieces)):
        if path[-1] == parameter(".".join(pieces[scope:])):
            return all(piece in path for piece in pieces[:scope])
    return False


def counts_shape(part: nnx.Module) -> tuple[int, ...]:
    """The shape of the counts of a quantiser, without the axis of layers."""
    found = {name: row for name, row in metadata(part, Buffer).items() if re.search(r"(^|\.)counts$", name)}
    if len(found) != 1:
        raise UserError(f"codes: {type(part).__name__} counts no codes, so that nobody can tell how many it has")
    ((_, row),) = found.items()
    layers = sum(axis == "layers" for axis in row["axes"])
    return tuple(row["shape"][layers:])
