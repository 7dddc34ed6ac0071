"""Linformer against softmax attention and against its formula in numpy."""

import jax.numpy as jnp
import numpy as np
from scipy.special import softmax

from arch.layers.attention.linformer import Linformer
from arch.layers.attention.masks import Bidirectional
from tests.arch import tiny
from tests.arch.layers.attention import kinds
from tests.arch.layers.attention.kinds import B, K, N, T, layer, padded, rows, run

SPEC = Linformer(N, K, length=T, rank=4)


def test_with_identity_mixtures_it_is_softmax_attention():
    spec = Linformer(N, K, length=T, rank=T)
    _, params = layer(spec)
    params = {**params, "mix_k": jnp.eye(T), "mix_v": jnp.eye(T)}
    same = {name: params[name] for name in ("q", "k", "v", "o")}
    y, taps = run(spec, rows(), params=params)
    expected, wanted = run(kinds.softmax(Bidirectional()), rows(), params=same)
    tiny.close(y, expected)
    tiny.close(taps["attn.pattern"], wanted["attn.pattern"])


def test_the_formula_head_by_head_with_padding():
    lengths = (T, 7, 4)
    _, params = layer(SPEC)
    _, taps = run(SPEC, rows(), padded(lengths))
    assert taps["attn.pattern"].shape == (B, N, T, 4)
    for b, length in enumerate(lengths):
        for n in range(N):
            q, k, v = (np.asarray(taps[f"attn.{name}"], np.float64)[b, :, n] for name in "qkv")
            e, f = (np.asarray(params[name], np.float64)[:length] for name in ("mix_k", "mix_v"))
            pattern = softmax(q @ (e.T @ k[:length]).T / np.sqrt(K), axis=-1)
            tiny.close(taps["attn.z"][b, :, n], (pattern @ (f.T @ v[:length])).astype(np.float32))
