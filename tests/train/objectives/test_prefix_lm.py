"""Prefix language modelling: where rows are split, and which tokens count."""

import jax
import jax.numpy as jnp
import numpy as np

from tests.train import toys
from train.objectives.next_token import prepare as plain
from train.objectives.prefix_lm import PrefixLM
from train.objectives.rows import places


def test_places_of_documents():
    at = places(jnp.array([[1, 1, 1, 2, 3, 3, 0, 0]]))
    np.testing.assert_array_equal(at.first[0], [0, 0, 0, 3, 4, 4, 6, 6])
    np.testing.assert_array_equal(at.place[0], [0, 1, 2, 0, 0, 1, 0, 1])
    np.testing.assert_array_equal(at.length[0], [3, 3, 3, 1, 2, 2, 2, 2])


def test_each_document_has_a_prefix_of_its_own_and_what_follows_counts():
    """Against a loop over documents; and every length of a prefix is as likely as any other."""
    batch = {name: jnp.asarray(array) for name, array in toys.ToyRows(60, 3).arrays.items()}
    task = PrefixLM().build(toys.Toy().describe())
    prepare = jax.jit(task.prepare)
    inputs, targets = prepare(batch, jax.random.split(jax.random.key(0), 60))
    _, all_targets = plain(batch, None)
    prefix, segments = np.asarray(inputs.prefix), np.asarray(batch["segments"])
    cuts = []
    for row in range(60):
        for document in range(1, segments[row].max() + 1):
            inside = np.flatnonzero(segments[row] == document)
            cut = prefix[row][inside[inside < toys.LENGTH]].sum()
            assert 1 <= cut <= max(len(inside) - 1, 1)
            np.testing.assert_array_equal(
                prefix[row][inside[inside < toys.LENGTH]],
                np.arange(len(inside))[: len(inside[inside < toys.LENGTH])] < cut,
            )
            weights = np.asarray(targets.weights)[row][inside[1:] - 1]
            np.testing.assert_array_equal(weights, np.arange(1, len(inside)) >= cut)
            if len(inside) > 2:
                cuts.append((cut - 1) / (len(inside) - 2))
    assert not prefix[segments[:, :-1] == 0].any()
    assert abs(np.mean(cuts) - 0.5) < 0.1
    assert {0.0, 1.0} <= set(cuts)
    assert 0 < float(targets.weights.sum()) < float(all_targets.weights.sum())
    again, _ = prepare(batch, jax.random.split(jax.random.key(1), 60))
    assert (np.asarray(again.prefix) != prefix).any()
