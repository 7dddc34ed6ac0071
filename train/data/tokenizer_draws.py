"""Tokenizers that draw: BPE dropout (arXiv 1910.13267) and Unigram sampling (arXiv 1804.10959) encode one text in many
ways, for training alone. Here tokens are made once and evaluated on, so that equal text has equal tokens."""

from __future__ import annotations

import logging
from typing import Any

_log = logging.getLogger(__name__)


def draws_switched_off(tokenizer: Any, name: str) -> bool:
    """Switches off what encodes a text differently each time; whether there was anything, which one line tells."""
    model = tokenizer.model
    found = {"dropout": "BPE dropout", "alpha": "Unigram sampling", "nbest_size": "Unigram sampling"}
    on = {field: what for field, what in found.items() if getattr(model, field, None)}
    for field, what in on.items():
        _log.warning("%s: its %s of %g is switched off, so that equal text has equal tokens",
                     name, what, getattr(model, field))  # fmt: skip
        setattr(model, field, None)
    return bool(on)
