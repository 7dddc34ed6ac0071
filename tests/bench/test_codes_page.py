"""The bench of the page of codes, at toy size."""

from bench.codes_page import measure


def test_a_toy_page():
    counted, written, size = measure(codes=20, tokens=9_000, slots=2)
    assert counted > 0
    assert written > 0
    assert 8_000 < size < 40_000
