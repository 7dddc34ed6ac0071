"""Positions against their formulas and against Transformers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax import nnx
from transformers.models.t5.modeling_t5 import T5Attention

from arch.layers.init.initializers import Normal
from arch.layers.positions import ALiBi, Learned, NoPosition, Rotary, Sinusoidal, T5Relative, alibi_slopes
from arch.params import ParamFactory
from arch.spec import SpecError
from tests.arch import tiny

B, T, N, K = 2, 6, 4, 8
POSITIONS = jnp.array([[0, 1, 2, 3, 0, 1], [5, 6, 7, 400, 0, 0]], jnp.int32)


def build(spec, width=K, heads=N):
    return spec.build(width, heads, ParamFactory(jax.random.key(0), Normal()))


def random(*shape):
    return jnp.asarray(np.random.default_rng(0).standard_normal(shape), jnp.float32)


@pytest.mark.parametrize(("base", "fraction"), [(10_000.0, 1.0), (100.0, 0.5), (10_000.0, 0.25)])
def test_rotary_turns_pairs_as_complex_numbers(base, fraction):
    """Pair i of (i, i + R/2) is multiplied by exp(i p base^(-2i/R)), R the rotated width (arXiv 2104.09864, eq. 34)."""
    x = np.asarray(random(B, T, N, K))
    rotated = int(K * fraction)
    half = rotated // 2
    turn = np.exp(1j * np.asarray(POSITIONS)[:, :, None] * base ** (-2.0 * np.arange(half) / rotated))
    pairs = (x[..., :half] + 1j * x[..., half:rotated]) * turn[:, :, None]
    expected = np.concatenate([pairs.real, pairs.imag, x[..., rotated:]], axis=-1)
    # The angle of position 400 is exact to float32 alone.
    tiny.close(build(Rotary(base, fraction)).rotate(jnp.asarray(x), POSITIONS), expected.astype(np.float32), atol=1e-4)


def test_rotary_scores_depend_on_distance_alone():
    q, k = random(1, 1, 1, K), random(1, 1, 1, K) + 1
    rotate = build(Rotary()).rotate
    score = lambda p, s: np.vdot(rotate(q, jnp.array([[p]])), rotate(k, jnp.array([[s]])))  # noqa: E731
    np.testing.assert_allclose([score(13, 9), score(104, 100)], score(4, 0), rtol=1e-4)
    assert abs(score(4, 0) - score(0, 4)) > 1e-2


def test_sinusoidal_formula():
    """PE(p, 2i) = sin(p / 10000^(2i/D)), PE(p, 2i + 1) = cos(same) (arXiv 1706.03762, section 3.5)."""
    expected = np.zeros((B, T, K))
    for i in range(K // 2):
        angle = np.asarray(POSITIONS) / 10_000.0 ** (2 * i / K)
        expected[..., 2 * i], expected[..., 2 * i + 1] = np.sin(angle), np.cos(angle)
    x = random(B, T, K)
    tiny.close(build(Sinusoidal()).embed(x, POSITIONS), (np.asarray(x) + expected).astype(np.float32), atol=1e-4)


def test_learned_adds_its_rows():
    layer = build(Learned(length=401))
    x = random(B, T, K)
    tiny.close(layer.embed(x, POSITIONS), np.asarray(x) + np.asarray(layer.table[...])[POSITIONS], 0, 1e-6)
    assert layer.limit == 401
    assert build(Rotary()).limit is None


@pytest.mark.parametrize(
    ("heads", "exponents"),
    [
        (1, [8]),
        (4, [2, 4, 6, 8]),
        (8, [1, 2, 3, 4, 5, 6, 7, 8]),
        (6, [2, 4, 6, 8, 1, 3]),
        (12, [1, 2, 3, 4, 5, 6, 7, 8, 0.5, 1.5, 2.5, 3.5]),
    ],
)
def test_alibi_slopes(heads, exponents):
    """The geometric series of arXiv 2108.12409, section 3, and its authors' rule between powers of two."""
    np.testing.assert_allclose(alibi_slopes(heads), 2.0 ** -np.array(exponents), rtol=1e-6)


def test_alibi_bias_is_minus_slope_times_distance():
    bias = np.asarray(build(ALiBi()).bias(POSITIONS, POSITIONS))
    distance = np.abs(np.asarray(POSITIONS)[:, :, None] - np.asarray(POSITIONS)[:, None, :])
    np.testing.assert_allclose(bias, -alibi_slopes(N)[None, :, None, None] * distance[:, None], rtol=1e-6)


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize(("buckets", "max_distance"), [(32, 128), (8, 20), (16, 1000)])
def test_t5_buckets_are_those_of_transformers(buckets, max_distance, bidirectional):
    relative = np.arange(-1500, 1501)
    layer = build(T5Relative(buckets, max_distance, bidirectional))
    ours = np.asarray(layer.bucket(jnp.asarray(relative, jnp.int32)))
    theirs = T5Attention._relative_position_bucket(
        torch.from_numpy(relative), bidirectional, buckets, max_distance
    ).numpy()
    np.testing.assert_array_equal(ours, theirs)


def test_t5_bias_reads_its_table():
    layer = build(T5Relative(8, 20))
    bias, table = np.asarray(layer.bias(POSITIONS, POSITIONS)), np.asarray(layer.table[...])
    assert bias.shape == (B, N, T, T)
    for t, s in [(3, 3), (3, 1), (2, 0)]:
        np.testing.assert_array_equal(bias[0, :, t, s], table[t - s])


@pytest.mark.parametrize("spec", [NoPosition(), Rotary(), ALiBi(), T5Relative(), Learned(), Sinusoidal()])
def test_each_kind_acts_by_one_hook(spec):
    layer = build(spec)
    x, heads = random(B, T, K), random(B, T, N, K)
    acts = {
        "embed": layer.embed(x, POSITIONS % 9) is not x,
        "rotate": layer.rotate(heads, POSITIONS) is not heads,
        "bias": layer.bias(POSITIONS, POSITIONS) is not None,
    }
    kind = {Rotary: "rotate", ALiBi: "bias", T5Relative: "bias", Learned: "embed", Sinusoidal: "embed"}.get(type(spec))
    assert [name for name, acted in acts.items() if acted] == ([kind] if kind else [])


@pytest.mark.parametrize(
    ("line", "make"),
    [
        ("Rotary.base=1.0: must be greater than 1", lambda: Rotary(base=1.0)),
        ("Rotary.fraction=0.0: must be greater than 0", lambda: Rotary(fraction=0.0)),
        ("Rotary.fraction=1.5: must be between 0 and 1", lambda: Rotary(fraction=1.5)),
        ("Rotary.fraction=0.4: must rotate an even number of the 8", lambda: build(Rotary(fraction=0.4))),
        ("Learned.length=0: must be at least 1", lambda: Learned(length=0)),
        ("Sinusoidal.base=0.5: must be greater than 1", lambda: Sinusoidal(base=0.5)),
        ("Sinusoidal.base=10000.0: sinusoidal positions need an even", lambda: build(Sinusoidal(), width=7)),
        ("ALiBi.heads=0: must be at least 1", lambda: ALiBi(heads=0)),
        ("ALiBi.heads=2: must be 4, the heads of the attention", lambda: build(ALiBi(heads=2))),
        ("ALiBi.heads=None: must be given", lambda: build(ALiBi(), heads=None)),
        ("T5Relative.heads=None: must be given", lambda: build(T5Relative(), heads=None)),
        ("T5Relative.buckets=7: must be even", lambda: T5Relative(buckets=7)),
        ("T5Relative.buckets=2: must be even and at least 4", lambda: T5Relative(buckets=2, bidirectional=True)),
        ("T5Relative.max_distance=16: must be greater than the 16", lambda: T5Relative(max_distance=16)),
    ],
)
def test_impossible_positions_are_refused(line, make):
    with pytest.raises(SpecError) as error:
        nnx.eval_shape(make)
    assert str(error.value).splitlines()[0].startswith(line)
