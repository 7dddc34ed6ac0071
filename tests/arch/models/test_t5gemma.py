"""T5Gemma of Transformers against our pair, weights copied over by hand, logits in float32."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
import transformers

from arch.models.base import Inputs
from arch.params import merge
from experiments.pair_sizes import T5GemmaSize
from tests.arch import tiny
from tests.arch.models.states import D, F, H, K, L, N, T, V, attention, linear, reference

S, WINDOW = T + 4, 3
SELF = [f"self_attn.{x}_proj" for x in "qkvo"]
CROSS = [f"cross_attn.{x}_proj" for x in "qkvo"]
NAMES = {"mixer": "self_attn", "cross": "cross_attn", "feed_forward": "feedforward"}


def t5gemma():
    half = {
        "vocab_size": V,
        "hidden_size": D,
        "intermediate_size": F,
        "num_hidden_layers": L,
        "num_attention_heads": N,
        "num_key_value_heads": H,
        "head_dim": K,
        "query_pre_attn_scalar": K,
        "sliding_window": WINDOW,
        "attn_implementation": "eager",
    }
    config = transformers.T5GemmaConfig(encoder=half, decoder=half, vocab_size=V, attn_implementation="eager")
    return reference(transformers.T5GemmaForConditionalGeneration, config)


def layer(state, side, index):
    read = lambda name: state[f"model.{side}.layers.{index}.{name}"]  # noqa: E731
    found = {"mixer": attention(read, SELF, H)}
    if side == "decoder":
        found["cross"] = attention(read, CROSS, H)
    found["feed_forward"] = {name: linear(read, f"mlp.{name}_proj") for name in ("gate", "up", "down")}
    for ours in list(found):
        found[f"{ours}_norm"] = {"gain": 1 + read(f"pre_{NAMES[ours]}_layernorm.weight")}
        found[f"{ours}_out_norm"] = {"gain": 1 + read(f"post_{NAMES[ours]}_layernorm.weight")}
    return jax.tree.map(lambda leaf: leaf[None], found)


def half(state, side):
    return {
        "embedding": {"table": state[f"model.{side}.embed_tokens.weight"]},
        "stack": {"sections": {str(i): {"0": layer(state, side, i)} for i in range(L)}},
        "norm": {"gain": 1 + state[f"model.{side}.norm.weight"]},
    }


@pytest.mark.filterwarnings("ignore")
def test_logits_are_those_of_t5gemma():
    model, state = t5gemma()
    params = {side: half(state, side) for side in ("encoder", "decoder")}
    graphdef, shapes = tiny.draw(T5GemmaSize(L, D, F, N, H, head_dim=K, window=WINDOW, vocab=V).model())
    assert jax.tree.map(np.shape, params) == jax.tree.map(np.shape, shapes), "every weight is copied"
    rng = np.random.default_rng(0)
    source, target = (rng.integers(1, V, (2, length), dtype=np.int32) for length in (S, T))
    with torch.no_grad():
        theirs = model(
            input_ids=torch.from_numpy(source).long(),
            decoder_input_ids=torch.from_numpy(target).long(),
            use_cache=False,
        ).logits.numpy()

    def logits(params):
        inputs = Inputs(tokens=jnp.asarray(target), source=Inputs(tokens=jnp.asarray(source)))
        return merge(graphdef, params, {})(inputs).logits

    ours = tiny.jit(logits)(jax.tree.map(jnp.asarray, params))
    np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-4 * np.abs(theirs).max())
