"""Random models of Transformers, and their states as our parameters."""

import jax
import numpy as np
import torch

V, D, F, L, N, H, K, T = 23, 32, 48, 2, 4, 2, 8, 11
COMMON = {
    "vocab_size": V,
    "hidden_size": D,
    "intermediate_size": F,
    "num_hidden_layers": L,
    "num_attention_heads": N,
    "max_position_embeddings": 32,
    "attn_implementation": "eager",
    "bos_token_id": 0,
    "eos_token_id": 0,
    "pad_token_id": None,
}
GROUPED = {**COMMON, "num_key_value_heads": H, "head_dim": K}


def reference(kind, config):
    """A model of Transformers with random weights, large enough to matter and with no gain at 1 nor bias at 0."""
    torch.manual_seed(0)
    model = kind(config).eval().float()
    with torch.no_grad():
        for parameter in model.parameters():
            noise = torch.randn_like(parameter)
            parameter.copy_(0.25 * noise if parameter.ndim > 1 else parameter + 0.3 * noise)
    return model, {name: value.detach().numpy() for name, value in model.state_dict().items()}


def kernel(weight, *shape):
    """A torch weight, [outputs, inputs], as ours, inputs first, in the given shape."""
    return weight.T.reshape(shape)


def attention(read, names, kv_heads, bias=False):
    """Our attention parameters from separate projections of the reference."""
    out = {}
    for ours, theirs, heads in zip("qkvo", names, (N, kv_heads, kv_heads, N), strict=True):
        out[ours] = {"kernel": kernel(read(f"{theirs}.weight"), *((N, K, D) if ours == "o" else (D, heads, K)))}
        if bias:
            out[ours]["bias"] = read(f"{theirs}.bias").reshape((D,) if ours == "o" else (heads, K))
    return out


def linear(read, name, bias=False):
    out = {"kernel": read(f"{name}.weight").T}
    return {**out, "bias": read(f"{name}.bias")} if bias else out


def layer_norm(read, name):
    return {"gain": read(f"{name}.weight"), "bias": read(f"{name}.bias")}


PRE_NORMS = {"mixer_norm": "input_layernorm", "feed_forward_norm": "post_attention_layernorm"}
SANDWICH_NORMS = {
    "mixer_norm": "input_layernorm",
    "mixer_out_norm": "post_attention_layernorm",
    "feed_forward_norm": "pre_feedforward_layernorm",
    "feed_forward_out_norm": "post_feedforward_layernorm",
}


def layers_of(state, prefix, convert):
    """`convert(read)` of every layer, stacked; `read(name)` is a weight of that layer."""
    layers = [convert(lambda name, index=index: state[f"{prefix}.{index}.{name}"]) for index in range(L)]
    return jax.tree.map(lambda *leaves: np.stack(leaves), *layers)


def llama_like(state, norms=PRE_NORMS, one=0.0, qk_norm=False):
    """Llama, Mistral, Qwen 3 and Gemma 2, which share names. Gemma's gains are `one` plus the weight."""

    def convert(read):
        mixer = attention(read, [f"self_attn.{x}_proj" for x in "qkvo"], H)
        if qk_norm:
            mixer |= {f"{x}_norm": {"gain": read(f"self_attn.{x}_norm.weight")} for x in "qk"}
        return {
            "mixer": mixer,
            "feed_forward": {name: linear(read, f"mlp.{name}_proj") for name in ("gate", "up", "down")},
            **{ours: {"gain": one + read(f"{theirs}.weight")} for ours, theirs in norms.items()},
        }

    return {
        "embedding": {"table": state["model.embed_tokens.weight"]},
        "stack": {"blocks": layers_of(state, "model.layers", convert)},
        "norm": {"gain": one + state["model.norm.weight"]},
    }


def untied(params, state):
    return {**params, "head": {"kernel": state["lm_head.weight"].T}}
