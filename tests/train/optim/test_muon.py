"""Muon against PyTorch's, matrix by matrix, and against the singular values it promises."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch

from tests.train.optim.test_optimizers import train
from train.optim import Constant, Muon, Others
from train.optim.muon import orthogonalize


@pytest.mark.parametrize("shape", [(8, 24), (24, 8), (16, 16), (3, 5, 12, 7)])
def test_singular_values_come_near_one(shape):
    matrix = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    s = np.linalg.svd(np.asarray(orthogonalize(jnp.asarray(matrix))), compute_uv=False)
    assert s.min() > 0.6
    assert s.max() < 1.3


def test_singular_vectors_stay():
    matrix = np.random.default_rng(0).standard_normal((6, 10)).astype(np.float32)
    u, s, vt = np.linalg.svd(matrix, full_matrices=False)
    a, b, c = 3.4445, -4.7750, 2.0315
    s = s / np.linalg.norm(s)
    for _ in range(5):
        s = a * s + b * s**3 + c * s**5
    np.testing.assert_allclose(orthogonalize(jnp.asarray(matrix)), (u * s) @ vt, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("scale", "adjust"), [("rms", "match_rms_adamw"), ("width", "original")])
def test_every_matrix_of_the_stack_equals_torch(params, grads, axes, scale, adjust, monkeypatch):
    """PyTorch iterates in bfloat16, here made float32; its kernels are (outputs, inputs)."""
    monkeypatch.setattr(torch.Tensor, "bfloat16", torch.Tensor.clone)
    spec = Muon(learning_rate=0.1, schedule=Constant(), clip=None, weight_decay=0.5, scale=scale)
    found, _ = train(spec.build(params, 3, axes=axes), params, grads)
    views = {
        "q": lambda tree: np.asarray(tree["stack"]["blocks"]["mixer"]["q"]["kernel"]).reshape(2, 8, 8),
        "o": lambda tree: np.asarray(tree["stack"]["blocks"]["mixer"]["o"]["kernel"]).reshape(2, 8, 8),
        "up": lambda tree: np.asarray(tree["stack"]["blocks"]["feed_forward"]["up"]["kernel"]),
    }
    for name, view in views.items():
        for layer in range(2):
            weight = torch.nn.Parameter(torch.tensor(view(params)[layer].T.copy()))
            optimizer = torch.optim.Muon([weight], lr=0.1, weight_decay=0.5, adjust_lr_fn=adjust)
            for grad in grads:
                weight.grad = torch.tensor(view(grad)[layer].T.copy())
                optimizer.step()
            moved = view(found)[layer] - view(params)[layer]
            expected = weight.detach().numpy().T - view(params)[layer]
            error = np.linalg.norm(moved - expected) / np.linalg.norm(expected)
            assert error < 1e-4, (name, layer, error)


def test_tables_gains_and_the_head_take_adam(params, grads, axes):
    """And Adam's share of the learning rate scales step and decay."""
    others = Others(multiplier=0.25, b1=0.8, b2=0.9)
    spec = Muon(learning_rate=0.1, schedule=Constant(), clip=None, weight_decay=0.5, others=others)
    found, _ = train(spec.build(params, 3, axes=axes), params, grads)
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


def test_stacked_axes_may_stand_anywhere():
    """Experts last: each expert's matrix moves as it would alone."""
    rng = np.random.default_rng(0)
    draw = lambda: {"w": rng.standard_normal((4, 6, 3), np.float32)}  # noqa: E731
    params, grad = draw(), draw()
    spec = Muon(learning_rate=0.1, schedule=Constant())
    found, _ = train(spec.build(params, 1, axes={"w": ("embed", "mlp", "experts")}), params, [grad])
    for expert in range(3):
        one = lambda tree: {"w": np.asarray(tree["w"])[..., expert]}  # noqa: B023, E731
        alone = Muon(learning_rate=0.1, schedule=Constant(), clip=None).build(
            one(params), 1, axes={"w": ("embed", "mlp")}
        )
        expected, _ = train(alone, one(params), [one(grad)])
        np.testing.assert_allclose(one(found)["w"], expected["w"], rtol=1e-5, atol=1e-6)
