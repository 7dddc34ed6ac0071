"""Initialisers of deep plain networks, against what they are to do to a signal."""

import jax
import numpy as np
import pytest

from arch.layers.init.initializers import Initializer
from arch.layers.init.plain import He, SussilloAbbott, Zeros
from arch.spec import SpecError


def draw(init: Initializer, shape, fan_in, seed=0):
    return np.asarray(init(jax.random.key(seed), shape, role="linear", fan_in=fan_in, depth=1, layer=0))


def test_variances():
    assert (draw(Zeros(), (30, 40), 30) == 0).all()
    assert draw(He(), (50, 4000), 50).var() == pytest.approx(2 / 50, rel=0.02)
    gain = np.sqrt(2) * np.exp(1.2 / (50 - 2.4))
    assert draw(SussilloAbbott(), (50, 4000), 50).var() == pytest.approx(gain**2 / 50, rel=0.02)
    # Below six inputs the formula stays where it is at six.
    assert draw(SussilloAbbott(), (3, 40000), 3).var() == pytest.approx(2 / 3 * np.exp(2.4 / 3.6), rel=0.02)


def drift(init, width=20, layers=60, networks=40):
    """The mean change a layer of log |h| in random ReLU networks, and its standard error."""
    rng = np.random.default_rng(0)
    changes = []
    for network in range(networks):
        weights = draw(init, (layers, width, width), width, network).astype(np.float64)
        h = rng.standard_normal(width)
        first = last = None
        for weight in weights:
            h = np.maximum(h @ weight, 0)
            last = np.log(np.linalg.norm(h))
            first = last if first is None else first
        changes.append((last - first) / (layers - 1))
    return np.mean(changes), np.std(changes) / np.sqrt(networks)


def test_the_logarithm_of_the_signal_stays():
    """He's falls by 1.2 / (N - 2.4) a layer, which Sussillo and Abbott make up for."""
    he, he_error = drift(He())
    corrected, error = drift(SussilloAbbott())
    assert he == pytest.approx(-1.2 / (20 - 2.4), abs=3 * he_error)
    assert he < -5 * he_error
    assert abs(corrected) < 3 * error


def test_the_fitted_constants_are_checked():
    with pytest.raises(SpecError, match=r"SussilloAbbott\.shift=6.0: must be from 0 to below 6"):
        SussilloAbbott(shift=6.0)
