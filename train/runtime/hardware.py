"""Peak arithmetic of accelerators, and model FLOPs utilisation (MFU, PaLM, arXiv:2204.02311, appendix B).

Peaks are those of dense matrix products as the vendors publish them; where a data sheet counts 2:4 sparsity, half
of it. A peak is that of one JAX device, which is a chip except on the TPUs whose two cores are two devices. An unknown
device has no peak and so no MFU, rather than a wrong one; so have slices of a GPU (MIG), whose names say so.
"""

from __future__ import annotations

import dataclasses
import functools
import time
from collections.abc import Sequence

import jax
import jax.numpy as jnp


@dataclasses.dataclass(frozen=True)
class Peak:
    """FLOP/s of one device by operand type; None where the device has no matrix unit for the type.

    `float32` is what XLA makes of a float32 product by default: TF32 on GPUs that have it, one bfloat16 pass on TPUs.
    """

    bfloat16: float | None
    float32: float | None
    float16: float | None = None


def _tpu(teraflops: float) -> Peak:
    return Peak(bfloat16=teraflops * 1e12, float32=teraflops * 1e12)


def _gpu(half: float, tf32: float) -> Peak:
    return Peak(bfloat16=half * 1e12, float32=tf32 * 1e12, float16=half * 1e12)


# By `jax.Device.device_kind`.
PEAKS: dict[str, Peak] = {
    # cloud.google.com/tpu/docs/v2, /v3: 45 and 123 TFLOP/s a chip of two cores, each a device.
    "TPU v2": _tpu(45 / 2),
    "TPU v3": _tpu(123 / 2),
    # cloud.google.com/tpu/docs/v4, /v5e, /v5p, /v6e: 275, 197, 459 and 918 TFLOP/s a chip, one device.
    "TPU v4": _tpu(275),
    "TPU v5 lite": _tpu(197),
    "TPU v5e": _tpu(197),
    "TPU v5": _tpu(459),
    "TPU v5p": _tpu(459),
    "TPU v6 lite": _tpu(918),
    "TPU v6e": _tpu(918),
    # cloud.google.com/tpu/docs/tpu7x: 2307 TFLOP/s a chip of two cores, each a device.
    "TPU7x": _tpu(2307 / 2),
    # NVIDIA V100 data sheet: 125 TFLOP/s float16; no bfloat16 and no TF32.
    "Tesla V100-SXM2-16GB": Peak(None, 15.7e12, 125e12),
    "Tesla V100-SXM2-32GB": Peak(None, 15.7e12, 125e12),
    # NVIDIA T4 data sheet: 65 TFLOP/s float16, 8.1 float32; no bfloat16 and no TF32.
    "Tesla T4": Peak(None, 8.1e12, 65e12),
    # NVIDIA A100 data sheet: 312 bfloat16, 156 TF32, dense; all forms alike.
    "NVIDIA A100-SXM4-40GB": _gpu(312, 156),
    "NVIDIA A100-SXM4-80GB": _gpu(312, 156),
    "NVIDIA A100-PCIE-40GB": _gpu(312, 156),
    "NVIDIA A100 80GB PCIe": _gpu(312, 156),
    # NVIDIA L4 and L40S data sheets: 242 and 733 bfloat16, 120 and 366 TF32, with sparsity.
    "NVIDIA L4": _gpu(121, 60),
    "NVIDIA L40S": _gpu(366.5, 183),
    # NVIDIA H100 and H200 data sheets: SXM 1979 bfloat16 and 989 TF32, NVL 1671 and 835, with sparsity; PCIe from the
    # Hopper white paper, table 2: 756 and 378, dense.
    "NVIDIA H100 80GB HBM3": _gpu(989.5, 494.5),
    "NVIDIA H100 PCIe": _gpu(756, 378),
    "NVIDIA H100 NVL": _gpu(835.5, 417.5),
    "NVIDIA H200": _gpu(989.5, 494.5),
    "NVIDIA H200 NVL": _gpu(835.5, 417.5),
    # NVIDIA HGX B200 data sheet, a system of eight: 36 PFLOP/s bfloat16 and 18 TF32, with sparsity.
    "NVIDIA B200": _gpu(2250, 1125),
}


def rounding(device: jax.Device, dtype: jax.typing.DTypeLike) -> str:
    """A line on what `device` makes of products of `dtype` unless JAX is told otherwise; "" where they are of it."""
    told = jax.config.jax_default_matmul_precision  # type: ignore[attr-defined]
    if jnp.dtype(dtype) != jnp.float32 or told is not None:
        return ""
    tf32 = "in TF32 where the GPU has it"
    how = {"tpu": "in one bfloat16 pass", "gpu": tf32, "cuda": tf32}.get(device.platform)
    return f"float32 is multiplied {how}; JAX_DEFAULT_MATMUL_PRECISION=highest multiplies it whole" if how else ""


def peak(device: jax.Device, dtype: jax.typing.DTypeLike = jnp.bfloat16) -> float | None:
    """FLOP/s of `device` in matrix products of `dtype`; None if unknown.

    The devices of a CPU process share its cores and hence the peak, which is measured, in float32, once a process.
    """
    if device.platform == "cpu":
        return cpu_peak() / jax.local_device_count("cpu")
    return getattr(PEAKS.get(device.device_kind), jnp.dtype(dtype).name, None)


def mfu(
    flops_per_second: float, devices: Sequence[jax.Device], dtype: jax.typing.DTypeLike = jnp.bfloat16
) -> float | None:
    """The part of the devices' peak that a model's own FLOP/s make up, from 0 to 1; None if any peak is unknown.

    `flops_per_second` is over all `devices`, without recomputation. `dtype` is that of the matrix products.
    """
    total = 0.0
    for device in devices:
        one = peak(device, dtype)
        if one is None:
            return None
        total += one
    return flops_per_second / total if total else None


@functools.cache
def cpu_peak(seconds: float = 0.3, size: int = 1024) -> float:
    """FLOP/s of this process's CPU: the best of float32 products of two [size, size] matrices, tried for `seconds`."""
    cpu = jax.local_devices(backend="cpu")[0]
    matrix = jax.device_put(jnp.ones((size, size), jnp.float32), cpu)
    multiply = jax.jit(jnp.matmul)
    multiply(matrix, matrix).block_until_ready()
    best, end = float("inf"), time.perf_counter() + seconds
    while time.perf_counter() < end:
        start = time.perf_counter()
        multiply(matrix, matrix).block_until_ready()
        best = min(best, time.perf_counter() - start)
    return 2.0 * size**3 / best
