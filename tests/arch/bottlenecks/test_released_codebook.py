"""`Codebook(compat="code")` beside the authors' own layers (codebook-features 0.1.2), where that package is installed.

It is no requirement of development: it asks for transformer-lens 1.7.0, streamlit and wandb. Its layers need none of
them; what is not there is stood in for, so that `pip install --no-deps codebook-features` is enough for this test.
"""

import importlib.util
import sys
import types
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from arch.bottlenecks.codebook import Codebook
from arch.bottlenecks.several import Grouped
from arch.params import merge
from tests.arch import tiny
from tests.arch.bottlenecks.quantisers import build, vectors

torch = pytest.importorskip("torch", reason="torch is not installed")
CODES, WIDTH, ROWS = 12, 6, 40


@pytest.fixture
def released(monkeypatch):
    """The module of the authors' layers, with their squared error ("aeloss") on."""
    found = importlib.util.find_spec("codebook_features")
    if found is None or found.origin is None:
        pytest.skip("codebook-features is not installed")
    beside = {name: types.ModuleType(name) for name in ("codebook_features", "transformer_lens")}
    for name in ("mod_model_classes", "tl_mods", "utils"):
        setattr(beside["codebook_features"], name, types.ModuleType(name))
    hooks = types.ModuleType("transformer_lens.hook_points")
    hooks.HookPoint = torch.nn.Identity
    for name, module in {**beside, "transformer_lens.hook_points": hooks}.items():
        monkeypatch.setitem(sys.modules, name, module)
    spec = importlib.util.spec_from_file_location("released", Path(found.origin).with_name("models.py"))
    module = importlib.util.module_from_spec(spec)
    # Annotations alone name classes of what is stood in for.
    source = "from __future__ import annotations\n" + Path(spec.origin).read_text()
    exec(compile(source, spec.origin, "exec"), module.__dict__)
    monkeypatch.setattr(module.BaseSnapFunction, "loss", "aeloss")
    return module


def theirs(module, metric, k, groups, params, x, up):
    """Values, codes and gradients (of x, codes, gain and bias, [groups, ...]) of the authors' layer."""
    snap = module.InnerProductSnapFunction if metric == "cosine" else module.EuclideanSnapFunction
    layer = module.GroupCodebookLayer(WIDTH, CODES, "key", groups, snap_fn=snap, kcodes=k).train()
    ids = []
    for index, one in enumerate(layer.codebook):
        one.hook_kwargs["cosine"] = metric == "cosine"
        one.hook_fn = lambda key, codes: ids.append(codes)
        for own, name in ((one.codebook.weight, "codes"), (one.ln.weight, "gain"), (one.ln.bias, "bias")):
            own.data = torch.tensor(np.asarray(params[name])[index])
    z = torch.tensor(x[None], requires_grad=True)
    y = layer(z)
    (y * torch.tensor(up[None])).sum().backward()
    grads = [[own.grad.numpy() for own in (one.codebook.weight, one.ln.weight, one.ln.bias)] for one in layer.codebook]
    of_all = (np.stack(each) for each in zip(*grads, strict=True))
    return y[0].detach().numpy(), np.concatenate(ids, axis=-1)[0], (z.grad[0].numpy(), *of_all)


@pytest.mark.parametrize("metric", ["cosine", "l2"])
@pytest.mark.parametrize(("k", "groups"), [(1, 1), (3, 1), (3, 2)])
def test_values_codes_and_gradients(released, metric, k, groups):
    graph, params, buffers = build(Grouped(Codebook(codes=CODES, k=k, metric=metric, compat="code"), groups), WIDTH)
    rng = np.random.default_rng(0)
    params = jax.tree.map(lambda leaf: leaf + 0.3 * rng.normal(size=leaf.shape).astype(np.float32), params)
    x, up = 2 * vectors(0, ROWS, WIDTH), vectors(1, ROWS, WIDTH)

    def fn(x, params):
        found = merge(graph, params, buffers).quantize(x, training=True)
        return jnp.sum(found.values * up) + sum(one.value for one in found.losses.values()), found

    (_, found), (dx, dparams) = tiny.jit(jax.value_and_grad(fn, argnums=(0, 1), has_aux=True))(x, params)
    leaves = {path[-1].key: leaf for path, leaf in jax.tree_util.tree_leaves_with_path(params)}
    grads = {path[-1].key: leaf for path, leaf in jax.tree_util.tree_leaves_with_path(dparams)}
    stacked = {
        name: np.reshape(leaf, (groups, *np.shape(leaf)[-1 - (name == "codes") :])) for name, leaf in leaves.items()
    }
    values, ids, (dz, *others) = theirs(released, metric, k, groups, stacked, x, up)
    np.testing.assert_allclose(found.values, values, atol=1e-5)
    order = lambda codes: np.sort(np.reshape(codes, (ROWS, groups, k)), axis=-1)  # noqa: E731
    np.testing.assert_array_equal(order(found.codes), order(ids))
    np.testing.assert_allclose(dx, dz, atol=1e-4)
    for name, wanted in zip(("codes", "gain", "bias"), others, strict=True):
        np.testing.assert_allclose(np.reshape(grads[name], wanted.shape), wanted, atol=1e-4, err_msg=name)
