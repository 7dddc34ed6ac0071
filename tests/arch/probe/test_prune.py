"""A pruned model is the whole one with the other layers' gates closed, whatever depends on the depth."""

import numpy as np
import pytest

from arch.context import Gates
from arch.cost import parameters
from arch.probe.prune import prune
from arch.spec import UserError
from arch.stacks import Cycle, Sequential
from tests.arch import tiny
from tests.arch.stacks.by_hand import NARROW, WIDE, Squeeze, model

PATTERN = model(Cycle((NARROW, WIDE)))
BETWEEN = model(NARROW, stack=Sequential(between=((2, Squeeze()),)))
TOKENS = tiny.tokens(2, 5)


@pytest.mark.parametrize("block", ["scaled_norm", "mix", "deep"])
def test_pruning_is_closing_gates(block):
    whole = tiny.decoder(block=block, depth=5)
    forward, params = tiny.forward(whole)
    run = tiny.jit(lambda params, gates: forward(params, TOKENS, gates=Gates(block=gates)).logits)
    once, once_params = prune(whole, params, [0, 1, 3, 4])
    twice, twice_params = prune(once, once_params, [1, 2, 3])
    for spec, pruned, kept in [(once, once_params, [0, 1, 3, 4]), (twice, twice_params, [1, 3, 4])]:
        assert (spec.depth, spec.stack.kept.indices, spec.stack.kept.of) == (len(kept), tuple(kept), 5)
        shallow, _ = tiny.forward(spec)
        logits = tiny.jit(lambda params, shallow=shallow: shallow(params, TOKENS).logits)(pruned)
        tiny.close(logits, run(params, np.isin(np.arange(5), kept)), 1e-6, 1e-6)
    assert parameters(whole).body - parameters(once).body == parameters(once).body - parameters(twice).body


@pytest.mark.parametrize("layers", [[], [5], [-1, 0]])
def test_layers_that_are_not_there(layers):
    whole = tiny.decoder(depth=5)
    with pytest.raises(ValueError, match="must be some of the 5 layers 0 to 4"):
        prune(whole, tiny.draw(whole)[1], layers)


@pytest.mark.parametrize("spec", [PATTERN, BETWEEN], ids=["pattern", "bottleneck"])
def test_what_is_more_than_layers_of_one_block_is_refused(spec):
    """A pattern died of a KeyError; a bottleneck would have stood elsewhere, without a word."""
    with pytest.raises(UserError, match=r"cannot cut layers out of Decoder: .*close their gates instead"):
        prune(spec, tiny.draw(spec)[1], [0, 1])
