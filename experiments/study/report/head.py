"""The head that all pages begin with: encoding, width, title, and the colours of light and dark."""

from __future__ import annotations

import html
import string
from pathlib import Path

TEMPLATE = Path(__file__).with_name("head.html")


def head(title: str) -> str:
    """What stands first in <head>; colours are the properties --ink, --soft, --paper, --card, --line and --link."""
    return string.Template(TEMPLATE.read_text(encoding="utf-8")).substitute(title=html.escape(title)).rstrip()
