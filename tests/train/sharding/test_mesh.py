"""Layouts of devices, where axes go, and what does not fit."""

import dataclasses

import jax
import numpy as np
import pytest
from jax.sharding import AbstractMesh, PartitionSpec

from arch.bottlenecks.vector_quantized import VectorQuantized
from arch.params import metadata
from arch.spec import SpecError, UserError
from arch.stacks import Sequential
from tests.train import toys
from train.sharding.axes import NAMES, misfits, partition
from train.sharding.mesh import Mesh
from train.sharding.placement import batch_sharding, place_batch, shardings


def lines(mesh: Mesh, devices: int, **fields) -> list[str]:
    return [str(error) for error in toys.run(mesh=mesh, **fields).conflicts(devices)]


@pytest.mark.parametrize(
    ("mesh", "devices", "shape"),
    [
        (Mesh(), 8, (1, 8, 1, 1)),
        (Mesh(), 1, (1, 1, 1, 1)),
        (Mesh(fsdp=2, tensor=2), 8, (1, 2, 2, 2)),
        (Mesh(replica=2, fsdp=4), 8, (2, 1, 4, 1)),
        (Mesh(data=1), 8, (1, 1, 1, 1)),
    ],
)
def test_data_takes_the_devices_that_are_left(mesh, devices, shape):
    assert mesh.shape(devices) == shape


@pytest.mark.parametrize(
    ("mesh", "line"),
    [
        (Mesh(tensor=3), "Mesh.tensor=3: replica * fsdp * tensor = 3 must divide the number of devices, 8"),
        (Mesh(data=4, fsdp=4), "must be at most the number of devices, 8"),
    ],
)
def test_a_mesh_that_the_devices_do_not_fill(mesh, line):
    assert [line in text for text in lines(mesh, 8)] == [True]


def test_fields_are_checked_by_themselves():
    with pytest.raises(SpecError, match=r"Mesh\.data=0: must be at least 1"):
        Mesh(data=0)
    with pytest.raises(SpecError, match=r"Mesh\.tensor=-1"):
        Mesh(tensor=-1)


def test_a_batch_that_the_mesh_does_not_divide():
    assert lines(Mesh(), 4, batch=8, accumulate=2) == []
    assert lines(Mesh(), 8, batch=8, accumulate=2) == [
        "Run.batch=8: must be a multiple of accumulate * mesh.data * mesh.fsdp = 2 * 8 * 1 = 16"
    ]


def test_parameters_that_the_mesh_does_not_divide():
    """32 tokens and 32 wide: eight ways goes, but not the 4 heads; the 2 key-value heads are copied."""
    found = lines(Mesh(tensor=8), 8)
    assert len(found) == 2
    assert all("Mesh.tensor=8: must divide stack.blocks.mixer." in line and "heads=4" in line for line in found)
    assert lines(Mesh(tensor=4), 4) == []
    assert lines(Mesh(tensor=2), 2, model=toys.model(vocab=33)) == [
        "Mesh.tensor=2: must divide embedding.table, which has vocab=33",
        "Mesh.tensor=2: must divide head.kernel, which has vocab=33",
    ]


def test_an_axis_that_the_mesh_does_not_know():
    with pytest.raises(UserError, match=r"stack.w has the axis 'wings', .* it knows batch, embed, heads, kv, mlp"):
        list(misfits("stack.w", ("embed", "wings"), (4, 4), dict.fromkeys(NAMES, 1)))


def test_where_axes_go():
    mesh = AbstractMesh((1, 2, 4, 2), NAMES)
    where = lambda axes, shape: partition("p", axes, shape, mesh)  # noqa: E731
    assert where(("layers", "embed", "heads", "head_dim"), (3, 32, 4, 8)) == PartitionSpec(
        None, ("fsdp",), ("tensor",), None
    )
    assert where(("batch", "length", "residual"), (8, 16, 32)) == PartitionSpec(("data", "fsdp"), None, None)
    assert where(("embed", "kv"), (32, 1)) == PartitionSpec(("fsdp",), None), "one key-value head is copied"
    assert where(("vocab", "codes"), (32, 8)) == PartitionSpec(("tensor",), None), "a mesh axis serves once"
    assert where((None, "mlp"), (3, 8)) == PartitionSpec(None, ("tensor",))


def test_every_axis_of_the_model_is_known():
    for path, row in metadata(toys.run().abstract_model()).items():
        assert not list(misfits(path, row["axes"], row["shape"], dict.fromkeys(NAMES, 1)))


def test_shardings_name_the_parameter_at_fault():
    shapes = {"a": {"b": jax.ShapeDtypeStruct((4,), "float32")}}
    with pytest.raises(UserError, match=r"a\.b has the axis 'x'"):
        shardings(Mesh(data=1).build(), {"a": {"b": ("x",)}}, shapes)


def test_a_batch_goes_in_row_by_row():
    mesh = Mesh(data=1).build()
    batch = {"tokens": np.arange(12, dtype=np.int32).reshape(4, 3)}
    told = jax.jit(lambda rows: rows, in_shardings=batch_sharding(mesh))(place_batch(mesh, batch))
    np.testing.assert_array_equal(told["tokens"], batch["tokens"])
    assert told["tokens"].sharding.is_equivalent_to(batch_sharding(mesh), 2)


def test_the_mesh_may_be_any_part_of_the_devices():
    assert dataclasses.replace(Mesh(), data=1).build().devices.shape == (1, 1, 1, 1)


def test_buffers_must_fit_the_mesh_too():
    """Nine codes, kept in buffers, on two devices that share codes."""
    stack = Sequential(between=((1, VectorQuantized(codes=9)),))
    run = toys.run(model=toys.model(stack=stack), mesh=Mesh(data=1, tensor=2))
    told = [str(error) for error in run.conflicts(2)]
    assert any("must divide stack.between.1.counts, which has codes=9" in line for line in told)
    fits = toys.run(
        model=toys.model(stack=Sequential(between=((1, VectorQuantized(codes=8)),))), mesh=Mesh(data=1, tensor=2)
    )
    assert not list(fits.conflicts(2))
