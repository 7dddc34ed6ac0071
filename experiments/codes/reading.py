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
from arch.bottlenecks.rate import quantizers
from arch.bottlenecks.residual import ResidualLayer
from arch.bottlenecks.several import innermost
from arch.bottlenecks.sparse import SparseLayer
from arch.params import Buffer, merge, metadata, split
from arch.spec import UserError
from arch.taps import Tap
from train.data.description import Description
from train.evaluate import TEST
from train.trained import TrainedRun

CODES = ".codes"
SAVED = r".*\.(codes|amplitudes)"
LAYERS = r"(.*\.)?resid_post"
"""The site that every layer of a stack has."""

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
      stages: how many sets the k are chosen from in turn, as the stages of a residual quantiser are; 1: there is one.
      sparse: whether codes have amplitudes.
    """

    name: str
    layers: int
    groups: int
    grouped: bool
    size: int
    slots: int
    stages: int = 1
    sparse: bool = False

    @property
    def sets(self) -> int:
        """Sets of codes in one layer."""
        return self.groups * self.stages

    def flat(self, codes: np.ndarray) -> np.ndarray:
        """[L, ..., (G,) k] as [..., L G k], each code by its number among all L * sets * C of the site."""
        codes = codes if self.grouped else codes[..., None, :]
        sets = np.arange(self.groups)[:, None] * self.stages + np.arange(self.slots) // (self.slots // self.stages)
        first = np.arange(self.layers).reshape(-1, *(1,) * (codes.ndim - 1)) * self.sets + sets
        return np.moveaxis(first * self.size + codes, 0, -3).reshape(*codes.shape[1:-2], -1)

    def beside(self, amplitudes: np.ndarray) -> np.ndarray:
        """Amplitudes [L, ..., (G,) k] in the order of `flat`."""
        amplitudes = amplitudes if self.grouped else amplitudes[..., None, :]
        return np.moveaxis(amplitudes, 0, -3).reshape(*amplitudes.shape[1:-2], -1)


@dataclasses.dataclass(frozen=True)
class Read:
    """Some rows: `tokens` int32 [B, T], `there` bool [B, T] where they are no padding, and what was saved of each site,
    [L, B, T, (G,) k]; `amplitudes` of sparse codes; the `split` that they are of."""

    tokens: np.ndarray
    there: np.ndarray
    codes: Mapping[str, np.ndarray]
    amplitudes: Mapping[str, np.ndarray]
    split: str = TEST


class Reader:
    """A trained model with codebooks, and its data.

    Raises:
      UserError: it has no codebooks, or its data are no rows of tokens.
    """

    def __init__(self, opened: TrainedRun):
        self.opened = opened
        self.task = opened.program.learner.forward.task
        self.batch = 32
        self.splits = tuple(name for name in (TEST, "validation", "train") if len(opened.dataset.rows.get(name, ())))
        first = next(self._batches(self.splits[0]))
        shapes = jax.eval_shape(functools.partial(_saved, f"{SAVED}|{LAYERS}", self.task), *split(opened.model), first)
        self.sites = tuple(sites_of(opened.model, shapes[2]))
        if not self.sites:
            name = type(opened.program.run.model).__name__
            raise UserError(f"codes: this {name} has no codebooks; put some in, as "
                            "--config.model.block.at=... or Sequential(between=...) do")  # fmt: skip

    @property
    def description(self) -> Description:
        return self.opened.dataset.description

    def __call__(self, tokens: int) -> Iterator[Read]:
        """Rows in order until `tokens` tokens were read: of the test split, then of validation, then of train."""
        parts, count = split(self.opened.model), 0
        run = jax.jit(functools.partial(_saved, SAVED, self.task), static_argnums=0)
        for name in self.splits:
            for batch in self._batches(name):
                read, there, saved = jax.device_get(run(*parts, batch))
                kinds: dict[str, dict[str, np.ndarray]] = {"codes": {}, "amplitudes": {}}
                for full, value in saved.items():
                    site, _, kind = full.rpartition(".")
                    kinds[kind][site] = value
                yield Read(read, there, **kinds, split=name)
                count += int(there.sum())
                if count >= tokens:
                    return

    def _batches(self, name: str) -> Iterator[Mapping[str, np.ndarray]]:
        """Whole batches of a split; the rows that fill up the last one are padding."""
        yield from self.opened.dataset.evaluation(name, self.batch, 0, 1)


def _saved(save: str, task: Any, graphdef: Any, params: Any, buffers: Any, batch: Any) -> tuple[Any, Any, Any]:
    """(tokens, where they are no padding, what the model saves) of the rows of a batch."""
    from train.forward import ROW  # rows know their number, which random masks depend on

    rows = {name: value for name, value in batch.items() if name != ROW}
    number = batch[ROW] if ROW in batch else np.arange(len(next(iter(rows.values()))))
    keys = jax.vmap(jax.random.fold_in, (None, 0))(jax.random.key(0), number)
    inputs, _ = task.prepare(rows, keys)
    if inputs.tokens is None:
        raise UserError("codes: the model reads no tokens")
    out = merge(graphdef, params, buffers)(inputs, tap=Tap(save=save, strict=False))
    there = inputs.tokens == inputs.tokens if inputs.segments is None else inputs.segments > 0
    return inputs.tokens, there, {name: by_layer(name, value) for name, value in out.taps.items()}


def is_between(site: str) -> bool:
    """Whether the bottleneck of a site is between layers."""
    return BETWEEN.fullmatch(site.rpartition(".")[2]) is not None


def stands_at(site: str) -> str:
    """The tap site whose value the bottleneck of `site` makes."""
    return f"{site}.out" if is_between(site) else site


def by_layer(name: str, value: Any) -> Any:
    """With an axis of layers first."""
    if re.fullmatch(LAYERS, name):
        return value
    if isinstance(value, tuple):
        raise UserError(f"codes: the layers have codebooks of unlike shapes at {name.rpartition('.')[0]}")
    return value[None] if is_between(name.rpartition(".")[0]) else value


def sites_of(model: nnx.Module, saved: Mapping[str, Any]) -> Iterator[Site]:
    """The sites of a model that saved `SAVED` and `LAYERS`, arrays or their shapes, layers first.

    Raises:
      UserError: only some layers of a stack have codes at a site: what is saved does not tell which, so that a code
        could not be named by its layer. Or codes have two axes of groups, as those of PerHead(Grouped(...)).
    """
    for name, shape in saved.items():
        if not name.endswith(CODES):
            continue
        site = name.removesuffix(CODES)
        layers = _depth(site, saved)
        if layers not in (None, shape.shape[0]):
            raise UserError(f"codes: {shape.shape[0]} of {layers} layers have codebooks at {site}; they are read where "
                            "all have")  # fmt: skip
        if len(shape.shape) > 5:
            raise UserError(f"codes: at {site} quantisers stand side by side within others that do; they are read "
                            "where there is one axis of them")  # fmt: skip
        sets = counts_shape(quantizer_of(model, site))
        grouped = len(shape.shape) > 4
        groups, slots = shape.shape[-2] if grouped else 1, shape.shape[-1]
        stages = int(np.prod(sets[:-1], dtype=int)) // groups
        yield Site(site, shape.shape[0], groups, grouped, sets[-1], slots, stages, f"{site}.amplitudes" in saved)


def _depth(site: str, saved: Mapping[str, Any]) -> int | None:
    """How many layers the stack has that `site` is in; None: it is between layers, or nobody knows."""
    pieces = site.split(".")
    if BETWEEN.fullmatch(pieces[-1]):
        return None
    for scope in range(len(pieces) - 1, -1, -1):
        found = saved.get(".".join([*pieces[:scope], "resid_post"]))
        if found is not None:
            return len(found) if isinstance(found, tuple) else int(found.shape[0])
    return None


def quantizer_of(model: nnx.Module, site: str) -> Quantizer:
    """The part that makes the codes of a site, with its layers stacked; the first, where loops of a pattern have one
    each. Raises UserError if they are of several sizes."""
    mine = [part for path, part, _ in quantizers(model) if _is(path, site)]
    sizes = {counts_shape(part) for part in mine}
    if len(sizes) != 1:
        raise UserError(f"codes: the codebooks at {site} are of several sizes: {sorted(sizes)}")
    return mine[0]


def not_alone(model: nnx.Module, site: str) -> str:
    """Why no code of `site` can be activated by itself, in a line; "" if each can, or there are none."""
    for part in (part for path, part, _ in quantizers(model) if _is(path, site)):
        inner = innermost(part)
        if isinstance(inner, SparseLayer):
            return f"the codes of {site} have amplitudes, and mean nothing without them"
        if isinstance(inner, ResidualLayer):
            return f"the codes of {site} are chosen in stages, of which none stands alone"
    return ""


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
    """The shape of the counts of a quantiser, without the axis of layers: [C], [G, C], [stages, C], [G, stages, C]."""
    rows = [row for name, row in metadata(part, Buffer).items() if re.search(r"(^|\.)counts$", name)]
    shapes = {tuple(row["shape"])[sum(axis == "layers" for axis in row["axes"]) :] for row in rows}
    if len(shapes) != 1:
        raise UserError(f"codes: {type(part).__name__} counts no codes, so that nobody can tell how many it has")
    (shape,) = shapes
    staged = any(re.search(r"(^|\.)stages\.", name) for name in metadata(part, Buffer))
    return (*shape[:-1], len(rows), shape[-1]) if staged else shape
