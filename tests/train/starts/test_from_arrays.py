"""Starting from arrays in memory: they are in place bit for bit, the rest is fresh, and the content names the start."""

import dataclasses

import jax
import numpy as np
import pytest

from arch.models.tagger import tagger_of
from arch.spec import UserError
from tests.train import toys
from train.data.replaced import Replaced
from train.objectives.token_labels import TokenLabels
from train.record.identity import identify
from train.setup import prepare
from train.starts.from_arrays import FromArrays
from train.starts.start import begin

RUN = toys.run(model=toys.model())
TAGGING = toys.run(model=tagger_of(toys.model()), data=Replaced(toys.Toy()), objective=TokenLabels(), seed=5)


@pytest.fixture(scope="module")
def state():
    return jax.device_get(prepare(RUN, RUN.data.describe()).start())


def leaves(tree):
    return {jax.tree_util.keystr(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}


def test_a_trunk_taken_into_a_tagger(state):
    start = FromArrays.of(state, take=r"^(?!head\.)")
    fresh = prepare(TAGGING, TAGGING.data.describe()).start()
    told = []
    found = leaves(begin(start, fresh, told.append)["params"])
    trunk = {path: leaf for path, leaf in leaves(state["params"]).items() if not path.startswith("['head']")}
    assert set(found) - set(trunk) == {"['head']['kernel']", "['head']['bias']"}
    for path, leaf in trunk.items():
        np.testing.assert_array_equal(found[path], leaf)
    assert told == [f"start: {len(trunk)} arrays taken; fresh: head.bias, head.kernel"]
    assert start.origins()["embedding.table"] == "memory embedding.table"
    with pytest.raises(UserError, match=r"head\.kernel has the shape \[32, 32\] in the source and \[32, 2\] here"):
        begin(FromArrays.of(state), fresh, told.append)


def test_the_content_names_it(state):
    start, again = FromArrays.of(state), FromArrays.of(jax.tree.map(np.copy, state))
    assert start == again
    assert hash(start) == hash(again)
    other = jax.tree.map(np.copy, state)
    other["params"]["norm"]["gain"][0] += 1
    assert FromArrays.of(other) != start
    assert FromArrays.of(state, take="^stack") != start
    run = dataclasses.replace(RUN, start=start)
    assert identify(run).what() == identify(dataclasses.replace(RUN, start=again)).what()
    assert identify(run).what() != identify(dataclasses.replace(RUN, start=FromArrays.of(other))).what()
