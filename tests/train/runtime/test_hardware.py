"""Peaks and MFU: known chips, unknown ones, and the CPU's measured peak."""

import types

import jax
import jax.numpy as jnp
import pytest

from train.runtime import hardware as chips


def device(kind: str, platform: str = "gpu"):
    return types.SimpleNamespace(device_kind=kind, platform=platform)


@pytest.mark.parametrize(
    ("kind", "dtype", "teraflops"),
    [
        ("NVIDIA H100 80GB HBM3", jnp.bfloat16, 989.5),
        ("NVIDIA H100 80GB HBM3", jnp.float32, 494.5),
        ("NVIDIA H100 PCIe", "bfloat16", 756),
        ("NVIDIA A100-SXM4-80GB", jnp.bfloat16, 312),
        ("NVIDIA A100-SXM4-80GB", jnp.float32, 156),
        ("Tesla T4", jnp.float16, 65),
        ("TPU v3", jnp.bfloat16, 61.5),
        ("TPU v5 lite", jnp.bfloat16, 197),
        ("TPU v6 lite", jnp.float32, 918),
    ],
)
def test_known_chips(kind, dtype, teraflops):
    assert chips.peak(device(kind), dtype) == pytest.approx(teraflops * 1e12)


@pytest.mark.parametrize(
    ("kind", "dtype"),
    [
        ("NVIDIA Z9000", jnp.bfloat16),
        ("NVIDIA A100-SXM4-40GB MIG 1g.5gb", jnp.bfloat16),
        ("Tesla T4", jnp.bfloat16),
        ("NVIDIA H100 80GB HBM3", jnp.int8),
        ("TPU v5 lite", jnp.float16),
    ],
)
def test_an_unknown_peak_is_none_rather_than_wrong(kind, dtype):
    assert chips.peak(device(kind), dtype) is None
    assert chips.mfu(1e12, [device("NVIDIA H100 80GB HBM3"), device(kind)], dtype) is None


def test_rounded_products_are_told():
    """Of accelerators, whose float32 is not whole by default; not of CPUs, other types, and where JAX is told."""
    assert "in one bfloat16 pass; JAX_DEFAULT_MATMUL_PRECISION=highest" in chips.rounding(
        device("TPU v6e", "tpu"), "float32"
    )
    assert "TF32" in chips.rounding(device("NVIDIA H100 80GB HBM3"), "float32")
    assert chips.rounding(device("NVIDIA H100 80GB HBM3"), "bfloat16") == ""
    assert chips.rounding(jax.devices()[0], "float32") == ""
    with jax.default_matmul_precision("highest"):
        assert chips.rounding(device("NVIDIA H100 80GB HBM3"), "float32") == ""


def test_mfu_is_over_all_devices():
    eight = [device("NVIDIA H100 80GB HBM3")] * 8
    assert chips.mfu(8 * 494.75e12, eight) == pytest.approx(0.5)
    assert chips.mfu(1e12, []) is None


def test_the_cpu_is_measured_once(monkeypatch):
    first = chips.cpu_peak()
    monkeypatch.setattr(chips.time, "perf_counter", lambda: pytest.fail("measured again"))
    assert chips.cpu_peak() == first
    # Slower than any CPU in use, and faster than any.
    assert 1e8 < first < 1e14


def test_the_devices_of_a_cpu_process_share_its_peak(monkeypatch):
    monkeypatch.setattr(chips, "cpu_peak", lambda: 8e9)
    monkeypatch.setattr(jax, "local_device_count", lambda backend=None: 4)
    cpu = device("cpu", "cpu")
    assert chips.peak(cpu) == 2e9
    assert chips.mfu(4e9, [cpu] * 4) == 0.5


def test_the_table_is_of_dense_products():
    """No entry holds a data sheet's number with sparsity: TF32 is half of bfloat16 on every NVIDIA chip."""
    for kind, peak in chips.PEAKS.items():
        if kind.startswith("NVIDIA"):
            assert peak.bfloat16 / peak.float32 == pytest.approx(2.0, rel=0.02), kind
