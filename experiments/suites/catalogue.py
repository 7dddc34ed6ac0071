"""Suites: scores that are taken together, by name (`launch.py evaluate --suite=language`)."""

from __future__ import annotations

import importlib
from collections.abc import Mapping

from arch.spec import UserError
from experiments.suites.base import Score
from experiments.suites.fine_tuned import ReplacedTokens, SameText
from experiments.suites.likelihood import Choice, Cloze, NextToken
from experiments.suites.pair_retrieval import PairRetrieval
from experiments.suites.recovery import Recovery
from experiments.suites.retrieval import Retrieval
from experiments.suites.same_pair import SamePair
from experiments.suites.translation import Translation
from train.run import Run

LANGUAGE: tuple[Score, ...] = (NextToken(), Cloze(), Choice(), Retrieval())
"""next_token is a decoder's own and unfair to an encoder, cloze an encoder's own and unfair to a decoder; choice and
retrieval are taken of each as it does them best."""

TRANSLATION: tuple[Score, ...] = (NextToken(), Translation())

FINE_TUNED: tuple[Score, ...] = (ReplacedTokens(), SameText())
"""Tasks that both families are trained for alike. In the first both sides of a token matter."""

FINE_TUNED_PAIRS: tuple[Score, ...] = (SamePair(),)
"""The same of two renderings of a verse: for models of English text."""

RETRIEVAL: tuple[Score, ...] = (Retrieval(), PairRetrieval())
"""Texts found by their vectors, the second with hard negatives: for models of English text."""

EMBEDDING: tuple[Score, ...] = (PairRetrieval(),)
"""The same of an embedder, which has one vector a text and no states of tokens."""

SUITES: Mapping[str, tuple[Score, ...]] = {
    "language": LANGUAGE,
    "translation": TRANSLATION,
    "fine_tuned": FINE_TUNED,
    "fine_tuned_pairs": FINE_TUNED_PAIRS,
    "retrieval": RETRIEVAL,
    "embedding": EMBEDDING,
    "recovery": (Recovery(),),
}


def named(suite: str, run: Run) -> tuple[Score, ...]:
    """The scores of the suite called so, or those at MODULE:NAME, where a model of `run` can be scored by all.

    Raises:
      UserError: there is none, or the model cannot be scored by one of its scores.
    """
    scores = SUITES.get(suite)
    if scores is None:
        module, _, name = suite.partition(":")
        try:
            scores = getattr(importlib.import_module(module), name)
        except (ImportError, AttributeError, ValueError):
            scores = None
        if not isinstance(scores, tuple) or not all(isinstance(one, Score) for one in scores):
            raise UserError(f"suite={suite}: must be one of {', '.join(SUITES)}, or MODULE:NAME of a tuple of scores")
    for why in filter(None, (one.refusal(run) for one in scores)):
        raise UserError(f"suite={suite}: {why}")
    return scores
