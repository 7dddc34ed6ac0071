"""Parameters: their values depend on seed, path and layer alone; every one has named axes."""

import dataclasses

import jax
import numpy as np
import pytest
from flax import nnx

from arch.blocks import PreNorm
from arch.cost import abstract
from arch.layers.attention.softmax import Attention
from arch.layers.embeddings import Tied
from arch.layers.feed_forward import MLP
from arch.layers.linear import Dense
from arch.layers.norms.common import LayerNorm
from arch.layers.positions import Learned, T5Relative
from arch.models.decoder import Decoder
from arch.params import metadata
from arch.stacks import Sequential
from tests.arch import tiny


def build(spec, seed=0):
    return tiny.jit(lambda: nnx.to_pure_dict(nnx.state(spec.build(rngs=nnx.Rngs(seed)), nnx.Param)))()


@pytest.fixture(scope="module")
def built():
    return build(tiny.decoder(depth=2))


def test_a_part_starts_alike_in_every_model(built):
    """Another depth, feed-forward, norm, position, head and loop: attention and embedding start as before."""
    mixer = Attention(heads=tiny.N, kv_heads=tiny.H, qk_norm=LayerNorm(), linear=Dense(bias=True))
    other = build(
        Decoder(
            vocab=tiny.V,
            width=tiny.D,
            depth=3,
            block=PreNorm(mixer=mixer, feed_forward=MLP(), norm=LayerNorm()),
            stack=Sequential(loop="unroll"),
            position=Learned(length=8),
            head=Tied(),
        )
    )
    np.testing.assert_array_equal(other["embedding"]["table"], built["embedding"]["table"])
    for name in "qkvo":
        mine, theirs = (params["stack"]["blocks"]["mixer"][name]["kernel"] for params in (built, other))
        np.testing.assert_array_equal(theirs[:2], mine)
        assert np.abs(theirs[2] - theirs[1]).max() > 0


def test_no_two_weights_start_alike(built):
    """No two parameters, nor two layers of one, nor two seeds, hold the same numbers."""
    seen = []
    for params in (built, build(tiny.decoder(depth=2), seed=1)):
        for path, leaf in jax.tree_util.tree_leaves_with_path(params):
            layers = np.asarray(leaf) if "blocks" in jax.tree_util.keystr(path) else np.asarray(leaf)[None]
            seen += [layer.ravel()[:16].tobytes() for layer in layers if not (layer == 1).all()]
    assert len(seen) == 2 * (2 + 2 * 7)
    assert len(set(seen)) == len(seen)


def test_the_same_seed_gives_the_same_numbers(built):
    tiny.close(build(dataclasses.replace(tiny.decoder(depth=2), stack=Sequential(remat="full"))), built, 0, 0)


SPECS = {
    **{f"{block}": tiny.decoder(block=block, norm=LayerNorm(), qk_norm=LayerNorm()) for block in tiny.BLOCKS},
    **{position: tiny.decoder(position, linear=Dense(bias=True)) for position in tiny.POSITIONS},
    "t5 everywhere": dataclasses.replace(tiny.decoder("t5"), position=T5Relative(heads=tiny.N)),
    "tied": dataclasses.replace(tiny.decoder(), head=Tied(), block=PreNorm(feed_forward=MLP())),
}
KNOWN = {"layers", "embed", "heads", "kv", "head_dim", "mlp", "vocab", None}


@pytest.mark.parametrize("name", SPECS)
def test_every_parameter_has_axes(name):
    sizes = {"layers": 2, "embed": tiny.D, "vocab": tiny.V}
    table = metadata(abstract(SPECS[name]))
    assert len(table) == len(jax.tree.leaves(tiny.draw(SPECS[name])[1]))
    for path, row in table.items():
        assert len(row["axes"]) == len(row["shape"]), path
        assert (row["axes"][0] == "layers") == path.startswith("stack.blocks."), path
        assert "layers" not in row["axes"][1:], path
        assert set(row["axes"]) <= KNOWN, path
        assert row["initializer"], path
        for axis, size in zip(row["axes"], row["shape"], strict=True):
            assert sizes.get(axis, size) == size, path
            assert axis is not None or "position" in path, path
    assert {"embedding", "residual", "linear", "constant"} <= {row["role"] for row in table.values()}


def test_residual_writers_have_their_role():
    table = metadata(abstract(tiny.decoder()))
    writers = [path for path, row in table.items() if row["role"] == "residual"]
    assert writers == ["stack.blocks.feed_forward.down.kernel", "stack.blocks.mixer.o.kernel"]
