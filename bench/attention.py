"""The forms of causal self-attention, forward and backward, at equal tokens: plain, blockwise, fused kernels, torch's.

    python -m bench.attention --device=gpu [--lengths=1024,2048,8192] [--heads=12] [--rounds=15]

Heads of 64 in bfloat16. "packed" is rows of several documents, whose segment ids are part of the mask; the others are
rows of one document. On the CPU `jax.nn.dot_product_attention` takes its own form in place of cuDNN's.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from typing import Any

from absl import app, flags

from bench.alternate import alternate, table
from bench.machine import choose, cores, processor

FLAGS = flags.FLAGS if __name__ == "__main__" else flags.FlagValues()
DEVICE = flags.DEFINE_enum("device", "cpu", ["cpu", "gpu"], "Where.", flag_values=FLAGS)
LENGTHS = flags.DEFINE_list("lengths", ["1024", "2048", "8192"], "Tokens a row.", flag_values=FLAGS)
TOKENS = flags.DEFINE_integer("tokens", 16_384, "Of all rows.", flag_values=FLAGS)
HEADS = flags.DEFINE_integer("heads", 12, "Of 64.", flag_values=FLAGS)
ROUNDS = flags.DEFINE_integer("rounds", 15, "Runs of each contestant, alternating.", flag_values=FLAGS)

HEAD_DIM = 64
CALLS = 10
"""Calls of which one run is made: one alone is not much longer than its dispatch."""


def ours(argument: dict[str, Any]) -> Callable[[], None]:
    """One of the forms that `attend` chooses among, or a kernel of JAX's that it does not use."""
    import jax
    import jax.numpy as jnp
    import numpy as np

    from arch.layers.attention import flash
    from arch.layers.attention.attend import Scores, Visibility, plain
    from arch.layers.attention.blockwise import blockwise
    from arch.layers.attention.masks import Causal
    from arch.taps import NoTap

    rows, length, heads = argument["rows"], argument["length"], argument["heads"]
    rng, shape = np.random.default_rng(0), (rows, length, heads, HEAD_DIM)
    q, k, v, weight = (jnp.asarray(rng.standard_normal(shape), jnp.bfloat16) for _ in range(4))
    documents = np.sort(rng.integers(1, 9, (rows, length)), axis=1).astype(np.int32)
    segments = jnp.asarray(documents) if argument["packed"] else None
    positions = jnp.arange(length, dtype=jnp.int32)[None]
    scale, span = HEAD_DIM**-0.5, Causal().span
    visible = Visibility(Causal(), positions, positions, segments, segments).dense()

    def triton(q: jax.Array, k: jax.Array, v: jax.Array) -> jax.Array:
        from jax.experimental.pallas.ops.gpu.attention import mha

        return mha(q, k, v, segments, sm_scale=scale, causal=True)

    implementation: Any = "xla" if jax.default_backend() == "cpu" else "cudnn"
    forms: dict[str, Callable[..., jax.Array]] = {
        "plain": partial(plain, visible=visible, bias=None, scores=Scores(scale), tap=NoTap()),
        "blockwise": partial(blockwise, span=span, visible=visible, bias=None, scores=Scores(scale)),
        "cudnn": partial(flash.cudnn, span=span, segments=segments, scale=scale, implementation=implementation),
        "triton": triton,
    }
    form = forms[argument["form"]]
    gradients = jax.jit(jax.grad(lambda *qkv: jnp.sum((form(*qkv) * weight).astype(jnp.float32)), argnums=(0, 1, 2)))

    def run() -> None:
        jax.block_until_ready([gradients(q, k, v) for _ in range(CALLS)])

    return run


def theirs(argument: dict[str, Any]) -> Callable[[], None]:
    """torch's scaled_dot_product_attention through the backend named by `form`."""
    import torch
    from torch.nn.attention import SDPBackend, sdpa_kernel

    device = "cuda" if argument["device"] == "gpu" else "cpu"
    shape = (argument["rows"], argument["heads"], argument["length"], HEAD_DIM)
    q, k, v, weight = (torch.randn(shape, device=device, dtype=torch.bfloat16) for _ in range(4))
    inputs = [x.requires_grad_() for x in (q, k, v)]
    backend = getattr(SDPBackend, argument["form"])

    def run() -> None:
        for _ in range(CALLS):
            with sdpa_kernel(backend):
                z = torch.nn.functional.scaled_dot_product_attention(*inputs, is_causal=True)
            torch.autograd.grad(z, inputs, weight)
        if device == "cuda":
            torch.cuda.synchronize()

    return run


def contestants(device: str, length: int, tokens: int, heads: int) -> dict[str, tuple[str, str, Any]]:
    """Name -> what `alternate` runs. "ours, packed" is what a model gets on the device, whose data has segment ids."""
    what = {"device": device, "rows": tokens // length, "length": length, "heads": heads}
    best = "cudnn" if device == "gpu" else "blockwise"
    named = {
        "ours, packed": ("ours", best, True),
        "ours": ("ours", best, False),
        "plain, packed": ("ours", "plain", True),
        "plain": ("ours", "plain", False),
    }
    if device == "gpu":
        named["JAX's Triton, packed"] = ("ours", "triton", True)
        named["torch, cuDNN"] = ("theirs", "CUDNN_ATTENTION", False)
        named["torch, flash"] = ("theirs", "FLASH_ATTENTION", False)
    else:
        named["dot_product_attention"] = ("ours", "cudnn", False)
        named["torch, flash"] = ("theirs", "FLASH_ATTENTION", False)
    if length > 4096:
        del named["plain, packed"], named["plain"]  # their scores alone are tens of GiB
    return {
        name: ("bench.attention", function, {**what, "form": form, "packed": packed})
        for name, (function, form, packed) in named.items()
    }


def main(argv: list[str]) -> None:
    on_gpu = choose(DEVICE.value)
    print(f"{processor()}, {cores()} cores, load {os.getloadavg()[0]:.1f}")
    for length in map(int, LENGTHS.value):
        print(f"\n{TOKENS.value // length} x {length} tokens, {HEADS.value} heads of {HEAD_DIM}; {CALLS} calls")
        runs = contestants(DEVICE.value, length, TOKENS.value, HEADS.value)
        print(table(alternate(runs, ROUNDS.value, at_once=on_gpu), "ours, packed"), flush=True)


if __name__ == "__main__":
    app.run(main)
