"""Places that are kept of what fires, numbers of codes among all of a site, contexts: on arrays alone."""

import numpy as np

from experiments.codes.contexts import Places
from experiments.codes.page import context
from experiments.codes.reading import Site


def test_places_are_the_highest_ranked_however_they_come():
    rng = np.random.default_rng(0)
    codes, ranks = rng.integers(0, 5, 300), rng.permutation(300).astype(np.float32)
    places = Places(5, 4)
    for part in np.split(np.arange(300), 6):
        places.add(codes[part], ranks[part], part)
    first, where = places.of()
    for code in range(5):
        wanted = sorted(np.flatnonzero(codes == code), key=lambda n: -ranks[n])[:4]
        assert where[first[code] : first[code + 1]].tolist() == wanted
    assert places.counts.tolist() == np.bincount(codes, minlength=5).tolist()


def test_stages_and_amplitudes():
    site = Site("a", layers=2, groups=1, grouped=False, size=5, slots=3, stages=True)
    codes = np.array([[[[0, 1, 2]]], [[[4, 0, 3]]]])  # L, B, T, k
    assert site.flat(codes).tolist() == [[[0, 6, 12, 19, 20, 28]]]


def test_a_context_stays_within_its_row():
    tokens = np.array([*b"abc", -1, *b"defgh", -1, *b"ij"], np.int32)
    decode = lambda ids: bytes(ids).decode()  # noqa: E731
    assert context(tokens, 6, decode) == ("de", "f", "gh")
    assert context(tokens, 2, decode) == ("ab", "c", "")
    assert context(tokens, 10, decode) == ("", "i", "j")
