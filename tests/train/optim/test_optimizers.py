"""Optimisers against numpy and PyTorch: steps, clipping, decay, multipliers, freezing, ensembles."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch

from arch.spec import SpecError
from tests.quick import EMITTERS
from tests.train.optim.conftest import ROLES, random_tree
from train.optim import SGD, Adafactor, AdamW, Constant, Cosine, Linear, Muon, Rules
from train.optim.rules import leaves_by_path
from train.trees import Split, join

BY_MATRIX = [Adafactor(momentum=0.9, factored_from=4), Muon()]
ALL = [AdamW(), SGD(weight_decay=0.1), *BY_MATRIX]
# Compiles six times faster; the programs are too small to run slower.
QUICK = {"xla_backend_optimization_level": 0, "xla_cpu_parallel_codegen_split_count": 1, **EMITTERS}
ids = lambda spec: type(spec).__name__  # noqa: E731


def train(tx, params, grads):
    """Parameters and state after one update for each of `grads`."""

    def step(carry, grad):
        params, state = carry
        updates, state = tx.update(grad, state, params)
        return (optax.apply_updates(params, updates), state), None

    def run(params, grads):
        return jax.lax.scan(step, (params, tx.init(params)), grads)[0]

    grads = jax.tree.map(lambda *leaves: np.stack(leaves), *grads)
    return jax.jit(run, compiler_options=QUICK)(jax.tree.map(jnp.asarray, params), grads)


def train_unfrozen(spec, params, grads, axes, roles):
    """`train` as a run does it where parameters are frozen: the optimiser sees the others alone."""
    split = Split(frozenset(spec.frozen(params)))
    trained, frozen = split(params)
    tx = spec.build(params, len(grads), roles=roles, axes=axes)
    found, state = train(tx, trained, [split(grad)[0] for grad in grads])
    return join(found, frozen), state


def assert_close(found, expected, **tolerance):
    found, expected = leaves_by_path(found), leaves_by_path(expected)
    assert found.keys() == expected.keys()
    for path in found:
        np.testing.assert_allclose(found[path], expected[path], err_msg=path, **tolerance)


def torch_train(params, grads, make, clip, multiplier):
    """The same steps in PyTorch, with the decaying matrices in one parameter group and the rest in another."""
    tensors = {path: torch.nn.Parameter(torch.tensor(leaf)) for path, leaf in leaves_by_path(params).items()}
    plain = [p for path, p in tensors.items() if any(word in path for word in ("norm", "bias", "table"))]
    decaying = [p for p in tensors.values() if not any(p is other for other in plain)]
    optimizer = make([{"params": decaying}, {"params": plain, "weight_decay": 0.0}])
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, multiplier)
    for grad in grads:
        for path, leaf in leaves_by_path(grad).items():
            tensors[path].grad = torch.tensor(leaf)
        if clip is not None:
            torch.nn.utils.clip_grad_norm_(list(tensors.values()), clip)
        optimizer.step()
        scheduler.step()
    return {path: tensor.detach().numpy() for path, tensor in tensors.items()}


@pytest.mark.parametrize("clip", [None, 1.0, 1e6])
def test_adamw_equals_torch(params, grads, axes, roles, clip):
    spec = AdamW(learning_rate=0.02, schedule=Linear(final=0.5), clip=clip, weight_decay=0.3, b1=0.8, b2=0.9)
    found, _ = train(spec.build(params, 3, roles=roles, axes=axes), params, grads)
    make = lambda groups: torch.optim.AdamW(groups, lr=0.02, betas=(0.8, 0.9), weight_decay=0.3)  # noqa: E731
    expected = torch_train(params, grads, make, clip, lambda n: 1 - 0.25 * n)
    assert_close(leaves_by_path(found), expected, rtol=2e-5, atol=2e-6)


def test_adamw_equals_the_formula(params, grads, axes, roles):
    """AdamW, alg. 2 of arXiv:1711.05101 with the rate on the decay, in float64."""
    spec = AdamW(learning_rate=0.1, schedule=Constant(warmup=2), clip=None, weight_decay=0.2, b1=0.9, b2=0.99, eps=1e-3)
    found, _ = train(spec.build(params, 3, roles=roles, axes=axes), params, grads)
    p = params["head"]["kernel"].astype(np.float64)
    m = v = 0.0
    for n, grad in enumerate(grads, start=1):
        g = grad["head"]["kernel"].astype(np.float64)
        m, v = 0.9 * m + 0.1 * g, 0.99 * v + 0.01 * g**2
        direction = m / (1 - 0.9**n) / (np.sqrt(v / (1 - 0.99**n)) + 1e-3)
        p = p - 0.1 * min(n / 2, 1) * (direction + 0.2 * p)
    np.testing.assert_allclose(found["head"]["kernel"], p, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("nesterov", [False, True])
def test_sgd_equals_torch(params, grads, axes, roles, nesterov):
    """PyTorch couples its decay with the momentum; without decay the two must agree."""
    spec = SGD(learning_rate=0.1, schedule=Constant(), clip=2.0, momentum=0.7, nesterov=nesterov)
    found, _ = train(spec.build(params, 3, roles=roles, axes=axes), params, grads)
    make = lambda groups: torch.optim.SGD(groups, lr=0.1, momentum=0.7, nesterov=nesterov)  # noqa: E731
    assert_close(leaves_by_path(found), torch_train(params, grads, make, 2.0, lambda n: 1.0), rtol=1e-5, atol=1e-6)


def test_sgd_decay_is_decoupled(params, grads, axes, roles):
    spec = SGD(learning_rate=0.1, schedule=Constant(), clip=None, weight_decay=0.5, momentum=0.7)
    found, _ = train(spec.build(params, 3, roles=roles, axes=axes), params, grads)
    p, m = params["head"]["kernel"].astype(np.float64), 0.0
    for grad in grads:
        m = 0.7 * m + grad["head"]["kernel"]
        p = p - 0.1 * (m + 0.5 * p)
    np.testing.assert_allclose(found["head"]["kernel"], p, rtol=1e-5, atol=1e-6)


def test_multipliers_scale_the_whole_step(params, grads, axes, roles):
    rules = Rules((("embedding", 0.5), ("gain", 0.0), (".*", 1.0)))
    common = {"learning_rate": 0.1, "schedule": Constant(), "decay": Rules(((".*", 1.0),))}
    plain, _ = train(AdamW(**common).build(params, 1, roles=roles, axes=axes), params, grads[:1])
    found, _ = train(AdamW(**common, multipliers=rules).build(params, 1, roles=roles, axes=axes), params, grads[:1])
    factors = rules.resolve(leaves_by_path(params))
    expected = {
        path: leaf + factors[path] * (leaves_by_path(plain)[path] - leaf)
        for path, leaf in leaves_by_path(params).items()
    }
    assert_close(leaves_by_path(found), expected, rtol=1e-5, atol=1e-6)
    gain = lambda tree: tree["stack"]["blocks"]["mixer_norm"]["gain"]  # noqa: E731
    assert not np.array_equal(gain(plain), gain(params))


@pytest.mark.parametrize("spec", ALL, ids=ids)
def test_frozen_parameters_stay_and_have_no_state(spec, params, grads, axes, roles):
    frozen = dataclasses.replace(spec, freeze=("embedding", r"mixer\."))
    found, state = train_unfrozen(frozen, params, grads, axes, roles)
    before = leaves_by_path(params)
    for path, leaf in leaves_by_path(found).items():
        same = np.array_equal(leaf, before[path])
        assert same == (path.startswith("embedding") or "mixer." in path), path
    kept = " ".join(jax.tree_util.keystr(keys) for keys, _ in jax.tree_util.tree_flatten_with_path(state)[0])
    assert "embedding" not in kept
    assert "'mixer'" not in kept


def test_the_clipped_norm_is_that_of_the_trained_parameters(params, axes, roles):
    """As when PyTorch is given the parameters that require a gradient: a frozen gradient must not shrink the others."""
    grad = jax.tree.map(np.zeros_like, params)
    grad["head"]["kernel"][0, 0] = 3.0
    grad["embedding"]["table"][:] = 1e3
    spec = SGD(learning_rate=1.0, schedule=Constant(), momentum=0.0, clip=1.0, freeze=("embedding",))
    found, _ = train_unfrozen(spec, params, [grad], axes, roles)
    np.testing.assert_allclose(params["head"]["kernel"][0, 0] - found["head"]["kernel"][0, 0], 1.0, rtol=1e-6)


@pytest.mark.parametrize("spec", ALL, ids=ids)
def test_an_ensemble_member_equals_its_lone_run(spec, params, grads, axes):
    """Two learning rates and decays under vmap, against the spec built with each."""
    few = lambda tree: {"q": tree["stack"]["blocks"]["mixer"]["q"], "embedding": tree["embedding"]}  # noqa: E731
    params, axes, grads = few(params), few(axes), [few(grad) for grad in grads]
    roles = {"q.kernel": "linear", "q.bias": "constant", "embedding.table": "embedding"}
    rates, decays = np.float32([1e-3, 3e-2]), np.float32([0.0, 0.2])

    @jax.vmap
    def member(rate, decay):
        tx = spec.build(params, 3, roles=roles, axes=axes, learning_rate=rate, weight_decay=decay)
        return train(tx, params, grads)[0]

    together = member(rates, decays)
    for index in range(2):
        lone = dataclasses.replace(spec, learning_rate=float(rates[index]), weight_decay=float(decays[index]))
        alone, _ = train(lone.build(params, 3, roles=roles, axes=axes), params, grads)
        assert_close(jax.tree.map(lambda leaf, i=index: np.asarray(leaf)[i], together), alone, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("spec", BY_MATRIX, ids=ids)
def test_stacked_layers_take_the_steps_of_separate_ones(spec, params, grads, axes, roles):
    """A scanned model must train as the unrolled one does, whatever the optimiser does with matrices."""
    spec = dataclasses.replace(spec, learning_rate=0.05)
    found, _ = train(spec.build(params, 3, roles=roles, axes=axes), params, grads)

    def unrolled(tree):
        layer = lambda i: jax.tree.map(lambda leaf: np.asarray(leaf)[i], tree["stack"])  # noqa: E731
        return {**tree, "stack": {str(i): layer(i) for i in range(2)}}

    one = jax.tree.map(lambda names: names[1:], axes["stack"], is_leaf=lambda node: isinstance(node, tuple))
    unrolled_axes = {**axes, "stack": {str(i): one for i in range(2)}}
    unrolled_roles = roles | {path.replace("stack", f"stack.{i}"): roles[path] for path in roles for i in range(2)}
    expected, _ = train(
        spec.build(unrolled(params), 3, roles=unrolled_roles, axes=unrolled_axes),
        unrolled(params),
        map(unrolled, grads),
    )
    assert_close(unrolled(found), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("spec", BY_MATRIX, ids=ids)
def test_stacked_axes_may_stand_anywhere(spec):
    """Each expert's matrix of each layer moves as it would alone."""
    rng = np.random.default_rng(0)
    draw = lambda: {"w": rng.standard_normal((4, 2, 6, 3), np.float32)}  # noqa: E731
    params, grads, roles = draw(), [draw(), draw()], {"w": "linear"}
    spec = dataclasses.replace(spec, learning_rate=0.1, clip=None, schedule=Constant())
    found, _ = train(
        spec.build(params, 2, roles=roles, axes={"w": ("embed", "layers", "mlp", "experts")}), params, grads
    )
    for layer, expert in ((0, 0), (0, 2), (1, 1)):
        one = lambda tree: {"w": np.asarray(tree["w"])[:, layer, :, expert]}  # noqa: B023, E731
        alone = spec.build(one(params), 2, roles=roles, axes={"w": ("embed", "mlp")})
        expected, _ = train(alone, one(params), map(one, grads))
        assert_close(one(found), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("spec", ALL, ids=ids)
def test_parameters_may_be_of_half_precision(spec, params, grads, axes, roles):
    half = lambda tree: jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.bfloat16), tree)  # noqa: E731
    params, grad = half(params), half(grads[0])
    tx = dataclasses.replace(spec, schedule=Constant()).build(params, 3, roles=roles, axes=axes)
    updates, _ = jax.eval_shape(lambda: tx.update(grad, tx.init(params), params))
    assert {leaf.dtype for leaf in jax.tree.leaves(updates)} == {jnp.dtype(jnp.bfloat16)}


@pytest.mark.parametrize("spec", ALL, ids=ids)
def test_builds_from_shapes_and_minimises(spec, params, axes, roles):
    """From abstract parameters, and a quadratic goes down."""
    spec = dataclasses.replace(spec, learning_rate=0.05, weight_decay=0.0, schedule=Cosine(), clip=None)
    shapes = jax.eval_shape(lambda: jax.tree.map(jnp.asarray, params))
    tx, goal = spec.build(shapes, 30, roles=roles, axes=axes), random_tree(7)
    loss = lambda p: sum(jnp.sum((a - b) ** 2) for a, b in zip(jax.tree.leaves(p), jax.tree.leaves(goal), strict=True))  # noqa: E731

    def step(carry, _):
        p, state = carry
        updates, state = tx.update(jax.grad(loss)(p), state, p)
        return (optax.apply_updates(p, updates), state), loss(p)

    start = jax.tree.map(jnp.asarray, params)
    _, losses = jax.jit(lambda: jax.lax.scan(step, (start, tx.init(start)), length=30), compiler_options=QUICK)()
    assert losses[-1] < 0.8 * losses[0]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda p: AdamW(freeze=("kernal",)).build(p, 3, roles=ROLES), "freeze.0='kernal': matches no parameter"),
        (lambda p: AdamW(freeze=("(",)), "freeze.0='(': must be a regular expression"),
        (lambda p: AdamW(learning_rate=-1.0), "learning_rate=-1.0: must be at least 0"),
        (lambda p: AdamW(clip=0.0), "clip=0.0: must be greater than 0"),
        (lambda p: AdamW(b2=1.0), "b2=1.0: must be from 0 to below 1"),
        (lambda p: SGD(momentum=0.0, nesterov=True), "nesterov=True: needs a momentum above 0"),
        (lambda p: Muon(scale="none"), "scale='none': must be one of rms, width"),
    ],
)
def test_refusals(make, message, params):
    with pytest.raises(SpecError) as error:
        make(params)
    assert message in str(error.value)


def test_axes_must_agree_with_the_parameters(params, axes, roles):
    with pytest.raises(ValueError, match="Muon needs the logical axes"):
        Muon().build(params, 3, roles=roles)
    with pytest.raises(ValueError, match=r"differ in \['head.kernel'\]"):
        AdamW().build(params, 3, roles=roles, axes={key: value for key, value in axes.items() if key != "head"})
    with pytest.raises(ValueError, match=r"head.kernel has shape \(8, 11\) but the axes"):
        AdamW().build(params, 3, roles=roles, axes={**axes, "head": {"kernel": ("embed",)}})
    with pytest.raises(ValueError, match=r"roles have no embedding\.table, head\.kernel$"):
        AdamW().build(params, 3, axes=axes, roles={path: role for path, role in roles.items() if "stack" in path})
