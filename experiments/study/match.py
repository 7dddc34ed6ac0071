"""Matching: arms of different shapes made comparable, by equal parameters, equal FLOPs or equal heads.

`match(base, depth=(1, 2, 4, 8), hold="params")` keeps the head width and the shape of the feed-forward, and finds the
model width, a multiple of `unit`, and then the feed-forward width, a multiple of 8, whose count comes nearest to that
of `base`. `hold="heads_total"` is the dial of "Wide Attention Is The Way Forward For Transformers?" (arXiv 2210.00640):
layers times heads stays, the head width and everything else stays too, and parameters do not.

`hold="bits"` is of networks with discrete bottlenecks: what the codes of a token take at most, over all sites. No width
changes it, so that `match` refuses it; `at_equal_bits` sets a size of each bottleneck, and a study's Match checks it.

Of an encoder-decoder the depth is a pair, `depth=[(4, 2), (3, 3), (2, 4)]`, and both halves have the width that is
found. A table that the halves share counts once. Families are made comparable by what a whole run spends:
`at_equal_flops`.

`match(tolerance=)` and a study's `Match(tolerance=)` ask the same: no run may be further above the smallest than that,
as a fraction of the smallest. For `match` the base is one of the runs; so what it returns, such a study accepts.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Literal, get_args

from arch import cost
from arch.bottlenecks.rate import ceiling
from arch.spec import Problem, Spec, UserError, above, one_of
from experiments.study.sweeps.dials import (
    Depth,
    DifferError,
    depth_name,
    depth_of,
    dials,
    get,
    head_dim,
    is_pair,
    ratio,
    turned,
    value,
)
from train.estimate import row_flops
from train.run import Run

Hold = Literal["params", "params_nonembed", "params_body", "train_flops", "train_flops_total", "heads_total", "bits"]
HIDDEN_UNIT = 8
WIDEST = 2**20
"""No model is this wide: a search that comes here has met a cost that the width does not change."""

NEAR = 2
"""How many widths on either side of the best are tried with a feed-forward of another proportion."""

STRETCH = 1.5
"""How far the feed-forward width may leave its proportion to the model width, as a factor."""


@dataclasses.dataclass(frozen=True)
class Match(Spec):
    """All arms of a study agree in `hold` (its words are in `match`) to `tolerance`, a fraction of the smallest."""

    hold: Hold = "params"
    tolerance: float = 0.01

    def problems(self) -> Iterator[Problem]:
        yield from one_of(self, "hold", get_args(Hold))
        yield from above(self, 0, "tolerance")


def mismatch(match: Match, arms: Mapping[str, Run]) -> Iterator[Problem]:
    """The arms that do not agree with the smallest."""
    counts = {name: count(run, match.hold) for name, run in arms.items()}
    if match.hold == "bits":  # an arm without a bottleneck is what the others are put into
        counts = {name: bits for name, bits in counts.items() if bits}
    for line in apart(counts, match.hold, match.tolerance):
        yield Problem("match.tolerance", match.tolerance, f"{line}; match the arms, or allow more")


def apart(counts: Mapping[str, int], hold: Hold, tolerance: float) -> Iterator[str]:
    """A line for each of these that is further above the smallest than `tolerance`."""
    smallest = min(counts, key=lambda name: counts[name], default="")
    for name, number in counts.items():
        if excess(number, counts[smallest]) > tolerance:
            error = excess(number, counts[smallest])
            yield f"{name} has {number:,} {hold}, {error:+.1%} off {smallest}'s {counts[smallest]:,}"


def excess(one: float, other: float) -> float:
    """By what fraction of the smaller the larger exceeds it."""
    return max(one, other) / max(min(one, other), 1) - 1


@functools.lru_cache(maxsize=1024)
def count(run: Run, hold: Hold) -> int:
    """What `hold` keeps equal, of one run. FLOPs are those of training on one row, or of all steps together."""
    if hold == "train_flops":
        return 3 * row_flops(run)
    if hold == "train_flops_total":
        return step_flops(run) * run.steps
    if hold == "heads_total":
        if is_pair(run):
            raise UserError("match: hold='heads_total' is of models with one stack; a pair has two depths")
        return int(get(run, "depth")) * int(get(run, "heads"))
    if hold == "bits":
        return round(ceiling(run.abstract_model()))
    counts = cost.parameters(run.model)
    return {"params": counts.total, "params_nonembed": counts.non_embedding, "params_body": counts.body}[hold]


def step_flops(run: Run) -> int:
    """FLOPs of one update: three forward passes of every row, what rematerialisation repeats not counted."""
    return 3 * row_flops(run) * run.batch


def steps_for(run: Run, flops: int) -> int:
    """How many updates of `run` come nearest to `flops`.

    Raises:
      UserError: none does; a single one has more than twice that.
    """
    one = step_flops(run)
    if (steps := (2 * flops + one) // (2 * one)) < 1:
        raise UserError(f"match: an update has {one:,} FLOPs, and {flops:,} are to be spent; make the batch smaller")
    return steps


def at_equal_flops(base: Run, others: Mapping[str, Run]) -> dict[str, Run]:
    """`others` with as many steps as spend what `base` spends in all: a decoder-only model on source and target against
    an encoder-decoder, each on its own data. They agree to half an update; schedules given as fractions move along."""
    flops = count(base, "train_flops_total")
    return {name: dataclasses.replace(run, steps=steps_for(run, flops)) for name, run in others.items()}


def shape(run: Run) -> dict[str, float | int | str]:
    """The row of an arm in the matched table: its dials and its costs, those that it has."""
    found: dict[str, float | int | str] = {}
    for name in dials(run):
        with contextlib.suppress(DifferError):  # has no one value to show
            if (one := value(run, name)) is not None:
                found[name] = one
    counts = cost.parameters(run.model)
    found |= {"parameters": counts.total, "non_embedding": counts.non_embedding, "body": counts.body}
    with contextlib.suppress(cost.UncountedError):
        found["train_flops"] = 3 * row_flops(run)
    return found


def match(
    base: Run,
    *,
    depth: Sequence[Depth] | None = None,
    heads: Sequence[int] | None = None,
    hold: Hold = "params",
    unit: int = 8,
    tolerance: float = 0.01,
) -> dict[str, Run]:
    """Runs like `base` of other shapes that agree with it in `hold`; name -> run, "depth=4" or "depth=4 heads=8".
    Of a pair "depth=4+2": the layers of the encoder and of the decoder.

    Args:
      base: what is matched; its own shape need not be among the cells.
      depth, heads: the dials; of a pair a depth is (source, target). Both: cell i has depth[i] and heads[i]. `heads`
        alone keeps the depth.
      hold: what stays equal.
        "params": all parameters.
        "params_nonembed": without the tables of tokens and learned positions. An untied output head counts, and with a
          large vocabulary it is most of what is held: the layers get what it leaves over.
        "params_body": without those tables and the output head: the layers, their norms, and all else.
        "train_flops": FLOPs of training on one row, three times those of its forward pass, the head included.
        "train_flops_total": those of all steps of the run.
        "heads_total": layers times heads. Sets the heads itself and changes no width.
      unit: model widths are multiples of it. Heads keep their width, and are as many as come nearest to the model's.
      tolerance: how far any of the base and the cells may be above the smallest, as a fraction of it.

    Raises:
      UserError: a cell cannot be matched; names it, and the nearest it came.
    """
    if hold not in get_args(Hold):
        raise UserError(f"match: hold={hold!r}: must be one of {', '.join(get_args(Hold))}")
    for one in depth or ():
        if isinstance(one, tuple) != is_pair(base) or (isinstance(one, tuple) and len(one) != 2):
            told = "(source, target), a depth for each half" if is_pair(base) else "one number: the model has one stack"
            raise UserError(f"match: depth={one}: must be {told}")
    if unit < 1 or any(layers < 1 for one in depth or () for layers in (one if isinstance(one, tuple) else (one,))):
        raise UserError(f"match: unit={unit} and depth={depth}: must be at least 1")
    if depth is None and heads is None:
        raise UserError("match needs depth=... or heads=...")
    if depth is not None and heads is not None and len(depth) != len(heads):
        raise UserError(f"match: {len(depth)} depths and {len(heads)} heads must be as many, cell by cell")
    if hold == "bits":
        raise UserError("match: hold='bits' does not change with the shape of a model; at_equal_bits sets bottlenecks")
    if hold == "heads_total" and heads is not None:
        raise UserError("match: hold='heads_total' sets the heads itself; give depth alone")
    cells = zip(
        depth if depth is not None else [depth_of(base)] * len(heads or ()),
        heads if heads is not None else [None] * len(depth or ()),
        strict=True,
    )
    found = dict(_cell(base, d, h, hold, unit, tolerance) for d, h in cells)
    for line in apart({name: count(run, hold) for name, run in found.items()}, hold, tolerance):
        raise UserError(f"match: {line}, over the tolerance {tolerance:.1%}, although both are within it of the base")
    return found


def _cell(base: Run, depth: Depth, heads: int | None, hold: Hold, unit: int, tolerance: float) -> tuple[str, Run]:
    name = f"depth={depth_name(depth)}" + ("" if heads is None else f" heads={heads}")
    if hold == "heads_total":
        total, fixed = count(base, hold), head_dim(base)
        assert isinstance(depth, int)  # `count` refuses a pair
        if total % depth:
            raise UserError(f"match: {name} is unreachable: depth must divide the {total} heads in all")
        return name, turned(base, depth=depth, heads=total // depth, head_dim=fixed)
    target = count(base, hold)
    found = _search(base, depth, heads, hold, target, unit)
    if excess(count(found, hold), target) > tolerance:
        error = count(found, hold) / target - 1
        near = f"width {get(found, 'width')} comes nearest with {error:+.1%}"
        raise UserError(f"match: {name} is unreachable with hold={hold!r}: {near}, over the tolerance {tolerance:.1%}")
    return name, found


def _search(base: Run, depth: Depth, heads: int | None, hold: Hold, target: int, unit: int) -> Run:
    """The run of this depth that comes nearest to `target`: by width, then by the width of the feed-forward."""
    dim, share, step = head_dim(base), ratio(base), unit

    def at(width: int, hidden: int | None = None) -> Run:
        own = max(1, round(width / dim)) if heads is None and dim else heads
        hidden = hidden if share is None or hidden is not None else _round(share * width)
        return turned(base, depth=depth, width=width, heads=own, head_dim=dim, hidden=hidden)

    size = lambda units: count(at(units * step), hold)  # noqa: E731
    low, high = 1, 2
    while size(high) < target:
        low, high = high, 2 * high
        if high * step > WIDEST:
            raise UserError(f"match: no width up to {WIDEST:,} brings {hold} to {target:,}; is the width of influence?")
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if size(middle) <= target else (low, middle)
    candidates = [at(low * step), at(high * step)]
    if share is not None:
        near = range(max(1, low - NEAR), high + NEAR + 1)
        candidates += [_stretched(at, width * step, share, hold, target) for width in near]
    return min(candidates, key=lambda run: abs(count(run, hold) - target))


def _stretched(at: Callable[..., Run], width: int, ratio: float, hold: Hold, target: int) -> Run:
    """The run of this width with the feed-forward width that comes nearest; costs are linear in it.

    Where it has no influence on what is held, the feed-forward keeps its proportion.
    """
    narrow, wide = _round(ratio * width / STRETCH), _round(ratio * width * STRETCH)
    low, high = count(at(width, narrow), hold), count(at(width, wide), hold)
    if low == high:
        return at(width)
    ideal = narrow + (target - low) * (wide - narrow) / (high - low)
    return at(width, _round(min(max(ideal, ratio * width / STRETCH), ratio * width * STRETCH)))


def _round(hidden: float) -> int:
    return max(1, round(hidden / HIDDEN_UNIT)) * HIDDEN_UNIT
