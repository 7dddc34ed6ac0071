"""Fused kernels against the plain form, and when they are chosen. No accelerator: Pallas is interpreted."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from arch.layers.attention import flash
from arch.layers.attention.attend import Scores, Visibility, attend, plain, plain_form
from arch.layers.attention.masks import Bidirectional, Causal, LocalWindow, SlidingWindow
from arch.sharding import activations
from arch.taps import NoTap, Tap

B, T, N, H, K = 2, 128, 2, 1, 32
RNG = np.random.default_rng(0)
SEGMENTS = jnp.asarray(np.repeat([[1, 2, 2, 0], [1, 1, 1, 1]], T // 4, axis=1), jnp.int32)
POSITIONS = jnp.arange(T, dtype=jnp.int32)[None]
MASKS = [Causal(), Bidirectional(), SlidingWindow(16), LocalWindow(7)]


def qkv(dtype=jnp.float32):
    return tuple(jnp.asarray(RNG.standard_normal((B, T, n, K)), dtype) for n in (N, H, H))


def visibility(mask, segments=None, cached=False):
    return Visibility(mask, POSITIONS, POSITIONS, segments, segments, cached)


def agree(fused, mask, segments, softcap=None):
    """Outputs and gradients of `fused` and of the plain form, padding left out."""
    arguments, scores = qkv(), Scores(0.3, softcap)
    weight = jnp.asarray(RNG.standard_normal((B, T, N, K)), jnp.float32)
    weight = weight if segments is None else weight * (segments > 0)[:, :, None, None].astype(jnp.float32)

    def reference(q, k, v):
        return plain(q, k, v, visible=visibility(mask, segments).dense(), bias=None, scores=scores, tap=NoTap())

    def outputs(fn):
        def total(*a):
            z = fn(*a) * weight
            return z.sum(), z

        return jax.jit(jax.grad(total, argnums=(0, 1, 2), has_aux=True))(*arguments)

    jax.tree.map(partial(np.testing.assert_allclose, rtol=2e-5, atol=2e-5), outputs(fused), outputs(reference))


@pytest.mark.parametrize(
    ("mask", "segments"),
    [(Causal(), None), *((mask, SEGMENTS) for mask in MASKS)],
    ids=["causal, one document", *(f"{type(mask).__name__}, packed" for mask in MASKS)],
)
def test_splash_is_plain_attention(mask, segments):
    fused = partial(flash.splash, span=mask.span, segments=segments, scale=0.3, softcap=None, interpret=True)
    agree(fused, mask, segments)


def test_splash_caps_scores():
    agree(
        partial(flash.splash, span=(None, 0), segments=None, scale=0.3, softcap=1.5, interpret=True),
        Causal(),
        None,
        softcap=1.5,
    )


@pytest.mark.parametrize("segments", [None, SEGMENTS], ids=["one document", "packed"])
@pytest.mark.parametrize("mask", MASKS[:3], ids=lambda mask: type(mask).__name__)
def test_the_call_of_cudnn_means_plain_attention(mask, segments):
    """The same call, carried out by JAX in place of cuDNN."""
    agree(partial(flash.cudnn, span=mask.span, segments=segments, scale=0.3, implementation="xla"), mask, segments)


class Library:
    """cuDNN, as far as tracing asks for it."""

    def __getattr__(self, name):
        return lambda *_: 91_000


@pytest.mark.parametrize("segments", [False, True], ids=["one document", "packed"])
def test_ensembles_reach_the_kernel_as_more_rows(segments, monkeypatch):
    """Traced: vmap of the gradient is one forward and one backward kernel on the rows of all members."""
    from jax._src.cudnn import fused_attention_stablehlo as cudnn

    monkeypatch.setattr(cudnn, "cuda_versions", Library())
    monkeypatch.setattr(cudnn, "check_compute_capability", lambda *_: True, raising=False)
    members = 3
    q, k = (jnp.zeros((members, B, T, n, K), jnp.bfloat16) for n in (N, H))

    def loss(q, k, v, ids):
        z = flash.cudnn(q, k, v, span=(None, 0), segments=ids if segments else None, scale=0.3)
        return z.astype(jnp.float32).sum()

    program = jax.make_jaxpr(jax.vmap(jax.grad(loss, (0, 1, 2))))(q, k, k, jnp.stack([SEGMENTS] * members))
    kernels = [equation for equation in equations(program.jaxpr) if "dot_product_attention" in equation.primitive.name]
    assert len(kernels) == 2
    assert all(equation.invars[0].aval.shape == (members * B, T, N, K) for equation in kernels)
    assert [out.shape for out in program.out_avals] == [q.shape, k.shape, k.shape]


def equations(jaxpr):
    for equation in jaxpr.eqns:
        yield equation
        for value in jax.tree.leaves(tuple(equation.params.values()), is_leaf=lambda x: hasattr(x, "eqns")):
            inner = getattr(value, "jaxpr", value)
            if hasattr(inner, "eqns"):
                yield from equations(inner)


@pytest.mark.skipif(jax.default_backend() != "gpu", reason="cuDNN's attention runs on NVIDIA GPUs alone")
@pytest.mark.parametrize("segments", [None, SEGMENTS], ids=["one document", "packed"])
@pytest.mark.parametrize("mask", MASKS[:3], ids=lambda mask: type(mask).__name__)
def test_cudnn_is_plain_attention(mask, segments):
    """In bfloat16, against float32: within what rounding q, k, v and the softmax to 8 bits leaves."""
    q, k, v = qkv()
    weight = jnp.asarray(RNG.standard_normal((B, T, N, K)), jnp.float32)
    weight = weight if segments is None else weight * (segments > 0)[:, :, None, None].astype(jnp.float32)

    def fused(q, k, v):
        half = (x.astype(jnp.bfloat16) for x in (q, k, v))
        return flash.cudnn(*half, span=mask.span, segments=segments, scale=0.3).astype(jnp.float32)

    def reference(q, k, v):
        return plain(q, k, v, visible=visibility(mask, segments).dense(), bias=None, scores=Scores(0.3), tap=NoTap())

    def outputs(fn):
        def total(*a):
            z = fn(*a) * weight
            return z.sum(), z

        return jax.jit(jax.grad(total, argnums=(0, 1, 2), has_aux=True))(q, k, v)

    with jax.default_matmul_precision("highest"):
        expected = outputs(reference)
    for ours, theirs in zip(jax.tree.leaves(outputs(fused)), jax.tree.leaves(expected), strict=True):
        assert np.linalg.norm(ours - theirs) / np.linalg.norm(theirs) < 1e-2


class Devices:
    """A placement of one device of `platform`."""

    def __init__(self, platform):
        self.platform = platform

    def __call__(self, x, axes):
        return x

    def couple_rows(self):
        pass

    def parts(self, axis):
        return 1

    def split(self, fn, inputs, output):
        return fn


CASES = {
    "tpu": ("tpu", {}, "splash"),
    "gpu": ("gpu", {"dtype": jnp.bfloat16}, "cudnn"),
    "gpu in float32": ("gpu", {}, None),
    "cpu": ("cpu", {}, None),
    "a cached step": ("tpu", {"cached": True}, None),
    "a biased score": ("tpu", {"bias": True}, None),
    "a tapped pattern": ("tpu", {"tap": True}, None),
    "a capped score on a gpu": ("gpu", {"dtype": jnp.bfloat16, "softcap": 2.0}, None),
    "a two-sided window on a gpu": ("gpu", {"dtype": jnp.bfloat16, "mask": LocalWindow(3)}, None),
    "counting": ("tpu", {"counting": True}, None),
}


@pytest.mark.parametrize(("platform", "case", "expected"), CASES.values(), ids=CASES)
def test_the_kernel_suits_the_platform_and_the_case(platform, case, expected, monkeypatch):
    chosen = []
    for name in ("splash", "cudnn"):
        monkeypatch.setattr(flash, name, lambda q, k, v, name=name, **rest: chosen.append(name) or q)
    tap = Tap(save="attn.pattern").recorder() if case.get("tap") else NoTap()
    bias = jnp.zeros((1, N, T, T)) if case.get("bias") else None
    run = partial(
        attend,
        visibility=visibility(case.get("mask", Causal()), cached=case.get("cached", False)),
        bias=bias,
        scores=Scores(1.0, case.get("softcap")),
        tap=tap,
    )
    with activations(Devices(platform)):
        if case.get("counting"):
            with plain_form():
                jax.eval_shape(run, *qkv())
        else:
            jax.eval_shape(run, *qkv(case.get("dtype", jnp.float32)))
    assert chosen == ([expected] if expected else [])
