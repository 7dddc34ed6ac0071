"""Transformers' T5 (arXiv 1910.10683) and its weights as those of our pair: v1.0, and v1.1 where the size is `gated`.

Every array is read once, by name, and must have the shape that the pair has. T5's bucket tables, [buckets, N], and
gains are ours as they are; its matrices are [outputs, inputs], ours have inputs first and heads apart.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from arch import cost
from arch.models.base import Network
from arch.params import Tree, merge, metadata, nest, split
from arch.spec import UserError
from experiments.pair_sizes import T5Size

State = Mapping[str, np.ndarray]
SELF, CROSS = "SelfAttention", "EncDecAttention"
ALIASES = ("encoder.embed_tokens.weight", "decoder.embed_tokens.weight")
"""Further names of `shared.weight`; `lm_head.weight` is one in v1.0."""


def reference(size: T5Size, seed: int = 0) -> Any:
    """`T5ForConditionalGeneration` of `size`, random from `seed`, with nothing that ends a text.

    As it starts it says one token again and again, that of its own input. Here tables are smaller and matrices larger,
    so that what is said depends on what is read, and no gain is 1.
    """
    import torch
    from transformers import T5Config, T5ForConditionalGeneration

    torch.manual_seed(seed)
    config = T5Config(
        vocab_size=size.vocab,
        d_model=size.width,
        d_kv=size.head_dim,
        d_ff=size.hidden,
        num_layers=size.layers,
        num_heads=size.heads,
        feed_forward_proj="gated-gelu" if size.gated else "relu",
        tie_word_embeddings=not size.gated,
        pad_token_id=0,
        decoder_start_token_id=0,
    )
    model = T5ForConditionalGeneration(config).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim == 1:
                parameter += 0.3 * torch.randn_like(parameter)
            else:
                parameter *= 0.1 if name == "shared.weight" else 1.4
    model.generation_config.eos_token_id = None
    return model


def state(model: Any) -> dict[str, np.ndarray]:
    """The arrays of a torch model by name."""
    return {name: value.detach().numpy() for name, value in model.state_dict().items()}


def network(size: T5Size, weights: State, change: Callable[[Any], Any] = lambda spec: spec) -> Network:
    """The pair of `size` with T5's weights; `change` of its spec may not change its parameters."""
    graphdef, _, _ = split(cost.abstract(change(size.model())))
    return merge(graphdef, jax.tree.map(jnp.asarray, parameters(size, weights)), {})


def parameters(size: T5Size, weights: State) -> Tree:
    """T5's weights as the parameters of `size.model()`.

    Raises:
      UserError: an array is missing or left over, has another shape than ours, or an alias differs from the table.
    """
    left = dict(weights)

    def take(name: str) -> np.ndarray:
        if name not in left:
            raise UserError(f"T5 weights: {name} is missing; is it of this size (layers, gated)?")
        return left.pop(name)

    table = take("shared.weight")
    for alias in (*ALIASES, *(() if size.gated else ("lm_head.weight",))):
        if alias in left and not np.array_equal(left.pop(alias), table):
            raise UserError(f"T5 weights: {alias} differs from shared.weight, which it must equal")
    flat = {"decoder.embedding.table": table}
    if size.gated:
        flat["head.kernel"] = take("lm_head.weight").T
    for side in ("encoder", "decoder"):
        flat[f"{side}.position.table"] = take(f"{side}.block.0.layer.0.{SELF}.relative_attention_bias.weight")
        flat[f"{side}.norm.gain"] = take(f"{side}.final_layer_norm.weight")
        layers = [_layer(size, side, lambda name, at=f"{side}.block.{i}.layer": take(f"{at}.{name}"))
                  for i in range(size.layers)]  # fmt: skip
        flat |= {f"{side}.stack.blocks.{path}": np.stack([one[path] for one in layers]) for path in layers[0]}
    if left:
        raise UserError(f"T5 weights: {', '.join(left)} left over; is it of this size (layers, gated)?")
    for path, row in metadata(cost.abstract(size.model())).items():
        if flat[path].shape != row["shape"]:
            raise UserError(f"T5 weights: {path} has shape {flat[path].shape}; it must be {row['shape']}")
    return nest(flat)


def _layer(size: T5Size, side: str, take: Callable[[str], np.ndarray]) -> dict[str, np.ndarray]:
    """Path within a block -> array, of one layer."""
    last = "2" if side == "decoder" else "1"
    inputs = {"gate": "wi_0", "up": "wi_1"} if size.gated else {"up": "wi"}
    found = _attention(size, "mixer", lambda x: take(f"0.{SELF}.{x}.weight"))
    found["mixer_norm.gain"] = take("0.layer_norm.weight")
    if side == "decoder":
        found |= _attention(size, "cross", lambda x: take(f"1.{CROSS}.{x}.weight"))
        found["cross_norm.gain"] = take("1.layer_norm.weight")
    for ours, theirs in {**inputs, "down": "wo"}.items():
        found[f"feed_forward.{ours}.kernel"] = take(f"{last}.DenseReluDense.{theirs}.weight").T
    found["feed_forward_norm.gain"] = take(f"{last}.layer_norm.weight")
    return found


def _attention(size: T5Size, name: str, take: Callable[[str], np.ndarray]) -> dict[str, np.ndarray]:
    heads, width = (size.heads, size.head_dim), size.width
    found = {f"{name}.{x}.kernel": _apart(take(x).T, (width,), heads) for x in "qkv"}
    return {**found, f"{name}.o.kernel": _apart(take("o").T, heads, (width,))}


def _apart(matrix: np.ndarray, inputs: tuple[int, ...], outputs: tuple[int, ...]) -> np.ndarray:
    """A matrix with its dimensions told apart. Raises UserError if it has others."""
    shape = (math.prod(inputs), math.prod(outputs))
    if matrix.shape != shape:
        raise UserError(f"T5 weights: a matrix of attention has shape {matrix.shape[::-1]}; it must be {shape[::-1]}")
    return matrix.reshape(*inputs, *outputs)
