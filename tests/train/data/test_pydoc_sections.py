"""Paragraphs know the section that they are of."""

import sys
import types

import pytest

from arch.spec import SpecError, UserError
from train.data.pydoc_sections import PydocSections

SECTIONS = (("even", ("t0", "t2")), ("odd", ("t1",)))


@pytest.fixture
def topics(monkeypatch):
    text = {f"t{i}": "\n\n".join(f"Paragraph {n} of {i}." for n in range(40)) + "\n\nShared." for i in range(4)}
    monkeypatch.setitem(sys.modules, "pydoc_data.topics", types.SimpleNamespace(topics=text))


def test_sections_of_paragraphs(topics):
    source = PydocSections(SECTIONS, validation=0.2, test=0.2)
    corpus = source.build()
    pairs = [pair for split in corpus.splits for pair in corpus.columns(split, "text", "section")]
    assert len(pairs) == 3 * 40 + 1
    for text, section in pairs:
        assert text == "Shared." or section == ("odd" if text.endswith("of 1.") else "even")
    assert len(list(corpus.texts("test"))) > 5
    assert source.identity() != PydocSections(SECTIONS[::-1], validation=0.2, test=0.2).identity()


def test_what_is_no_pair_of_sections(topics):
    with pytest.raises(SpecError, match="two or more"):
        PydocSections(SECTIONS[:1])
    with pytest.raises(UserError, match="no topic debugger"):
        PydocSections().build()
