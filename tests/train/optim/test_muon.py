"""Muon against optax's and PyTorch's, matrix by matrix, and against the formula and the singular values it promises."""

import jax
import numpy as np
import optax
import pytest
import torch

from tests.train.optim.test_optimizers import assert_close, train
from train.optim import Constant, Muon, Others

VIEWS = {
    "q": lambda tree: np.asarray(tree["stack"]["blocks"]["mixer"]["q"]["kernel"]).reshape(2, 8, 8),
    "o": lambda tree: np.asarray(tree["stack"]["blocks"]["mixer"]["o"]["kernel"]).reshape(2, 8, 8),
    "up": lambda tree: np.asarray(tree["stack"]["blocks"]["feed_forward"]["up"]["kernel"]),
}


@pytest.mark.parametrize("scale", ["rms", "width"])
def test_plain_matrices_equal_optax(scale):
    rng = np.random.default_rng(0)
    shapes = {"up": (6, 9), "down": (9, 6)}
    draw = lambda: {name: rng.standard_normal(shape, np.float32) for name, shape in shapes.items()}  # noqa: E731
    params, grads = draw(), [draw() for _ in range(3)]
    roles = {"up": "feed_forward", "down": "residual"}
    axes = {"up": ("embed", "mlp"), "down": ("mlp", "embed")}
    spec = Muon(learning_rate=0.1, schedule=Constant(), clip=None, weight_decay=0.5, momentum=0.8, scale=scale)
    found, _ = train(spec.build(params, 3, roles=roles, axes=axes), params, grads)
    tx = optax.contrib.muon(0.1, beta=0.8, weight_decay=0.5, consistent_rms=0.2 if scale == "rms" else None)
    with jax.numpy_dtype_promotion("standard"):
        expected, _ = train(tx, params, grads)
    assert_close(found, expected, rtol=1e-5, atol=1e-6)


def test_every_matrix_of_the_stack_follows_the_formula(params, grads, axes, roles):
    """With optax's weights of the two terms, and the quintic on the singular values in float64."""
    spec = Muon(learning_rate=0.1, schedule=Constant(), clip=None, weight_decay=0.5)
    found, _ = train(spec.build(params, 3, roles=roles, axes=axes), params, grads)
    for name, view in VIEWS.items():
        for layer in range(2):
            p, momentum = view(params)[layer].astype(np.float64), 0.0
            for t, grad in enumerate(grads, start=1):
                g = view(grad)[layer].astype(np.float64)
                momentum = 0.95 * momentum + g
                mixed = g * (1 - 0.95 ** (t + 1)) / (1 - 0.95**t) + 0.95 * momentum
                u, s, vt = np.linalg.svd(mixed, full_matrices=False)
                s = s / np.linalg.norm(s)
                for _ in range(5):
                    s = 3.4445 * s - 4.7750 * s**3 + 2.0315 * s**5
                p = p - 0.1 * (0.2 * np.sqrt(max(p.shape)) * (u * s) @ vt + 0.5 * p)
            np.testing.assert_allclose(view(found)[layer], p, rtol=1e-4, atol=1e-4, err_msg=name)


@pytest.mark.parametrize(("scale", "adjust"), [("rms", "match_rms_adamw"), ("width", "original")])
def test_the_first_step_of_every_matrix_equals_torch(params, grads, axes, roles, scale, adjust, monkeypatch):
    """PyTorch iterates in bfloat16, here made float32; its kernels are (outputs, inputs)."""
    monkeypatch.setattr(torch.Tensor, "bfloat16", torch.Tensor.clone)
    spec = Muon(learning_rate=0.1, schedule=Constant(), clip=None, weight_decay=0.5, scale=scale)
    found, _ = train(spec.build(params, 1, roles=roles, axes=axes), params, grads[:1])
    for name, view in VIEWS.items():
        for layer in range(2):
            weight = torch.nn.Parameter(torch.tensor(view(params)[layer].T.copy()))
            weight.grad = torch.tensor(view(grads[0])[layer].T.copy())
            torch.optim.Muon([weight], lr=0.1, weight_decay=0.5, adjust_lr_fn=adjust).step()
            moved = view(found)[layer] - view(params)[layer]
            expected = weight.detach().numpy().T - view(params)[layer]
            error = np.linalg.norm(moved - expected) / np.linalg.norm(expected)
            assert error < 1e-4, (name, layer, error)


@pytest.mark.parametrize(
    ("shape", "names"),
    [((8, 24), ("embed", "mlp")), ((24, 8), ("mlp", "embed")), ((3, 5, 12, 7), ("layers", "experts", "embed", "mlp"))],
)
def test_singular_values_of_a_step_come_near_one(shape, names):
    rng = np.random.default_rng(0)
    params, grad = {"w": np.zeros(shape, np.float32)}, {"w": rng.standard_normal(shape, np.float32)}
    spec = Muon(learning_rate=1.0, schedule=Constant(), weight_decay=0.0)
    found, _ = train(spec.build(params, 1, roles={"w": "linear"}, axes={"w": names}), params, [grad])
    s = np.linalg.svd(np.asarray(found["w"]), compute_uv=False) / (0.2 * np.sqrt(max(shape)))
    assert s.min() > 0.6
    assert s.max() < 1.3


def test_tables_gains_and_the_head_take_adam(params, grads, axes, roles):
    """And Adam's share of the learning rate scales step and decay."""
    others = Others(multiplier=0.25, b1=0.8, b2=0.9)
    spec = Muon(learning_rate=0.1, schedule=Constant(), clip=None, weight_decay=0.5, others=others)
    found, _ = train(spec.build(params, 3, roles=roles, axes=axes), params, grads)
    decaying = {"table": False, "gain": False, "bias": False, "head": True}
    tx = optax.adamw(0.025, 0.8, 0.9, weight_decay=0.5, mask=decaying)
    pick = lambda tree: {  # noqa: E731
        "table": tree["embedding"]["table"],
        "gain": tree["stack"]["blocks"]["mixer_norm"]["gain"],
        "bias": tree["stack"]["blocks"]["mixer"]["q"]["bias"],
        "head": tree["head"]["kernel"],
    }
    with jax.numpy_dtype_promotion("standard"):
        expected, _ = train(tx, pick(params), [pick(grad) for grad in grads])
    for name, leaf in pick(found).items():
        np.testing.assert_allclose(leaf, expected[name], rtol=1e-5, atol=1e-6, err_msg=name)
