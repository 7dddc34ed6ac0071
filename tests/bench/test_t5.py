"""T5's weights as our pair's: logits and greedy tokens of Transformers, sources of unequal lengths."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from arch.decode.generate import generate
from arch.models.base import Inputs
from arch.spec import UserError
from bench import t5
from bench.pairs import texts, unrolled
from experiments.pair_sizes import T5Size

NEW = 8
BOTH = pytest.mark.parametrize("gated", [False, True], ids=["v1.0", "v1.1"])


@functools.cache
def reference(gated):
    size = T5Size(2, 32, 48, 4, gated, head_dim=6, vocab=61)
    model = t5.reference(size)
    return size, model, t5.state(model)


def sources():
    return texts({"size": "toy", "batch": 2, "source": 20})


@BOTH
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_logits_are_those_of_transformers(gated):
    size, model, state = reference(gated)
    tokens, seen = sources()
    assert (seen[1] == 0).any()
    target = np.concatenate([np.zeros_like(tokens[:, :1]), tokens[:, :6]], axis=1)
    with torch.no_grad():
        told = {"input_ids": tokens, "attention_mask": seen, "decoder_input_ids": target}
        theirs = model(**{name: torch.from_numpy(array).long() for name, array in told.items()}).logits.numpy()
    network = t5.network(size, state)
    inputs = Inputs(tokens=target, source=Inputs(tokens=tokens, segments=seen))
    ours = jax.jit(lambda inputs: network(inputs).logits)(inputs)
    np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-4 * np.abs(theirs).max())


@BOTH
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_greedy_tokens_are_those_of_transformers(gated):
    size, model, state = reference(gated)
    tokens, seen = sources()
    told = {"input_ids": torch.from_numpy(tokens).long(), "attention_mask": torch.from_numpy(seen).long()}
    theirs = model.generate(**told, max_new_tokens=NEW, do_sample=False, use_cache=True)[:, 1:].numpy()
    source = jax.tree.map(jnp.asarray, Inputs(tokens=tokens, segments=seen))
    ours = generate(t5.network(size, state, unrolled), [[0], [0]], NEW, source=source).tokens
    np.testing.assert_array_equal(ours, theirs)
    assert len(np.unique(theirs)) > 2, "the same token again and again would tell little"


@BOTH
def test_every_array_is_used_once(gated):
    size, _, state = reference(gated)
    norm, query = "decoder.block.1.layer.2.layer_norm.weight", "encoder.block.0.layer.0.SelfAttention.q.weight"
    downs = [f"decoder.block.{i}.layer.2.DenseReluDense.wo.weight" for i in range(2)]
    wrong = {
        f"{norm} is missing": {name: array for name, array in state.items() if name != norm},
        "more left over": {**state, "more": np.zeros(1)},
        r"decoder\.stack\.blocks\.feed_forward\.down\.kernel has shape": {
            **state, **{name: state[name].T for name in downs}
        },
        "a matrix of attention has shape": {**state, query: state[query].T},
        "embed_tokens.weight differs": {**state, "encoder.embed_tokens.weight": 2 * state["shared.weight"]},
    }  # fmt: skip
    for told, arrays in wrong.items():
        with pytest.raises(UserError, match=told):
            t5.parameters(size, arrays)
    with pytest.raises(UserError, match="is missing; is it of this size"):
        t5.parameters(T5Size(2, 32, 48, 4, not gated, head_dim=6, vocab=61), state)
