"""Readable names of points: `depth=4 lr=1e-3` for `model.depth=4`, `optimizer.learning_rate=0.001`."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

SHORT = {"learning_rate": "lr"}


def value_text(value: Any) -> str:
    """A value as an override has it, numbers in their shortest form: 0.001 is `1e-3`. Text stays as it is."""
    if isinstance(value, bool):
        return str(value).lower()
    if not isinstance(value, float) or not math.isfinite(value):
        return str(value)
    plain = repr(value).removesuffix(".0") if abs(value) < 1e16 else repr(value)
    scientific = next(text for text in (f"{value:.{digits}e}" for digits in range(17)) if float(text) == value)
    mantissa, _, exponent = scientific.partition("e")
    return min(plain, f"{mantissa}e{int(exponent)}", key=len)


def short_paths(paths: Sequence[str]) -> dict[str, str]:
    """Path -> as many of its last names as set it apart from the others; a place in a tuple never stands alone."""
    paths = list(dict.fromkeys(paths))
    result = {}
    for path in paths:
        others = [other for other in paths if other != path]
        names = path.split(".")
        for count in range(1, len(names) + 1):
            tail = ".".join(names[-count:])
            alone = not any(f".{other}".endswith(f".{tail}") for other in others)
            if alone and (not names[-count].isdigit() or count == len(names)):
                break
        result[path] = tail
    brief = {path: SHORT.get(tail, tail) for path, tail in result.items()}
    return brief if len(set(brief.values())) == len(brief) else result


def point_names(points: Sequence[Mapping[str, Any]]) -> list[str]:
    """A name for each point, all different if the points are. A point that changes nothing is `base`.

    A slash, which names of arms must not hold, becomes a bar.
    """
    short = short_paths([path for point in points for path in point])
    names = [
        " ".join(f"{short[path]}={value_text(value)}" for path, value in point.items()) or "base" for point in points
    ]
    names = [name.replace("/", "|") for name in names]
    count: dict[str, int] = {}
    for index, name in enumerate(names):
        count[name] = count.get(name, 0) + 1
        if count[name] > 1:  # text with spaces and equals signs in it
            names[index] = f"{name} #{count[name]}"
    return names
