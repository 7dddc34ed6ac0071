"""T5 and T5 v1.1 of Transformers against our pairs, weights copied over by hand, logits in float32."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
import transformers

from arch.models.base import Inputs
from arch.params import merge
from experiments.pair_sizes import T5Size
from tests.arch import tiny
from tests.arch.models.states import D, F, K, L, N, T, V, kernel, layers_of, linear, reference

S = 2 * T
ATTENTION = ("q", "k", "v", "o")


def t5(gated):
    config = transformers.T5Config(
        vocab_size=V,
        d_model=D,
        d_kv=K,
        d_ff=F,
        num_layers=L,
        num_heads=N,
        feed_forward_proj="gated-gelu" if gated else "relu",
        tie_word_embeddings=not gated,
        relative_attention_num_buckets=32,
        relative_attention_max_distance=128,
        pad_token_id=0,
        eos_token_id=1,
        decoder_start_token_id=0,
    )
    model, _ = reference(transformers.T5ForConditionalGeneration, config)
    if gated:
        model.lm_head.weight = torch.nn.Parameter(torch.randn(V, D))
    return model, {name: value.detach().numpy() for name, value in model.state_dict().items()}


def half(state, side, gated):
    def attention(read, name):
        shape = lambda x: (N, K, D) if x == "o" else (D, N, K)  # noqa: E731
        return {x: {"kernel": kernel(read(f"{name}.{x}.weight"), *shape(x))} for x in ATTENTION}

    def convert(read):
        last = 2 if side == "decoder" else 1
        names = {"gate": "wi_0", "up": "wi_1", "down": "wo"} if gated else {"up": "wi", "down": "wo"}
        found = {
            "mixer": attention(read, "layer.0.SelfAttention"),
            "mixer_norm": {"gain": read("layer.0.layer_norm.weight")},
            "feed_forward": {
                ours: linear(read, f"layer.{last}.DenseReluDense.{theirs}") for ours, theirs in names.items()
            },
            "feed_forward_norm": {"gain": read(f"layer.{last}.layer_norm.weight")},
        }
        if side == "decoder":
            found["cross"] = attention(read, "layer.1.EncDecAttention")
            found["cross_norm"] = {"gain": read("layer.1.layer_norm.weight")}
        return found

    bias = state[f"{side}.block.0.layer.0.SelfAttention.relative_attention_bias.weight"]
    return {
        "position": {"table": bias},
        "stack": {"blocks": layers_of(state, f"{side}.block", convert)},
        "norm": {"gain": state[f"{side}.final_layer_norm.weight"]},
    }


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("gated", [False, True], ids=["v1.0", "v1.1"])
def test_logits_are_those_of_t5(gated):
    model, state = t5(gated)
    params = {side: half(state, side, gated) for side in ("encoder", "decoder")}
    params["decoder"]["embedding"] = {"table": state["shared.weight"]}
    if gated:
        params["head"] = {"kernel": state["lm_head.weight"].T}
    graphdef, shapes = tiny.draw(T5Size(L, D, F, N, gated, head_dim=K, vocab=V).model())
    assert jax.tree.map(np.shape, params) == jax.tree.map(np.shape, shapes), "every weight is copied"
    rng = np.random.default_rng(0)
    source, target = (rng.integers(1, V, (2, length), dtype=np.int32) for length in (S, T))
    seen = np.ones((2, S), np.int32)
    seen[1, S - 5 :] = 0
    with torch.no_grad():
        theirs = model(
            input_ids=torch.from_numpy(source).long(),
            attention_mask=torch.from_numpy(seen).long(),
            decoder_input_ids=torch.from_numpy(target).long(),
        ).logits.numpy()

    def logits(params):
        inputs = Inputs(
            tokens=jnp.asarray(target), source=Inputs(tokens=jnp.asarray(source), segments=jnp.asarray(seen))
        )
        return merge(graphdef, params, {})(inputs).logits

    ours = tiny.jit(logits)(jax.tree.map(jnp.asarray, params))
    np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-4 * np.abs(theirs).max())
