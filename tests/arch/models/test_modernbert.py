"""Ettin's encoder against ModernBERT in Transformers, weights copied over by hand, logits in float32."""

import dataclasses

import jax
import numpy as np
import pytest
import torch
import transformers

from experiments.ettin_sizes import Size
from tests.arch import tiny
from tests.arch.models.states import D, F, K, N, T, V, kernel, reference

SIZE = Size(layers=7, width=D, hidden=F, heads=N, vocab=V, radius=3)


def modernbert():
    config = transformers.ModernBertConfig(
        vocab_size=V,
        hidden_size=D,
        intermediate_size=F,
        num_hidden_layers=SIZE.layers,
        num_attention_heads=N,
        max_position_embeddings=64,
        local_attention=2 * SIZE.radius,
        global_attn_every_n_layers=3,
        rope_parameters={
            "full_attention": {"rope_type": "default", "rope_theta": 160_000.0},
            "sliding_attention": {"rope_type": "default", "rope_theta": 100.0},
        },
        pad_token_id=0,
        bos_token_id=0,
        eos_token_id=0,
        cls_token_id=0,
        sep_token_id=0,
        attn_implementation="eager",
    )
    return reference(transformers.ModernBertForMaskedLM, config)


def layer(state, index):
    read = lambda name: state[f"model.layers.{index}.{name}.weight"]  # noqa: E731
    mixer = {
        name: {"kernel": kernel(w, D, N, K)} for name, w in zip("qkv", np.split(read("attn.Wqkv"), 3), strict=True)
    }
    first, second = np.split(read("mlp.Wi"), 2)
    found = {
        "mixer": {**mixer, "o": {"kernel": kernel(read("attn.Wo"), N, K, D)}},
        "feed_forward": {"gate": {"kernel": first.T}, "up": {"kernel": second.T}, "down": {"kernel": read("mlp.Wo").T}},
        "feed_forward_norm": {"gain": read("mlp_norm")},
    }
    return found if index == 0 else {**found, "mixer_norm": {"gain": read("attn_norm")}}


def converted(state):
    stacked = lambda layers: jax.tree.map(lambda *leaves: np.stack(leaves), *[layer(state, i) for i in layers])  # noqa: E731
    places = {str(place): stacked(range(1 + place, SIZE.layers, 3)) for place in range(3)}
    return {
        "embedding": {
            "table": state["model.embeddings.tok_embeddings.weight"],
            "norm": {"gain": state["model.embeddings.norm.weight"]},
        },
        "stack": {"sections": {"0": {"0": stacked([0])}, "1": places}},
        "norm": {"gain": state["model.final_norm.weight"]},
        "head": {
            "dense": {"kernel": state["head.dense.weight"].T},
            "norm": {"gain": state["head.norm.weight"]},
            "bias": state["decoder.bias"],
        },
    }


@pytest.mark.filterwarnings("ignore")
def test_logits_are_those_of_modernbert():
    model, state = modernbert()
    params = converted(state)
    spec = SIZE.encoder(theta_global=160_000.0, theta_local=100.0)
    _, shapes = tiny.draw(spec)
    assert jax.tree.map(np.shape, params) == jax.tree.map(np.shape, shapes), "every weight is copied"
    tokens = np.random.default_rng(0).integers(1, V, (2, T), dtype=np.int32)
    with torch.no_grad():
        theirs = model(torch.from_numpy(tokens).long()).logits.numpy()
    forward, _ = tiny.forward(spec)
    ours = tiny.jit(lambda params: forward(params, tokens).logits)(params)
    np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-4)
    wider, _ = tiny.forward(dataclasses.replace(SIZE, radius=4).encoder(theta_global=160_000.0, theta_local=100.0))
    other = tiny.jit(lambda params: wider(params, tokens).logits)(params)
    assert np.abs(other - theirs).max() > 0.01, "a window of one token more is seen"
