"""All quantisers by name, small, and one compiled function each: what a quantiser makes of 12 vectors of 8."""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np

from arch.bottlenecks.codebook import Codebook
from arch.bottlenecks.finite_scalar import FiniteScalar
from arch.bottlenecks.gated import Gated
from arch.bottlenecks.gradients import Rotation
from arch.bottlenecks.gumbel import GumbelSoftmax
from arch.bottlenecks.lookup_free import LookupFree
from arch.bottlenecks.residual import Residual
from arch.bottlenecks.several import Grouped
from arch.bottlenecks.sim_vq import SimVQ
from arch.bottlenecks.top_k import BatchTopK, TopK
from arch.bottlenecks.vector_quantized import LearnedCodes, VectorQuantized
from arch.layers.init.initializers import FanIn
from arch.params import ParamFactory, merge, split
from tests.arch import tiny

ROWS, WIDTH = 12, 8

TABLE = {
    "codebook": Codebook(codes=12, k=3),
    "codebook as released": Codebook(codes=12, k=3, compat="code"),
    "grouped codebook": Grouped(Codebook(codes=12, k=2, prenorm="layer"), groups=2),
    "running means": VectorQuantized(codes=6, decay=0.9, revive=0.05),
    "learned codes": LearnedCodes(codes=6, gradient=Rotation()),
    "residual": Residual(VectorQuantized(codes=6), stages=2),
    "SimVQ": SimVQ(codes=6),
    "FSQ": FiniteScalar(levels=(4, 3)),
    "LFQ": LookupFree(binary=3, temperature=1.0, group=2),
    "Gumbel-softmax": GumbelSoftmax(codes=6, weight=0.1),
    "top k": TopK(codes=16, k=3),
    "batch top k": BatchTopK(codes=16, k=3),
    "gated": Gated(codes=16, k=16, sparsity=0.1),
}


def vectors(seed=0, rows=ROWS, width=WIDTH):
    return np.random.default_rng(seed).normal(size=(rows, width)).astype(np.float32)


def build(spec, width=WIDTH):
    """(graph, parameters, buffers)."""
    return split(spec.build(width, ParamFactory(jax.random.key(0), FanIn())))


def called(state, x, weights=None, training=False, **told):
    """What the parts (graph, parameters, buffers) make of `x`, compiled."""
    graph, params, buffers = state

    def fn(params, buffers, x, weights, told):
        return merge(graph, params, buffers).quantize(x, weights, training=training, **told)

    return tiny.jit(fn)(params, buffers, x, weights, told)


def quantized(spec, x, **told):
    """What a fresh quantiser makes of `x`."""
    return called(build(spec, x.shape[-1]), x, **told)


def host(tree):
    """In numpy, for formulas."""
    return jax.tree.map(np.asarray, tree)


@cache
def compiled(name):
    """`fn(x, weights, other=False) -> (found, found again, gradient of values and losses by parameters and x)`, the
    values with the upstream gradient `vectors(1)`; and the parts (graph, parameters, buffers). It is found again by its
    own codes and amplitudes, or by others."""
    graph, params, buffers = build(TABLE[name])

    def loss(params, x, weights):
        found = merge(graph, params, buffers).quantize(x, weights)
        total = sum(one.value for one in found.losses.values())
        return jnp.sum(found.values.astype(jnp.float32) * vectors(1)) + total, found

    def fn(x, weights, other):
        (_, found), grads = jax.value_and_grad(loss, (0, 1), has_aux=True)(params, x, weights)
        part = merge(graph, params, buffers)
        codes = jnp.where(other, (found.codes + 1) % 6, found.codes)
        amplitudes = None if found.amplitudes is None else found.amplitudes + other.astype(jnp.float32)
        return found, part.quantize(x, weights, codes=codes, amplitudes=amplitudes), grads

    whole = tiny.jit(fn)
    return lambda x, weights, other=False: whole(x, weights, jnp.asarray(other)), (graph, params, buffers)
