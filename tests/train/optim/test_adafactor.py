"""Adafactor against optax where the two define the same, and against the paper's formulas in numpy."""

import numpy as np
import optax
import pytest

from tests.train.optim.test_optimizers import train
from train.optim import Adafactor, Constant


@pytest.mark.parametrize("factored_from", [4, 100])
def test_plain_matrices_equal_optax(factored_from):
    rng = np.random.default_rng(0)
    shapes = {"a": (6, 9), "b": (5,), "c": (3, 8, 6)}
    draw = lambda: {name: rng.standard_normal(shape, np.float32) for name, shape in shapes.items()}  # noqa: E731
    params, grads = draw(), [draw() for _ in range(3)]
    roles = dict.fromkeys(shapes, "linear")
    axes = {"a": ("embed", "mlp"), "b": ("embed",), "c": (None, "mlp", "embed")}
    spec = Adafactor(learning_rate=0.1, schedule=Constant(), clip=None, factored_from=factored_from)
    found, _ = train(spec.build(params, 3, roles=roles, axes=axes), params, grads)
    expected, _ = train(optax.adafactor(0.1, min_dim_size_to_factor=factored_from), params, grads)
    for name in params:
        np.testing.assert_allclose(found[name], expected[name], rtol=2e-5, atol=1e-6)


def test_head_axes_are_one_side(params, grads, axes, roles):
    """[L, D, N, K] is L matrices D x (N K), each by algorithm 4 of arXiv:1804.04235."""
    spec = Adafactor(learning_rate=0.1, schedule=Constant(), clip=None, factored_from=4)
    found, _ = train(spec.build(params, 3, roles=roles, axes=axes), params, grads)
    pick = lambda tree: tree["stack"]["blocks"]["mixer"]["q"]["kernel"].astype(np.float64).reshape(2, 8, 8)  # noqa: E731
    for layer in range(2):
        p, row, column = pick(params)[layer], 0.0, 0.0
        for t, grad in enumerate(grads, start=1):
            g = pick(grad)[layer]
            beta = 1 - t**-0.8
            row = beta * row + (1 - beta) * (g**2 + 1e-30).mean(1)
            column = beta * column + (1 - beta) * (g**2 + 1e-30).mean(0)
            u = g / np.sqrt(np.outer(row, column) / row.mean())
            u = u / max(1, np.sqrt((u**2).mean()))
            p = p - 0.1 * max(1e-3, np.sqrt((p**2).mean())) * u
        np.testing.assert_allclose(pick({"stack": _numpy(found["stack"])})[layer], p, rtol=1e-5, atol=1e-6)


def _numpy(tree):
    return {k: _numpy(v) if isinstance(v, dict) else np.asarray(v) for k, v in tree.items()}
