"""Is a tokenizer.json what it should be, before a library is given it?

A file that was sent may have the wrong types, ids up to 2^32, for each of which a model would have a row, or a regular
expression that takes time exponential in the length of a document, which nothing can interrupt.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterator
from typing import Any

from arch.spec import UserError

SPARE = 2**16
"""Ids that no token has, up to which a vocabulary may leave gaps."""

QUANTIFIER = re.compile(r"[*+?]|\{\d*,?\d*\}")
FIXED = re.compile(r"\{\d+\}")
OPENING = re.compile(r"\((?:\?(?:<?[=!]|[:>|]|<\w+>|'\w+'|[a-zA-Z-]*:))?")
SET = re.compile(r"\[\^?\]?(?:\\.|\[:?\^?\w*:?\]|[^\\\]])*\]", re.DOTALL)


def check(text: str, name: str) -> None:
    """Raises UserError, in one line, for what is no tokenizer.json that can be used; `name` is the file's."""
    try:
        held = json.loads(text)
        ids = {"model.vocab": _ids(held["model"]), "added_tokens": [token["id"] for token in held["added_tokens"]]}
        named = [token["content"] for token in held["added_tokens"]]
    except RecursionError as error:
        raise UserError(f"{name}: is not a tokenizer.json: it is nested too deeply") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{name}: is not a tokenizer.json ({type(error).__name__}: {error})") from error
    for content in named:
        if not isinstance(content, str):
            raise UserError(f"{name}: added_tokens: content must be text, not {content!r}")
    count = sum(map(len, ids.values()))
    for where, numbers in ids.items():
        for number in numbers:
            if type(number) is not int or number < 0:
                raise UserError(f"{name}: {where}: an id must be a whole number from 0 on, not {number!r}")
            if number >= 2 * count + SPARE:
                raise UserError(f"{name}: {where}: there is an id {number:,} although there are {count:,} tokens; ids "
                                "must count them, with few gaps, for a model has a row for each")  # fmt: skip
    for pattern in _patterns(held):
        if part := backtracking(pattern):
            raise UserError(f"{name}: the regular expression {_short(pattern)} may take forever: {_short(part)} "
                            "repeats what can be repeated, left out or chosen in itself")  # fmt: skip


@contextlib.contextmanager
def loading(name: str) -> Iterator[None]:
    """Makes one line of what the library makes of a file: plain Exceptions, and panics, which are not even those."""
    try:
        yield
    except (UserError, MemoryError):
        raise
    except BaseException as error:
        if isinstance(error, Exception) or type(error).__name__ == "PanicException":
            raise UserError(f"{name} is not a tokenizer.json: {' '.join(str(error).split())[:200]}") from error
        raise


def _ids(model: dict[str, Any]) -> list[Any]:
    """Those of the model's vocabulary, as a mapping or as the list of a unigram model."""
    vocab = model["vocab"]
    return list(range(len(vocab))) if isinstance(vocab, list) else list(vocab.values())


def _patterns(held: Any) -> Iterator[str]:
    """The regular expressions of a definition."""
    rest = [held]
    while rest:
        one = rest.pop()
        if isinstance(one, dict):
            rest += [value for key, value in one.items() if key != "vocab"]
            if isinstance(one.get("Regex"), str):
                yield one["Regex"]
        elif isinstance(one, list):
            rest += [value for value in one if isinstance(value, (dict, list))]


def backtracking(pattern: str) -> str:
    """A part of a regular expression that can match one text in exponentially many ways: a group, repeated without
    bound, in which something is repeated, optional, or an alternative; "" if there is none."""
    open_groups: list[tuple[int, bool]] = []  # where each began, and whether something in it varies
    varies, place, closed = False, 0, None
    while place < len(pattern):
        if pattern[place] == "\\":
            place, closed = place + 2, None
            if pattern[place - 1 : place] in "pP" and (braces := re.compile(r"\{[^}]*\}").match(pattern, place)):
                place = braces.end()
        elif found := SET.match(pattern, place):
            place, closed = found.end(), None
        elif found := OPENING.match(pattern, place):
            open_groups.append((place, varies))
            varies, place, closed = False, found.end(), None
        elif pattern[place] == ")" and open_groups:
            start, outer = open_groups.pop()
            closed = (start, varies)
            varies, place = varies or outer, place + 1
        elif found := QUANTIFIER.match(pattern, place):
            if closed is not None and closed[1] and _unbounded(found[0]):
                return pattern[closed[0] : found.end()]
            varies = varies or not FIXED.fullmatch(found[0])
            place, closed = found.end(), None
        else:
            varies = varies or pattern[place] == "|"
            place, closed = place + 1, None
    return ""


def _unbounded(quantifier: str) -> bool:
    """Whether it repeats without a bound, or so often that it makes no difference."""
    if quantifier in "*+":
        return True
    most = quantifier.strip("{}?").rpartition(",")[2]
    return quantifier != "?" and (not most or int(most) > 8)


def _short(text: str) -> str:
    return repr(text if len(text) <= 60 else text[:57] + "...")
