"""Codes as one HTML page that needs nothing else: what each fires on, makes likely, is near to, and writes when active.

The data lie in the page, compressed, and are unpacked by the browser.
"""

from __future__ import annotations

import base64
import dataclasses
import gzip
import html
import json
import string
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from experiments.codes.contexts import Gathered
from experiments.codes.effects import Effects
from experiments.codes.reading import Site
from experiments.study.report.head import head

TEMPLATE = Path(__file__).with_name("page.html")
LIMIT = 5_000_000
"""Bytes of a page. What does not fit is left out: contexts first, a half at a time."""

BEFORE, AFTER = 12, 6
"""Tokens of a context around the one that a code fires on."""

Decode = Callable[[Sequence[int]], str]


@dataclasses.dataclass(frozen=True)
class Shown:
    """What a page shows of one site. `samples`: number of a code among all of the site -> text."""

    site: Site
    effects: Effects
    samples: Mapping[int, str]


def page(title: str, summary: str, read: Gathered, sites: Sequence[Shown], decode: Decode, limit: int = LIMIT) -> str:
    """The page, of at most `limit` bytes.

    Args:
      title, summary: what was read.
      read: counts and places.
      sites: what is shown, in order.
      decode: tokens -> text.
      limit: bytes.
    """
    template = string.Template(TEMPLATE.read_text(encoding="utf-8"))
    most = max((int(np.diff(read.places[shown.site.name].of()[0]).max(initial=0)) for shown in sites), default=0)
    while True:
        sets = [one for shown in sites for one in _sets(shown, read, decode, most)]
        data = json.dumps({"read": read.count, "sets": sets}, ensure_ascii=False, separators=(",", ":"))
        packed = base64.b64encode(gzip.compress(data.encode(), 6, mtime=0)).decode()
        less = "" if most else "; there was no room for contexts"
        text = template.substitute(
            head=head(title), title=html.escape(title), summary=html.escape(summary + less), data=packed
        )
        if len(text.encode()) <= limit or most == 0:
            return text
        most //= 2


def set_names(site: Site) -> list[str]:
    """What the sets of codes of all layers are called, in order."""
    inner = "head" if site.name.endswith("attn.z") else "group"
    names = []
    for layer in range(site.layers):
        for group in range(site.groups):
            for stage in range(site.stages):
                pieces = [site.name, f"layer {layer}"]
                pieces += [f"{inner} {group}"] if site.groups > 1 else []
                pieces += [f"stage {stage}"] if site.stages > 1 else []
                names.append(", ".join(pieces))
    return names


def _sets(shown: Shown, read: Gathered, decode: Decode, most: int) -> list[dict[str, Any]]:
    site, effects, places = shown.site, shown.effects, read.places[shown.site.name]
    first, where = places.of()
    counts = places.counts.reshape(-1, site.size)
    sparse = bool(places.mass.any())
    out = []
    for at, name in enumerate(set_names(site)):
        codes = []
        for code in np.argsort(-counts[at], kind="stable"):
            number = at * site.size + int(code)
            if not places.counts[number]:
                break
            mine = where[first[number] : first[number + 1]][:most]
            row: list[Any] = [int(code), int(counts[at, code]), [context(read.tokens, int(p), decode) for p in mine]]
            row.append(effects.near[at, code].tolist())
            if effects.up is not None and effects.down is not None and effects.lift is not None:
                lift = [f"{value:.2f}" for value in effects.lift[at, code]]
                row.append(
                    [[decode([token]), much] for token, much in zip(effects.up[at, code].tolist(), lift, strict=True)]
                )
                row.append([decode([token]) for token in effects.down[at, code].tolist()])
            else:
                row += [None, None]
            row.append(shown.samples.get(number))
            codes.append(row)
        out.append({"name": name, "size": site.size, "sparse": sparse, "codes": codes})
    return out


def context(tokens: np.ndarray, place: int, decode: Decode) -> tuple[str, str, str]:
    """The text before, at and after a place, within its row."""
    before = tokens[max(place - BEFORE, 0) : place]
    after = tokens[place + 1 : place + 1 + AFTER]
    gaps = np.flatnonzero(before < 0)
    before = before[gaps[-1] + 1 :] if len(gaps) else before
    gaps = np.flatnonzero(after < 0)
    after = after[: gaps[0]] if len(gaps) else after
    return decode(before.tolist()), decode([int(tokens[place])]), decode(after.tolist())
