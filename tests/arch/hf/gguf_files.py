"""GGUF files written by hand, and a tiny Llama in one."""

import struct

import numpy as np

TYPES = {"F32": 0, "F16": 1, "Q4_0": 2, "Q4_1": 3, "Q8_0": 8, "BF16": 30}
D, F, N, H, K, L, V = 32, 64, 4, 2, 8, 2, 64
METADATA = {
    "general.architecture": "llama",
    "llama.block_count": L,
    "llama.context_length": 48,
    "llama.embedding_length": D,
    "llama.feed_forward_length": F,
    "llama.attention.head_count": N,
    "llama.attention.head_count_kv": H,
    "llama.rope.freq_base": 500.0,
    "llama.attention.layer_norm_rms_epsilon": 1e-5,
    "llama.rope.dimension_count": K,
}


def text(value):
    return struct.pack("<Q", len(value.encode())) + value.encode()


def value(held):
    if isinstance(held, str):
        return struct.pack("<I", 8) + text(held)
    if isinstance(held, bool):
        return struct.pack("<I?", 7, held)
    if isinstance(held, int):
        return struct.pack("<II", 4, held)
    if isinstance(held, float):
        return struct.pack("<If", 6, held)
    kind, each = (8, text) if isinstance(held[0], str) else (5, lambda one: struct.pack("<i", one))
    return struct.pack("<IIQ", 9, kind, len(held)) + b"".join(map(each, held))


def content(metadata, tensors, version=3):
    """The bytes of a file. `tensors`: name -> (shape, name or number of a type, bytes)."""
    head = b"GGUF" + struct.pack("<IQQ", version, len(tensors), len(metadata))
    head += b"".join(text(key) + value(held) for key, held in metadata.items())
    body = b""
    for name, (shape, kind, raw) in tensors.items():
        head += text(name) + struct.pack("<I", len(shape)) + struct.pack(f"<{len(shape)}Q", *reversed(shape))
        head += struct.pack("<IQ", TYPES.get(kind, kind), len(body))
        body += raw + b"\0" * (-len(raw) % 32)
    return head + b"\0" * (-len(head) % 32) + body


def weights(seed=0):
    """Name -> array of the tiny Llama, as in the file."""
    random = np.random.default_rng(seed)
    shapes = {"token_embd.weight": (V, D), "output_norm.weight": (D,)}
    for layer in range(L):
        for name, shape in {
            **{"attn_norm": (D,), "ffn_norm": (D,), "attn_q": (N * K, D), "attn_k": (H * K, D), "attn_v": (H * K, D)},
            **{"attn_output": (D, N * K), "ffn_gate": (F, D), "ffn_up": (F, D), "ffn_down": (D, F)},
        }.items():
            shapes[f"blk.{layer}.{name}.weight"] = shape
    return {name: random.normal(size=shape, scale=0.5 if len(shape) > 1 else 1).astype(np.float32)
            for name, shape in shapes.items()}  # fmt: skip


def stored(arrays):
    return {name: (array.shape, "F32", array.tobytes()) for name, array in arrays.items()}


def logits(arrays, tokens):
    """[T, V] in float64 by the formula, with rotary positions that turn dimensions 2i and 2i + 1 together."""
    w = {name.removesuffix(".weight"): array.astype(np.float64) for name, array in arrays.items()}

    def norm(x, gain):
        return x / np.sqrt((x * x).mean(-1, keepdims=True) + 1e-5) * gain

    def rotated(x):  # [T, heads, K]
        angle = np.arange(len(x))[:, None, None] * 500.0 ** (-np.arange(0, K, 2) / K)
        turned = (x[..., ::2] + 1j * x[..., 1::2]) * np.exp(1j * angle)
        return np.stack([turned.real, turned.imag], -1).reshape(x.shape)

    x = w["token_embd"][tokens]
    T = len(tokens)
    for layer in range(L):
        at = lambda name, layer=layer: w[f"blk.{layer}.{name}"]  # noqa: E731
        n = norm(x, at("attn_norm"))
        q, k, v = ((n @ at(f"attn_{name}").T).reshape(T, -1, K) for name in "qkv")
        q, k, v = rotated(q), np.repeat(rotated(k), N // H, 1), np.repeat(v, N // H, 1)
        scores = np.einsum("tnk,snk->nts", q, k) / K**0.5 + np.triu(np.full((T, T), -np.inf), 1)
        pattern = np.exp(scores - scores.max(-1, keepdims=True))
        pattern /= pattern.sum(-1, keepdims=True)
        x = x + np.einsum("nts,snk->tnk", pattern, v).reshape(T, -1) @ at("attn_output").T
        n = norm(x, at("ffn_norm"))
        gate = n @ at("ffn_gate").T
        x = x + (gate / (1 + np.exp(-gate)) * (n @ at("ffn_up").T)) @ at("ffn_down").T
    return norm(x, w["output_norm"]) @ w.get("output", w["token_embd"]).T
