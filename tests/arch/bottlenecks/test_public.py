"""FSQ, LFQ, SimVQ and residual codes beside vector-quantize-pytorch, where that is installed."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from arch.bottlenecks.finite_scalar import FiniteScalar
from arch.bottlenecks.lookup_free import LookupFree
from arch.bottlenecks.residual import Residual
from arch.bottlenecks.sim_vq import SimVQ
from arch.bottlenecks.vector_quantized import VectorQuantized
from arch.params import merge
from tests.arch import tiny
from tests.arch.bottlenecks.quantisers import build, called, vectors

torch = pytest.importorskip("torch", reason="torch is not installed")
public = pytest.importorskip("vector_quantize_pytorch", reason="vector-quantize-pytorch is not installed")


def ours(state, x):
    """What the part makes of `x`, and the gradient of its values and losses by `x`."""
    part, up = merge(*state), vectors(1, *x.shape)

    def fn(x):
        found = part.quantize(x, training=True)
        return jnp.sum(found.values * up) + sum(one.value for one in found.losses.values()), found

    (_, found), dx = tiny.jit(jax.value_and_grad(fn, has_aux=True))(x)
    return found, dx


def test_FSQ():  # noqa: N802
    """Values, codes and gradients of odd and even levels."""
    levels, x = (8, 5, 4, 3), 2 * vectors(rows=300, width=4)
    found, dx = ours(build(FiniteScalar(levels=levels, compat="artanh"), 4), x)
    z = torch.tensor(x, requires_grad=True)
    y, ids = public.FSQ(list(levels))(z[None])
    (y * torch.tensor(vectors(1, 300, 4))).sum().backward()
    np.testing.assert_allclose(found.values, y[0].detach(), atol=1e-6)
    np.testing.assert_array_equal(found.codes[:, 0], ids[0])
    np.testing.assert_allclose(dx, z.grad, atol=1e-5)
    paper = called(build(FiniteScalar(levels=levels), 4), x).codes
    assert 0 < np.mean(np.asarray(paper)[:, 0] != ids[0].numpy()) < 0.05  # where a bound is near a half


def test_LFQ():  # noqa: N802
    """Values, codes (the first bit is our lowest and their highest), losses and gradients."""
    x = vectors(rows=40, width=3)
    spec = LookupFree(binary=3, beta=0.25, gamma=0.1, temperature=0.5, group=3)
    found, dx = ours(build(spec, 3), x)
    z = torch.tensor(x, requires_grad=True)
    theirs = public.LFQ(dim=3, codebook_size=8, entropy_loss_weight=0.1, commitment_loss_weight=0.25).train()
    (y, ids, loss), parts = theirs(z[None], inv_temperature=2.0, return_loss_breakdown=True)
    ((y * torch.tensor(vectors(1, 40, 3))).sum() + loss).backward()
    per_sample, batch, commitment = (float(one.detach()) for one in parts)
    np.testing.assert_array_equal(found.values, y[0].detach())
    turned = sum(((np.asarray(found.codes) >> bit) & 1) << (2 - bit) for bit in range(3))
    np.testing.assert_array_equal(turned[:, 0], ids[0])
    losses = {name: float(one.value) for name, one in found.losses.items()}
    np.testing.assert_allclose(losses["sample_entropy"], 0.1 * per_sample, rtol=1e-4)
    np.testing.assert_allclose(losses["batch_entropy"], -0.1 * batch, rtol=1e-4)
    np.testing.assert_allclose(losses["commitment"], 0.25 * commitment, rtol=1e-5)
    np.testing.assert_allclose(dx, z.grad, atol=1e-5)


def test_SimVQ():  # noqa: N802
    x = vectors(rows=40)
    graph, params, buffers = build(SimVQ(codes=20))
    found, dx = ours((graph, params, buffers), x)
    theirs = public.SimVQ(dim=8, codebook_size=20, rotation_trick=False)
    theirs.frozen_codebook.copy_(torch.tensor(np.asarray(buffers["fixed"])))
    with torch.no_grad():
        theirs.code_transform.weight.copy_(torch.tensor(np.asarray(params["map"]).T))
    z = torch.tensor(x, requires_grad=True)
    y, ids, loss = theirs(z[None])
    ((y * torch.tensor(vectors(1, 40, 8))).sum() + loss).backward()
    np.testing.assert_allclose(found.values, y[0].detach(), atol=1e-5)
    np.testing.assert_array_equal(found.codes[:, 0], ids[0])
    np.testing.assert_allclose(sum(float(one.value) for one in found.losses.values()), float(loss.detach()), rtol=1e-5)
    np.testing.assert_allclose(dx, z.grad, atol=1e-5)


def test_residual():
    x = vectors(rows=60)
    graph, params, buffers = build(Residual(VectorQuantized(codes=10), stages=3))
    found = called((graph, params, buffers), x)
    theirs = public.ResidualVQ(dim=8, codebook_size=10, num_quantizers=3, shared_codebook=False).eval()
    for name, stage in enumerate(theirs.layers):
        stage._codebook.embed.data.copy_(torch.tensor(np.asarray(buffers["stages"][str(name)]["codes"]))[None])
    y, ids, _ = theirs(torch.tensor(x)[None])
    np.testing.assert_array_equal(found.codes, ids[0])
    np.testing.assert_allclose(found.values, y[0].detach(), atol=1e-5)
