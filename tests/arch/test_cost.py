"""Parameters and FLOPs against closed forms written out by hand."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from arch import cost
from arch.blocks import Parallel, PreNorm, SandwichNorm
from arch.layers.attention.softmax import Attention
from arch.layers.embeddings import Tied
from arch.layers.feed_forward import MLP, GatedMLP
from arch.layers.linear import Dense
from arch.layers.norms.common import LayerNorm, RMSNorm
from arch.layers.positions import Learned, NoPosition, T5Relative
from arch.models.base import Inputs
from arch.models.decoder import Decoder
from arch.stacks import Sequential
from tests.arch import tiny

T, L, V, D, F = 12, 3, 19, 32, 48
N, H, K = 4, 2, 8


def decoder(**fields):
    block = fields.pop("block", PreNorm(mixer=Attention(heads=N), feed_forward=GatedMLP(hidden=F)))
    return Decoder(**{"vocab": V, "width": D, "depth": L, "block": block, **fields})


DEFAULT_HIDDEN = 88
"""8/3 * 32 rounded up to a multiple of 8."""

COUNTS = {
    # name: (spec, embedding, body, head)
    "gated": (decoder(), V * D, L * (4 * D * D + 3 * D * F + 2 * D) + D, D * V),
    "grouped": (
        decoder(block=PreNorm(mixer=Attention(heads=N, kv_heads=H), feed_forward=GatedMLP())),
        V * D,
        L * (2 * D * D + 2 * D * H * K + 3 * D * DEFAULT_HIDDEN + 2 * D) + D,
        D * V,
    ),
    "tied": (decoder(head=Tied(), norm=None), V * D, L * (4 * D * D + 3 * D * F + 2 * D), 0),
    "gpt2": (
        decoder(
            block=PreNorm(
                mixer=Attention(heads=N, position=NoPosition(), linear=Dense(bias=True)),
                feed_forward=MLP(linear=Dense(bias=True)),
                norm=LayerNorm(),
            ),
            position=Learned(length=16),
            norm=LayerNorm(bias=False),
            head=Tied(),
        ),
        V * D + 16 * D,
        L * (4 * D * D + 4 * D + 8 * D * D + 4 * D + D + 4 * D) + D,
        0,
    ),
    "wide heads": (
        decoder(block=SandwichNorm(mixer=Attention(heads=6, head_dim=16, qk_norm=RMSNorm()), feed_forward=None)),
        V * D,
        L * (4 * D * 6 * 16 + 2 * 16 + 2 * D) + D,
        D * V,
    ),
    "parallel": (
        decoder(
            block=Parallel(mixer=Attention(heads=N, position=T5Relative(buckets=8)), feed_forward=MLP(hidden=F)),
            position=T5Relative(buckets=6, max_distance=9),
        ),
        V * D,
        L * (4 * D * D + 8 * N + 2 * D * F + D) + 6 * N + D,
        D * V,
    ),
}


@pytest.mark.parametrize("name", COUNTS)
def test_parameters(name):
    spec, embedding, body, head = COUNTS[name]
    counted = cost.parameters(spec)
    assert (counted.embedding, counted.body, counted.head) == (embedding, body, head)
    assert counted.total == embedding + body + head
    assert counted.non_embedding == body + head
    assert counted.total == sum(leaf.size for leaf in jax.tree.leaves(tiny.draw(spec)[1]))


def attention_flops(heads, kv_heads, width):
    """Projections, and scores and values over all T x T pairs."""
    return 2 * T * D * width * (2 * heads + 2 * kv_heads) + 2 * 2 * heads * T * T * width


HEAD = 2 * T * D * V
FLOPS = {
    "gated": (decoder(), L * (attention_flops(N, N, K) + 2 * T * 3 * D * F) + HEAD),
    "grouped": (COUNTS["grouped"][0], L * (attention_flops(N, H, K) + 2 * T * 3 * D * DEFAULT_HIDDEN) + HEAD),
    "tied": (COUNTS["tied"][0], L * (attention_flops(N, N, K) + 2 * T * 3 * D * F) + HEAD),
    "gpt2": (COUNTS["gpt2"][0], L * (attention_flops(N, N, K) + 2 * T * 8 * D * D) + HEAD),
    "wide heads": (COUNTS["wide heads"][0], L * attention_flops(6, 6, 16) + HEAD),
    "parallel": (COUNTS["parallel"][0], L * (attention_flops(N, N, K) + 2 * T * 2 * D * F) + HEAD),
}


@pytest.mark.parametrize("loop", ["scan", "unroll"])
@pytest.mark.parametrize("name", FLOPS)
def test_forward_flops(name, loop):
    spec, expected = FLOPS[name]
    assert cost.forward_flops(dataclasses.replace(spec, stack=Sequential(loop=loop)), T) == expected


def step_flops(spec):
    """FLOPs of one gradient of the mean logit."""
    graphdef, params = nnx.split(cost.abstract(spec), nnx.Param)
    tokens = jax.ShapeDtypeStruct((1, T), jnp.int32)
    loss = lambda p, t: jnp.mean(nnx.merge(graphdef, p)(Inputs(tokens=t)).logits)  # noqa: E731
    return cost.flops(jax.value_and_grad(loss), nnx.to_pure_dict(params), tokens)


@pytest.mark.parametrize("loop", ["scan", "unroll"])
@pytest.mark.parametrize("name", FLOPS)
def test_a_step_is_three_forwards(name, loop):
    spec, forward = FLOPS[name]
    assert step_flops(dataclasses.replace(spec, stack=Sequential(loop=loop))) == 3 * forward
    assert cost.train_flops_per_token(spec, T) == 3 * forward / T


@pytest.mark.parametrize("loop", ["scan", "unroll"])
def test_rematerialisation_repeats_the_body(loop):
    spec, forward = FLOPS["gated"]
    count = lambda remat: step_flops(dataclasses.replace(spec, stack=Sequential(loop, remat)))  # noqa: E731
    assert count("dots") == 3 * forward
    attention_products = L * 4 * N * T * T * K
    assert count("dots_no_batch") == 3 * forward + attention_products
    # All but each block's last product, whose result the backward pass does not need.
    assert count("full") == 3 * forward + (forward - HEAD) - L * 2 * T * D * F
    assert cost.train_flops_per_token(dataclasses.replace(spec, stack=Sequential(loop, "full")), T) == 3 * forward / T


def test_decoding_step_counts_the_whole_cache():
    spec = decoder()
    graphdef, params = nnx.split(cost.abstract(spec), nnx.Param)

    def step(p, t):
        model = nnx.merge(graphdef, p)
        return model(Inputs(tokens=t), cache=model.init_cache(1, T)).logits

    counted = cost.flops(step, nnx.to_pure_dict(params), jax.ShapeDtypeStruct((1, 1), jnp.int32))
    assert counted == L * (2 * D * D * 4 + 4 * D * T + 2 * 3 * D * F) + 2 * D * V


def test_xla_counts_a_scanned_body_once():
    """Why the jaxpr is walked instead."""
    xla = {}
    for loop in ("scan", "unroll"):
        forward, params = tiny.forward(decoder(depth=8, stack=Sequential(loop=loop)))
        xla[loop] = jax.jit(forward).lower(params, tiny.tokens(1, T)).cost_analysis()["flops"]
    ours = cost.forward_flops(decoder(depth=8), T)
    assert xla["scan"] < 0.5 * ours < ours < xla["unroll"]


A, W = jnp.zeros((5, 7)), jnp.zeros((7, 3))
PRODUCT = 2 * 5 * 7 * 3


@pytest.mark.parametrize(
    ("fn", "expected"),
    [
        (lambda a, w: a @ w, PRODUCT),
        (lambda a, w: jnp.einsum("ab,bc->", a, w), None),
        (lambda a, w: jax.jit(lambda: a @ w)() + jax.checkpoint(jnp.dot)(a, w), 2 * PRODUCT),
        (lambda a, w: jax.lax.scan(lambda c, _: (c + (a @ w).sum(), None), 0.0, None, length=6)[0], 6 * PRODUCT),
        (lambda a, w: jax.lax.cond(a.sum() > 0, lambda: a @ w @ w.T @ w, lambda: a @ w), PRODUCT * 3),
        (lambda a, w: jax.lax.while_loop(lambda i: i < 3, lambda i: i + 1, 0) * (a @ w).sum(), PRODUCT),
        (lambda a, w: jax.vmap(lambda row: row @ w)(a), PRODUCT),
        (lambda a, w: jax.nn.relu(a) + jnp.sin(a), 0),
    ],
    ids=["dot", "einsum", "calls", "scan", "cond", "while", "vmap", "elementwise"],
)
def test_flops_of_programs(fn, expected):
    with jax.numpy_dtype_promotion("standard"):
        counted = cost.flops(fn, A, W)
    if expected is None:  # However the sum over both is arranged, some product is counted.
        assert counted > 0
    else:
        assert counted == expected


def test_flops_of_a_convolution():
    image, kernel = jnp.zeros((2, 8, 8, 6)), jnp.zeros((3, 3, 3, 10))
    convolve = lambda x, k: jax.lax.conv_general_dilated(  # noqa: E731
        x, k, (2, 2), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"), feature_group_count=2
    )
    assert cost.flops(convolve, image, kernel) == 2 * (2 * 4 * 4 * 10) * (3 * 3 * 3)


@pytest.mark.parametrize("batch", [None, 2])
def test_a_ragged_product_counts_as_a_dense_one_of_its_rows(batch):
    """Forward, and with both gradients three times that: each row meets one of the three matrices."""
    rows, matrices, sizes = jnp.zeros((6, 4)), jnp.zeros((3, 4, 5)), jnp.asarray([1, 2, 3])
    product = jax.lax.ragged_dot
    if batch is not None:
        product = jax.vmap(product)
        rows, matrices, sizes = (jnp.broadcast_to(x, (batch, *x.shape)) for x in (rows, matrices, sizes))
    dense = 2 * 6 * 4 * 5 * (batch or 1)
    assert cost.flops(product, rows, matrices, sizes) == dense
    gradients = jax.grad(lambda x, w, sizes: product(x, w, sizes).sum(), argnums=(0, 1))
    assert cost.flops(gradients, rows, matrices, sizes) == 3 * dense
    by_hand = lambda x, w: jnp.stack([x[i] @ w[j] for i, j in enumerate((0, 1, 1, 2, 2, 2))])  # noqa: E731
    if batch is None:
        assert cost.flops(by_hand, rows, matrices) == dense


SQUARE = jnp.eye(4)
UNCOUNTED = {
    "fft": jnp.fft.fft,
    "cholesky": jnp.linalg.cholesky,
    "eigh": jnp.linalg.eigh,
    "qr": jnp.linalg.qr,
    "svd": jnp.linalg.svd,
    "lu": jax.scipy.linalg.lu,
    "triangular_solve": lambda a: jax.scipy.linalg.solve_triangular(a, a),
    "custom_linear_solve": lambda a: jax.scipy.sparse.linalg.cg(lambda v: a @ v, a[0])[0],
    "pure_callback": lambda a: jax.pure_callback(lambda x: x, a, a),
    "ffi_call": lambda a: jax.ffi.ffi_call("gemm", a)(a),
    "scaled_matmul_wrapper": lambda a: jax.nn.scaled_matmul(*[jnp.zeros((1, 32, 32), jnp.float8_e4m3fn)] * 4),
}


@pytest.mark.parametrize("name", UNCOUNTED)
def test_products_that_are_not_counted_are_refused_by_name(name):
    """Also inside what is called, scanned, differentiated by a rule, or beside a product that is counted."""
    within = lambda a: jax.lax.scan(lambda c, _: (c, jax.jit(UNCOUNTED[name])(a @ a)), 0, None, length=2)  # noqa: E731
    for program in (UNCOUNTED[name], within):
        with pytest.raises(cost.UncountedError, match=f"^cannot count the FLOPs of {name};.*are counted$"):
            cost.flops(program, SQUARE)


def test_what_only_moves_compares_or_prints_counts_nothing():
    def program(a):
        jax.debug.print("{}", a[0, 0])
        order = jnp.argsort(a[0])
        noise = jax.random.normal(jax.random.key(0), a.shape)
        return jnp.cumsum(a[order] + noise), jax.lax.top_k(a, 2), jax.lax.associative_scan(jnp.multiply, a)

    assert cost.flops(program, SQUARE) == 0


def test_products_with_derivatives_of_their_own_are_walked():
    @jax.custom_vjp
    def product(a):
        return a @ a

    product.defvjp(lambda a: (a @ a, a), lambda a, g: (g @ a.T + a.T @ g,))
    assert cost.flops(product, SQUARE) == 2 * 4**3
    assert cost.flops(jax.grad(lambda a: product(a).sum()), SQUARE) == 3 * 2 * 4**3


def test_a_product_in_a_while_loop_cannot_be_counted():
    loop = lambda a: jax.lax.while_loop(lambda c: c.sum() > 0, lambda c: c @ a, a)  # noqa: E731
    with pytest.raises(ValueError, match="while loop"):
        cost.flops(loop, jnp.zeros((3, 3)))


def test_nothing_is_allocated():
    """A model of a trillion parameters is counted at once."""
    spec = Decoder(vocab=100_000, width=2**15, depth=100, block=PreNorm(mixer=Attention(heads=256)))
    assert cost.parameters(spec).total > 1e12
    assert all(isinstance(leaf, jax.ShapeDtypeStruct) for leaf in jax.tree.leaves(nnx.state(cost.abstract(spec))))
    assert np.isclose(cost.forward_flops(spec, 2), 2 * 2 * cost.parameters(spec).non_embedding, rtol=1e-3)
