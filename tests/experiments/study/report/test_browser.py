"""The page in a browser, at a phone's width and a desktop's."""

import dataclasses

import pytest

from experiments.study.report import page as pages
from tests import browser

PROVENANCE = {"system": "Linux-6.18.44-x86_64-with-glibc2.36", "devices": "a kind of chip with a very long name " * 3}


@browser.needed
@pytest.mark.parametrize("width", [390, 1280])
def test_in_a_browser_nothing_overflows(text, tmp_path, width):
    """The page is no wider than its window, and the console is silent."""
    inner, page = browser.seen(text, tmp_path, width, browser.FITS)
    assert int(inner) == width
    assert int(page) <= width


@browser.needed
def test_words_in_a_table_wrap_on_a_phone(results, tmp_path):
    """Only tables of many numbers are scrolled sideways."""
    text = pages.page(dataclasses.replace(results, provenance=PROVENANCE), [])
    wide = "[...document.querySelectorAll('.scroll')].filter(e => e.scrollWidth > e.clientWidth).map(e => e.ariaLabel)"
    found = browser.seen(text, tmp_path, 390, wide)
    assert "provenance" not in found
    assert "results" in found
