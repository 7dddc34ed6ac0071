"""A table of plain values, as CSV, HTML and for a terminal, and how values and names read."""

from __future__ import annotations

import csv
import dataclasses
import html
import io
import math
from collections.abc import Sequence
from typing import Any, Literal

from rich.box import SIMPLE_HEAD
from rich.table import Table as RichTable
from rich.text import Text

LABELS = {
    "loss": "loss (nats)",
    "bits_per_byte": "bits per byte",
    "error": "residual error of matching",
    "non_embedding": "parameters without embeddings",
    "body": "parameters without embeddings and head",
}
_HEADS = {LABELS["body"]: "body params", LABELS["non_embedding"]: "body params", "learning rate": "rate"}
"""Heads of columns where there is little room."""
_SPLITS = {"val": "validation", "train": "training"}


@dataclasses.dataclass(frozen=True)
class Table:
    """`rows` of plain values under `columns`; `name` is that of the CSV file."""

    name: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]

    def csv(self) -> str:
        """With numbers in full precision. Text that a spreadsheet would calculate stands behind an apostrophe."""
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(map(_inert, self.columns))
        writer.writerows([["" if value is None else _inert(value) for value in row] for row in self.rows])
        return out.getvalue()

    def cells(self) -> list[list[str]]:
        """As people read it."""
        return [[_said(name, value) for name, value in zip(self.columns, row, strict=True)] for row in self.rows]

    def numeric(self, column: int) -> bool:
        """Whether a column holds numbers, and is set flush right."""
        return all(
            value is None or (isinstance(value, (int, float)) and not isinstance(value, bool))
            for value in (row[column] for row in self.rows)
        )

    def html(self) -> str:
        """A table in a container that scrolls by itself."""
        kinds = ["number" if self.numeric(index) else "text" for index in range(len(self.columns))]
        head = "".join(
            f'<th scope="col" class="{kind}">{html.escape(name)}</th>'
            for kind, name in zip(kinds, self.columns, strict=True)
        )
        body = "".join(
            "<tr>"
            + "".join(f'<td class="{k}">{html.escape(v)}</td>' for k, v in zip(kinds, row, strict=True))
            + "</tr>"
            for row in self.cells()
        )
        return (
            f'<div class="scroll" tabindex="0" role="region" aria-label="{html.escape(self.name)}">'
            f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
        )

    def rich(self, whole: Sequence[int] = ()) -> RichTable:
        """For a terminal: large numbers as 1.3M. Where it is narrow, text folds; numbers and `whole` columns do not."""
        out = RichTable(box=SIMPLE_HEAD, pad_edge=False)
        out.padding = (0, 1, 0, 0)
        for index, name in enumerate(self.columns):
            head = _HEADS.get(name, name.replace("validation", "val.").replace("parameters", "params"))
            number = self.numeric(index)
            side: Literal["left", "right"] = "right" if number else "left"
            fixed = number or index in whole
            out.add_column(
                Text(head.replace(" ", "\n")), no_wrap=fixed, overflow="fold", justify=side, vertical="bottom"
            )
        for row in self.rows:
            out.add_row(*(Text(short(value)) for value in row))
        return out


def _inert(value: Any) -> Any:
    """A value that no spreadsheet takes for a formula: names come from configurations that others may have written."""
    if not isinstance(value, str) or len(value) < 2 or value[0] not in "=+-@\t\r":
        return value
    try:
        float(value)
    except ValueError:
        return "'" + value
    return value


def _said(column: str, value: Any) -> str:
    share = column == LABELS["error"] and isinstance(value, float) and math.isfinite(value)
    return f"{value:+.2%}" if share else text(value)


def text(value: Any, digits: int = 4) -> str:
    """A value as people read it: `digits` significant ones, thousands apart, yes and no."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "–"  # noqa: RUF001
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        if math.isinf(value):
            return "∞" if value > 0 else "-∞"
        if 10**digits <= abs(value) < 1e6 or (value.is_integer() and 1e4 <= abs(value) < 1e15):
            return f"{value:,.0f}"
        return f"{value:.{digits}g}" if abs(value) < 1e4 else f"{value:.3e}"
    if isinstance(value, (list, tuple)):
        return ", ".join(map(text, value))
    return str(value)


def short(value: Any, digits: int = 3) -> str:
    """As `text`, with large numbers as 1.3M, to `digits` significant ones."""
    if isinstance(value, (int, float)) and not isinstance(value, bool) and 1e4 <= abs(value) < 1e18:
        power = next(power for power in (15, 12, 9, 6, 3) if abs(value) >= 10**power)
        return f"{value / 10**power:.{digits}g}{'kMGTP'[power // 3 - 1]}"
    return text(value)


def label(name: str) -> str:
    """A metric or column in words, with its unit: `val/loss` is `validation loss (nats)`."""
    split, _, rest = name.rpartition("/")
    words = LABELS.get(rest, rest)
    return (
        " ".join(part for part in (_SPLITS.get(split, split), words) if part)
        .replace("_", " ")
        .replace("flops", "FLOPs")
    )


def between(low: float, high: float, digits: int = 4) -> str:
    """An interval as text."""
    return "–" if math.isnan(low) or math.isnan(high) else f"{text(low, digits)} to {text(high, digits)}"  # noqa: RUF001
