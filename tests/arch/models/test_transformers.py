"""Whole models against Hugging Face Transformers, weights copied over by hand, logits in float32.

What our parts cannot express, and which the references are therefore configured without: GPT-NeoX's parallel block with
two norms, Phi's bias of the head, Gemma 2's alternation of windows between layers, Bloom's norm after the embedding.
"""

import jax
import numpy as np
import pytest
import torch
import transformers

from arch.blocks import Parallel, PreNorm, SandwichNorm
from arch.layers.attention.masks import SlidingWindow
from arch.layers.attention.softmax import Attention
from arch.layers.embeddings import Embedding, Tied, Untied
from arch.layers.feed_forward import MLP, GatedMLP
from arch.layers.linear import Dense
from arch.layers.norms.common import LayerNorm, RMSNorm
from arch.layers.positions import ALiBi, Learned, NoPosition, Rotary
from arch.models.decoder import Decoder
from tests.arch import tiny
from tests.arch.models.states import (
    COMMON,
    GROUPED,
    SANDWICH_NORMS,
    D,
    F,
    H,
    K,
    L,
    N,
    T,
    V,
    attention,
    kernel,
    layer_norm,
    layers_of,
    linear,
    llama_like,
    reference,
    untied,
)


def decoder(block, **fields):
    return Decoder(vocab=V, width=D, depth=L, block=block, **fields)


def llama_spec(head, mixer, eps=1e-6):
    norm = RMSNorm(eps=eps)
    return decoder(PreNorm(mixer=mixer, feed_forward=GatedMLP(hidden=F), norm=norm), norm=norm, head=head)


def llama(tie=False):
    config = transformers.LlamaConfig(**GROUPED, rms_norm_eps=1e-3, tie_word_embeddings=tie)
    model, state = reference(transformers.LlamaForCausalLM, config)
    spec = llama_spec(Tied() if tie else Untied(), Attention(heads=N, kv_heads=H), eps=1e-3)
    params = llama_like(state)
    return model, spec, params if tie else untied(params, state)


def tied_llama():
    return llama(tie=True)


def qwen3():
    config = transformers.Qwen3Config(**GROUPED, tie_word_embeddings=False)
    model, state = reference(transformers.Qwen3ForCausalLM, config)
    spec = llama_spec(Untied(), Attention(heads=N, kv_heads=H, qk_norm=RMSNorm()))
    return model, spec, untied(llama_like(state, qk_norm=True), state)


def mistral():
    config = transformers.MistralConfig(**GROUPED, sliding_window=4, tie_word_embeddings=False)
    model, state = reference(transformers.MistralForCausalLM, config)
    spec = llama_spec(Untied(), Attention(heads=N, kv_heads=H, mask=SlidingWindow(4)))
    return model, spec, untied(llama_like(state), state)


def gemma2():
    config = transformers.Gemma2Config(
        **GROUPED,
        layer_types=["sliding_attention"] * L,
        sliding_window=5,
        query_pre_attn_scalar=3,
        attn_logit_softcapping=4.0,
        final_logit_softcapping=6.0,
        tie_word_embeddings=True,
    )
    model, state = reference(transformers.Gemma2ForCausalLM, config)
    mixer = Attention(heads=N, kv_heads=H, softcap=4.0, scale=3.0**-0.5, mask=SlidingWindow(5))
    block = SandwichNorm(mixer=mixer, feed_forward=GatedMLP(hidden=F, activation="gelu_tanh"))
    spec = decoder(block, embedding=Embedding(scale=D**0.5), head=Tied(softcap=6.0))
    return model, spec, llama_like(state, norms=SANDWICH_NORMS, one=1.0)


def gpt2():
    config = transformers.GPT2Config(
        vocab_size=V,
        n_embd=D,
        n_inner=F,
        n_layer=L,
        n_head=N,
        n_positions=32,
        attn_implementation="eager",
        bos_token_id=0,
        eos_token_id=0,
    )
    model, state = reference(transformers.GPT2LMHeadModel, config)

    def convert(read):
        # GPT-2 keeps its weights inputs first, and q, k and v in one.
        weights, biases = np.split(read("attn.c_attn.weight"), 3, axis=1), np.split(read("attn.c_attn.bias"), 3)
        mixer = {
            name: {"kernel": weight.reshape(D, N, K), "bias": bias.reshape(N, K)}
            for name, weight, bias in zip("qkv", weights, biases, strict=True)
        }
        mixer["o"] = {"kernel": read("attn.c_proj.weight").reshape(N, K, D), "bias": read("attn.c_proj.bias")}
        return {
            "mixer": mixer,
            "feed_forward": {
                ours: {"kernel": read(f"mlp.{theirs}.weight"), "bias": read(f"mlp.{theirs}.bias")}
                for ours, theirs in (("up", "c_fc"), ("down", "c_proj"))
            },
            "mixer_norm": layer_norm(read, "ln_1"),
            "feed_forward_norm": layer_norm(read, "ln_2"),
        }

    params = {
        "embedding": {"table": state["transformer.wte.weight"]},
        "position": {"table": state["transformer.wpe.weight"]},
        "stack": {"blocks": layers_of(state, "transformer.h", convert)},
        "norm": layer_norm(state.__getitem__, "transformer.ln_f"),
    }
    block = PreNorm(
        mixer=Attention(heads=N, position=NoPosition(), linear=Dense(bias=True)),
        feed_forward=MLP(hidden=F, activation="gelu_tanh", linear=Dense(bias=True)),
        norm=LayerNorm(),
    )
    return model, decoder(block, position=Learned(length=32), norm=LayerNorm(), head=Tied()), params


def gpt_neox():
    """Partial rotary. Its parallel block has a norm for each sublayer, so here it is sequential."""
    config = transformers.GPTNeoXConfig(
        **COMMON, rotary_pct=0.5, use_parallel_residual=False, tie_word_embeddings=False
    )
    model, state = reference(transformers.GPTNeoXForCausalLM, config)

    def convert(read):
        weight = read("attention.query_key_value.weight").reshape(N, 3, K, D)
        bias = read("attention.query_key_value.bias").reshape(N, 3, K)
        mixer = {name: {"kernel": weight[:, i].transpose(2, 0, 1), "bias": bias[:, i]} for i, name in enumerate("qkv")}
        mixer["o"] = {"kernel": kernel(read("attention.dense.weight"), N, K, D), "bias": read("attention.dense.bias")}
        return {
            "mixer": mixer,
            "feed_forward": {
                "up": linear(read, "mlp.dense_h_to_4h", bias=True),
                "down": linear(read, "mlp.dense_4h_to_h", bias=True),
            },
            "mixer_norm": layer_norm(read, "input_layernorm"),
            "feed_forward_norm": layer_norm(read, "post_attention_layernorm"),
        }

    params = {
        "embedding": {"table": state["gpt_neox.embed_in.weight"]},
        "stack": {"blocks": layers_of(state, "gpt_neox.layers", convert)},
        "norm": layer_norm(state.__getitem__, "gpt_neox.final_layer_norm"),
        "head": {"kernel": state["embed_out.weight"].T if "embed_out.weight" in state else state["lm_head.weight"].T},
    }
    block = PreNorm(
        mixer=Attention(heads=N, position=Rotary(fraction=0.5), linear=Dense(bias=True)),
        feed_forward=MLP(hidden=F, linear=Dense(bias=True)),
        norm=LayerNorm(),
    )
    return model, decoder(block, norm=LayerNorm()), params


def phi():
    """One norm for both sublayers of a parallel block. Its head has a bias, which is set to zero."""
    config = transformers.PhiConfig(**COMMON, partial_rotary_factor=0.5, tie_word_embeddings=False)
    model, state = reference(transformers.PhiForCausalLM, config)
    with torch.no_grad():
        model.lm_head.bias.zero_()

    def convert(read):
        return {
            "mixer": attention(read, [f"self_attn.{x}" for x in ("q_proj", "k_proj", "v_proj", "dense")], N, bias=True),
            "feed_forward": {"up": linear(read, "mlp.fc1", bias=True), "down": linear(read, "mlp.fc2", bias=True)},
            "norm": layer_norm(read, "input_layernorm"),
        }

    params = {
        "embedding": {"table": state["model.embed_tokens.weight"]},
        "stack": {"blocks": layers_of(state, "model.layers", convert)},
        "norm": layer_norm(state.__getitem__, "model.final_layernorm"),
    }
    block = Parallel(
        mixer=Attention(heads=N, position=Rotary(fraction=0.5), linear=Dense(bias=True)),
        feed_forward=MLP(hidden=F, activation="gelu_tanh", linear=Dense(bias=True)),
        norm=LayerNorm(),
    )
    return model, decoder(block, norm=LayerNorm()), untied(params, state)


def mpt(heads=N):
    """ALiBi."""
    config = transformers.MptConfig(
        vocab_size=V, d_model=D, n_layers=L, n_heads=heads, max_seq_len=32, attn_implementation="eager"
    )
    model, state = reference(transformers.MptForCausalLM, config)

    def convert(read):
        q, k, v = np.split(read("attn.Wqkv.weight"), 3)
        mixer = {name: {"kernel": kernel(w, D, heads, D // heads)} for name, w in (("q", q), ("k", k), ("v", v))}
        mixer["o"] = {"kernel": kernel(read("attn.out_proj.weight"), heads, D // heads, D)}
        return {
            "mixer": mixer,
            "feed_forward": {"up": linear(read, "ffn.up_proj"), "down": linear(read, "ffn.down_proj")},
            "mixer_norm": {"gain": read("norm_1.weight")},
            "feed_forward_norm": {"gain": read("norm_2.weight")},
        }

    params = {
        "embedding": {"table": state["transformer.wte.weight"]},
        "stack": {"blocks": layers_of(state, "transformer.blocks", convert)},
        "norm": {"gain": state["transformer.norm_f.weight"]},
    }
    norm = LayerNorm(bias=False)
    block = PreNorm(mixer=Attention(heads=heads, position=ALiBi()), feed_forward=MLP(), norm=norm)
    return model, decoder(block, norm=norm, head=Tied()), params


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("make", [llama, tied_llama, qwen3, mistral, gemma2, gpt2, gpt_neox, phi, mpt])
def test_logits_are_those_of_transformers(make):
    model, spec, params = make()
    tokens = np.random.default_rng(0).integers(0, V, (2, T), dtype=np.int32)
    with torch.no_grad():
        theirs = model(torch.from_numpy(tokens).long(), use_cache=False).logits.numpy()
    _, shapes = tiny.draw(spec)
    # Every parameter is copied, in its shape; nothing is left over on our side.
    assert jax.tree.map(np.shape, params) == jax.tree.map(np.shape, shapes)
    forward, _ = tiny.forward(spec)
    ours = tiny.jit(lambda params: forward(params, tokens).logits)(params)
    assert np.std(theirs) > 0.1
    np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-5 * max(1.0, np.abs(theirs).max()))
