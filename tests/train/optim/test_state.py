"""Logical axes of the optimiser's state, and that a state sharded by them is sharded as the parameters are."""

import dataclasses

import jax
import pytest

from tests.train.optim.conftest import SIZES
from tests.train.optim.test_optimizers import ALL, ids
from train.optim import Adafactor, AdamW, Muon, state_axes

is_axes = lambda node: isinstance(node, tuple) and all(name is None or isinstance(name, str) for name in node)  # noqa: E731


def by_path(tree) -> dict[str, tuple]:
    leaves = jax.tree_util.tree_flatten_with_path(tree, is_leaf=lambda n: is_axes(n) and type(n) is tuple)[0]
    return {jax.tree_util.keystr(keys): leaf for keys, leaf in leaves}


@pytest.mark.parametrize("frozen", [(), ("embedding",)])
@pytest.mark.parametrize("spec", ALL, ids=ids)
def test_axes_fit_the_state(spec, frozen, params, axes, roles):
    """One tuple for each array of the state, as long as the array has axes, each name where its size is."""
    tx = dataclasses.replace(spec, freeze=frozen).build(params, 3, roles=roles, axes=axes)
    state, named = by_path(jax.eval_shape(tx.init, params)), by_path(state_axes(tx, params, axes))
    assert {path for path in named if named[path] or path in state} == state.keys()
    for path, leaf in state.items():
        assert len(named[path]) == len(leaf.shape), path
        for name, size in zip(named[path], leaf.shape, strict=True):
            assert name is None or size % SIZES[name] == 0, path


def test_adam_moments_have_the_parameters_axes(params, axes, roles):
    tx = AdamW().build(params, 3, roles=roles, axes=axes)
    named = state_axes(tx, params, axes)
    assert named[1].mu == axes
    assert named[1].nu == axes
    assert named[1].count == ()
    assert jax.tree.structure(named, is_leaf=is_axes) == jax.tree.structure(tx.init(params), is_leaf=is_axes)


def test_factored_moments_keep_the_axes_they_were_not_averaged_over():
    """Also where the two sides have one size, so that shapes could not tell."""
    params = {
        "q": jax.ShapeDtypeStruct((2, 8, 4, 2), "float32"),
        "down": jax.ShapeDtypeStruct((12, 8), "float32"),
        "expert": jax.ShapeDtypeStruct((2, 3, 4, 5), "float32"),
        "thin": jax.ShapeDtypeStruct((2, 3, 2, 2), "float32"),
    }
    axes = {
        "q": ("layers", "embed", "heads", "head_dim"),
        "down": ("mlp", "embed"),
        "expert": ("layers", "experts", "embed", "mlp"),
        "thin": ("layers", "embed", "heads", "head_dim"),
    }
    roles = dict.fromkeys(params, "linear")
    moments = state_axes(Adafactor(factored_from=4).build(params, 3, roles=roles, axes=axes), params, axes)[1][0]
    fields = {name: of[0]._asdict() for name, of in moments.items()}
    assert [fields["q"][name] for name in ("v_row", "v_col")] == [("layers", "embed"), ("layers", "heads")]
    assert [fields["down"][name] for name in ("v_row", "v_col")] == [("embed",), ("mlp",)]
    assert fields["expert"]["v_row"] == ("layers", "experts", "embed")
    assert fields["expert"]["v_col"] == ("layers", "experts", "mlp")
    assert fields["thin"]["v"] == ("layers", "embed", "heads")
    assert fields["thin"]["v_row"] == fields["q"]["v"] == (None, None)


def test_muon_keeps_one_moment_for_matrices_and_two_for_others(params, axes, roles):
    named = by_path(state_axes(Muon().build(params, 3, roles=roles, axes=axes), params, axes))
    count = lambda part: sum(part in path for path in named)  # noqa: E731
    assert (count("'up'"), count("'embedding'"), count("'head'")) == (1, 2, 2)
