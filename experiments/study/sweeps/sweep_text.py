"""Sweeps from the command line.

    --sweep='model.depth=1,2,4,8;optimizer.learning_rate=1e-3,3e-3'       every combination
    --sweep='zip: model.depth=1,4; model.width=64,32'                     the first together, the second together
    --sweep='sample 8 seed 1: optimizer.learning_rate=log(1e-4,1e-2); model.depth=1,2,4'
    --sweep='model.depth=1,2,4; model.width=32,64 where depth*width<=128'

Values read as those of `--config.PATH=VALUE`; a tuple among them needs brackets. In a sample, `log(low,high)` and
`uniform(low,high)` are ranges, and listed values are chosen from.
"""

from __future__ import annotations

import re

from arch.spec import SpecError, UserError
from experiments.config.errors import ConfigError
from experiments.config.parts import UnfitError, split
from experiments.study.sweeps.draws import Choice, Distribution, LogUniform, Uniform
from experiments.study.sweeps.sweep import Grid, Sample, Sweep, Where, Zip

KIND = re.compile(r"\s*(?:(grid|zip)|sample\s+(\d+)(?:\s+seed\s+(\d+))?)\s*:\s*(.*)", re.DOTALL)
RANGES: dict[str, type[Uniform] | type[LogUniform]] = {"log": LogUniform, "uniform": Uniform}
DIGITS = 18
"""Of a number; Python reads no more than some thousand."""
FORM = "as model.depth=1,2,4; model.width=32,64"


def from_text(text: str) -> Sweep:
    """The sweep that `text` describes. Raises ConfigError with a line for each mistake."""
    try:
        return _sweep(text)
    except ConfigError:
        raise
    except SpecError as error:
        raise ConfigError(f"--sweep: {line}" for line in str(error).splitlines()) from error
    except UserError as error:
        raise ConfigError([f"--sweep: {error}"]) from error


def _sweep(text: str) -> Sweep:
    body, *conditions = re.split(r"\s+where\s+", text.strip())
    if len(conditions) > 1:
        raise UserError("has two conditions; join them by and")
    match = KIND.fullmatch(body)
    kind, count, seed, body = match.groups() if match else ("grid", None, None, body)
    if not match and re.match(r"\s*\w+(\s[\w\s]*)?:", body):
        raise UserError(f"{body.partition(':')[0].strip()}: no such kind; grid:, zip: or sample COUNT [seed SEED]:")
    if max(map(len, filter(None, (count, seed))), default=0) > DIGITS:
        raise UserError(f"sample COUNT [seed SEED]: numbers of at most {DIGITS} digits")
    axes = _axes(body)
    sweep: Sweep
    if count:
        sweep = Sample({path: _distribution(path, values) for path, values in axes.items()}, int(count), int(seed or 0))
    else:
        sweep = Zip(axes) if kind == "zip" else Grid(axes)
    return Where(sweep, conditions[0]) if conditions else sweep


def _axes(body: str) -> dict[str, tuple[str, ...]]:
    axes: dict[str, tuple[str, ...]] = {}
    lines = []
    for piece in filter(None, _split(body, ";")):
        path, equals, values = (part.strip() for part in piece.partition("="))
        path = path.removeprefix("--").removeprefix("config.")
        found = tuple(_split(values, ","))
        if not equals or not all(path.split(".")) or not found:
            lines.append(f"--sweep: {piece}: expected a field and its values, {FORM}")
        elif path in axes:
            lines.append(f"--sweep: {path}: is given twice; list all its values once")
        axes[path] = found
    if not axes:
        lines.append(f"--sweep: names no field; give it {FORM}")
    if lines:
        raise ConfigError(lines)
    return axes


def _distribution(path: str, values: tuple[str, ...]) -> Distribution:
    match = re.fullmatch(r"(\w+)\(([^,()]*),([^,()]*)\)", values[0]) if len(values) == 1 else None
    if not match or match[1] not in RANGES:
        return Choice(values)
    try:
        return RANGES[match[1]](float(match[2]), float(match[3]))
    except ValueError as error:
        if isinstance(error, SpecError):
            raise UserError(f"{path}={values[0]}: {str(error).splitlines()[0]}") from error
        raise UserError(f"{path}={values[0]}: needs two numbers, as {match[1]}(1e-4,1e-2)") from None


def _split(text: str, separator: str) -> list[str]:
    try:
        return split(text, separator)
    except UnfitError as error:
        raise UserError(str(error)) from error
