"""Places that are kept of what fires, numbers of codes among all of a site, contexts: on arrays alone."""

import dataclasses

import jax
import numpy as np
import pytest

from arch.bottlenecks.codebook import Codebook
from arch.bottlenecks.residual import Residual
from arch.bottlenecks.several import Grouped
from arch.bottlenecks.vector_quantized import VectorQuantized
from arch.layers.init.initializers import FanIn
from arch.params import ParamFactory
from experiments.codes.contexts import Places
from experiments.codes.page import context
from experiments.codes.reading import Site, counts_shape


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
    site = Site("a", layers=2, groups=1, grouped=False, size=5, slots=3, stages=3)
    codes = np.array([[[[0, 1, 2]]], [[[4, 0, 3]]]])  # L, B, T, k
    assert site.flat(codes).tolist() == [[[0, 6, 12, 19, 20, 28]]]
    two = dataclasses.replace(site, layers=1, slots=4, stages=2)
    assert two.flat(np.array([[[[0, 1, 2, 3]]]])).tolist() == [[[0, 1, 7, 8]]], "two codes of each stage"


@pytest.mark.parametrize(
    ("spec", "shape"),
    [
        (VectorQuantized(codes=4), (4,)),
        (Residual(VectorQuantized(codes=4), stages=1), (1, 4)),
        (Residual(Codebook(codes=6, k=2), stages=3), (3, 6)),
        (Residual(Grouped(VectorQuantized(codes=4), 2), stages=3), (2, 3, 4)),
        (Grouped(Residual(VectorQuantized(codes=4), stages=3), 2), (2, 3, 4)),
        (Grouped(Residual(VectorQuantized(codes=4), stages=1), 2), (2, 1, 4)),
    ],
)
def test_how_codes_are_counted(spec, shape):
    """In the order in which the part takes the counts to tell its bits."""
    part = spec.build(8, ParamFactory(jax.random.key(0), FanIn()))
    assert counts_shape(part) == shape
    np.testing.assert_allclose(part.bits(np.ones(shape, np.float32)), part.bits(), rtol=1e-6)


def test_a_context_stays_within_its_row():
    tokens = np.array([*b"abc", -1, *b"defgh", -1, *b"ij"], np.int32)
    decode = lambda ids: bytes(ids).decode()  # noqa: E731
    assert context(tokens, 6, decode) == ("de", "f", "gh")
    assert context(tokens, 2, decode) == ("ab", "c", "")
    assert context(tokens, 10, decode) == ("", "i", "j")
