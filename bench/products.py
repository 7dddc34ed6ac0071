"""How fast this machine multiplies: x [M, K] by kernel [K, N], by the types of operands and result; torch beside it.

    python -m bench.products [--device=gpu] [--shape=2048,512,2048] [--rounds=15]

On CPUs with matrix units (AMX) XLA uses them for bfloat16 operands with a float32 result, and not for a bfloat16 one.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from typing import Any

from absl import app, flags

from bench.alternate import alternate
from bench.machine import choose, cores, processor

FLAGS = flags.FLAGS if __name__ == "__main__" else flags.FlagValues()
DEVICE = flags.DEFINE_enum("device", "cpu", ["cpu", "gpu"], "Where.", flag_values=FLAGS)
SHAPE = flags.DEFINE_list("shape", ["2048", "512", "2048"], "M, K and N.", flag_values=FLAGS)
ROUNDS = flags.DEFINE_integer("rounds", 15, "Runs of each contestant, alternating.", flag_values=FLAGS)

CALLS = 10


def ours(argument: dict[str, Any]) -> Callable[[], None]:
    """XLA's product, `replicas` of them side by side as one batched product if there are several."""
    import jax
    import jax.numpy as jnp
    import numpy as np

    (m, k, n), count = argument["shape"], argument["replicas"]
    rng, kind = np.random.default_rng(0), jnp.dtype(argument["operands"])
    x = jnp.asarray(rng.standard_normal((count, m // count, k)), kind)
    kernel = jnp.asarray(rng.standard_normal((count, k, n)), kind)
    if count == 1:
        x, kernel = x[0], kernel[0]
    multiply = jax.jit(lambda x, kernel: jnp.matmul(x, kernel, preferred_element_type=jnp.dtype(argument["result"])))

    def run() -> None:
        jax.block_until_ready([multiply(x, kernel) for _ in range(CALLS)])

    return run


def theirs(argument: dict[str, Any]) -> Callable[[], None]:
    """torch's product."""
    import torch

    torch.set_num_threads(cores())
    device, kind = "cuda" if argument["device"] == "gpu" else "cpu", getattr(torch, argument["operands"])
    m, k, n = argument["shape"]
    x, kernel = torch.randn(m, k).to(device, kind), torch.randn(k, n).to(device, kind)

    def run() -> None:
        for _ in range(CALLS):
            x @ kernel
        if device == "cuda":
            torch.cuda.synchronize()

    return run


def contestants(device: str, shape: list[int]) -> dict[str, tuple[str, str, Any]]:
    """Name -> what `alternate` runs."""
    found: dict[str, tuple[str, str, Any]] = {}
    for operands, result in [("float32", "float32"), ("bfloat16", "bfloat16"), ("bfloat16", "float32")]:
        for count in (1, 4):
            name = f"{operands} -> {result}" + (f", {count} batched" if count > 1 else "")
            what = {"shape": shape, "operands": operands, "result": result, "replicas": count}
            found[name] = ("bench.products", "ours", what)
    for operands in ("float32", "bfloat16"):
        what = {"device": device, "shape": shape, "operands": operands}
        found[f"torch, {operands}"] = ("bench.products", "theirs", what)
    return found


def report(seconds: dict[str, list[float]], shape: list[int]) -> str:
    """GFLOP/s of each, median and best."""
    m, k, n = shape
    work = 2e-9 * m * k * n * CALLS
    lines = [f"{'GFLOP/s':32s} {'median':>9s} {'best':>9s}"]
    for name, times in seconds.items():
        lines.append(f"{name:32s} {work / statistics.median(times):9,.0f} {work / min(times):9,.0f}")
    return "\n".join(lines)


def main(argv: list[str]) -> None:
    on_gpu, shape = choose(DEVICE.value), [int(size) for size in SHAPE.value]
    print(f"{processor()}, {cores()} cores; {' x '.join(map(str, shape))}")
    print(report(alternate(contestants(DEVICE.value, shape), ROUNDS.value, at_once=on_gpu), shape), flush=True)


if __name__ == "__main__":
    app.run(main)
