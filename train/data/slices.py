"""Parts of splits in the notation of TFDS, `train[:95%]+test`: two of them that share records."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

from arch.spec import UserError


def refuse_overlap(what: str, parts: Mapping[str, str], splits: Any) -> None:
    """Raises UserError if two of `parts`, name -> expression over the `splits` of a builder, share records, or if
    one has none."""
    from tensorflow_datasets.core.splits import AbstractSplit  # TFDS takes most of a second to import

    ranges = {}
    for name, part in parts.items():
        found = AbstractSplit.from_spec(part).to_absolute(splits)
        ranges[name] = [(one.splitname, one.from_ or 0, _end(one.to, splits[one.splitname])) for one in found]
        if any(begin >= end for _, begin, end in ranges[name]):  # TFDS takes the end before the beginning for records
            raise UserError(f"{what}: {name}={part!r} has a part without records; give a larger one")
    for one, other in itertools.combinations(ranges, 2):
        shared = sum(
            max(0, min(end, its_end) - max(begin, its_begin))
            for (split, begin, end), (its, its_begin, its_end) in itertools.product(ranges[one], ranges[other])
            if split == its
        )
        if shared:
            raise UserError(f"{what}: {one}={parts[one]!r} and {other}={parts[other]!r} share {shared} records; give "
                            "parts that do not overlap, such as 'train[:95%]' and 'train[95%:]'")  # fmt: skip


def _end(end: int | None, split: Any) -> int:
    return split.num_examples if end is None else end
