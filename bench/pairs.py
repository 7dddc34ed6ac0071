"""The contestants of `bench.encoder_decoder`: what is timed, of which shapes, and what it must agree with."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from arch import cost
from arch.decode.generate import generate, prompt_width
from arch.layers.attention.masks import Causal
from arch.models.base import Inputs
from arch.models.decoder import Decoder
from arch.params import merge, split
from arch.stacks import Sequential
from bench import t5
from experiments.pair_sizes import SIZES, MuSize, T5Size
from train.runtime.compilation import enable_compilation_cache

VOCAB = 2_400
"""1,200 words of either language (En-Es verses)."""

TOYS = {"toy": T5Size(2, 32, 48, 4, head_dim=8, vocab=61)}
TOYS["toy-v1_1"] = dataclasses.replace(TOYS["toy"], gated=True)


def pair(toy: bool) -> Any:
    """The encoder-decoder."""
    width, vocab = (32, 61) if toy else (256, VOCAB)
    return unrolled(MuSize(4, 2, width, 4 * width, 4, 4, head_dim=width // 4, vocab=vocab).model())


def alone(toy: bool) -> Any:
    """Seven of its encoder's layers, causal, as a decoder of as many parameters as `pair`. Raises ValueError if they
    differ by more than a percent."""
    both = pair(toy)
    trunk = both.encoder
    shape: dict[str, Any] = {field.name: getattr(trunk, field.name) for field in dataclasses.fields(trunk)}
    block = dataclasses.replace(trunk.block, mixer=dataclasses.replace(trunk.block.mixer, mask=Causal()))

    def of(hidden: int) -> Decoder:
        layer = dataclasses.replace(block, feed_forward=dataclasses.replace(block.feed_forward, hidden=hidden))
        told = {"depth": 7, "block": layer, "embedding": both.decoder.embedding, "head": both.head}
        return Decoder(**{**shape, **told})

    size = lambda spec: cost.parameters(spec).total  # noqa: E731
    least, each = size(of(8)), size(of(16)) - size(of(8))
    spec = of(8 + 8 * round((size(both) - least) / each))
    if abs(size(spec) / size(both) - 1) > 0.01:
        raise ValueError(f"no decoder of 7 layers has {size(both):,} parameters; {size(spec):,} comes nearest")
    return spec


def unrolled(spec: Any) -> Any:
    """The pair with both stacks unrolled, the form for CPUs."""
    halves = {side: getattr(spec, side) for side in ("encoder", "decoder")}
    stack = Sequential(loop="unroll")
    return dataclasses.replace(spec, **{side: dataclasses.replace(half, stack=stack) for side, half in halves.items()})


def writer(argument: dict[str, Any]) -> Callable[[], None]:
    """`generate` of `new` tokens by the `pair` or the decoder `alone`, given a `source`, batch 1."""
    enable_compilation_cache()
    spec = {"pair": pair, "alone": alone}[argument["model"]](argument["toy"])
    graphdef, _, _ = split(cost.abstract(spec))
    model = merge(graphdef, jax.jit(lambda: split(spec.build(rngs=nnx.Rngs(0)))[1])(), {})
    tokens = np.random.default_rng(0).integers(1, spec.vocab, argument["source"], np.int32)
    if argument["model"] == "alone":
        return lambda: use(generate(model, [tokens], argument["new"]))
    source = jax.device_put(Inputs(tokens=tokens[None]))
    return lambda: use(generate(model, [[0]], argument["new"], source=source))


def use(decoded: Any) -> None:
    """What was decoded is on the host already, so that nothing is left to be waited for."""
    assert decoded.tokens.size


def work(model: str, source: int, new: int, toy: bool) -> tuple[int, int]:
    """FLOPs until the first token, and of a cached token after it, all places that the cache has room for counted."""
    spec = {"pair": pair, "alone": alone}[model](toy)
    graphdef, params, buffers = split(cost.abstract(spec))
    row = lambda length: Inputs(tokens=jax.ShapeDtypeStruct((1, length), jnp.int32))  # noqa: E731
    prompt = prompt_width(1 if model == "pair" else source)
    inputs = dataclasses.replace(row(prompt), source=row(source) if model == "pair" else None)

    def first(params: Any, buffers: Any, inputs: Inputs) -> Any:
        network = merge(graphdef, params, buffers)
        return network(inputs, cache=network.init_cache(1, prompt + new + 1), last=1)

    def step(params: Any, buffers: Any, inputs: Inputs, cache: Any) -> Any:
        return merge(graphdef, params, buffers)(inputs, cache=cache, last=1).logits

    cache = jax.eval_shape(first, params, buffers, inputs).cache
    return cost.flops(first, params, buffers, inputs), cost.flops(step, params, buffers, row(1), cache)


def t5_size(name: str) -> Any:
    """A shape of `experiments.pair_sizes`; "toy" and "toy-v1_1" are tiny ones."""
    return {**SIZES, **TOYS}[name]


def texts(argument: dict[str, Any]) -> tuple[Any, Any]:
    """Sources int32 [B, S] and which of their tokens are no padding."""
    shape = (argument["batch"], argument["source"])
    tokens = np.random.default_rng(0).integers(2, t5_size(argument["size"]).vocab, shape, np.int32)
    seen = np.ones_like(tokens)
    seen[1::2, shape[1] - shape[1] // 4 :] = 0
    return tokens * seen, seen


def ours(argument: dict[str, Any]) -> Callable[[], Any]:
    """Our pair with T5's weights: tokens [B, new]. `loop` is the stacks'."""
    size = t5_size(argument["size"])
    change = unrolled if argument["loop"] == "unroll" else lambda spec: spec
    model = t5.network(size, t5.state(t5.reference(size)), change)
    tokens, seen = texts(argument)
    source = jax.device_put(Inputs(tokens=tokens, segments=seen))
    return lambda: generate(model, [[0]] * len(tokens), argument["new"], source=source).tokens


def theirs(argument: dict[str, Any]) -> Callable[[], Any]:
    """Transformers' T5, eager, with its cache, on `threads`: tokens [B, new]."""
    import torch

    torch.set_num_threads(argument["threads"])
    model = t5.reference(t5_size(argument["size"]))
    tokens, seen = (torch.from_numpy(array).long() for array in texts(argument))
    told = {"max_new_tokens": argument["new"], "do_sample": False, "use_cache": True}
    return lambda: model.generate(input_ids=tokens, attention_mask=seen, **told)[:, 1:].numpy()


def agree(argument: dict[str, Any]) -> str:
    """A line on how near our logits and tokens are to Transformers', and how long compilation took. Raises ValueError
    if logits differ by 1e-4 of the largest, or a token does."""
    import torch

    size, (tokens, seen) = t5_size(argument["size"]), texts(argument)
    reference = t5.reference(size)
    model = t5.network(size, t5.state(reference), unrolled)
    target = np.concatenate([np.zeros_like(tokens[:, :1]), tokens[:, :7]], axis=1)
    inputs = Inputs(tokens=target, source=Inputs(tokens=tokens, segments=seen))
    logits = jax.jit(lambda inputs: model(inputs).logits)(inputs)
    with torch.no_grad():
        told = {"input_ids": tokens, "attention_mask": seen, "decoder_input_ids": target}
        expected = reference(**{name: torch.from_numpy(array).long() for name, array in told.items()}).logits.numpy()
    error = float(np.abs(logits - expected).max() / np.abs(expected).max())
    start = time.perf_counter()
    run = ours(argument)
    found = run()
    middle = time.perf_counter()
    run()
    compilation = 2 * middle - start - time.perf_counter()
    same = found == theirs({**argument, "threads": 1})()
    if error > 1e-4 or not same.all():
        raise ValueError(f"not the same model: logits differ by {error:.1e}, {np.sum(~same)} of {same.size} tokens")
    return (f"logits within {error:.0e} of the largest; {same.size} greedy tokens equal, {len(np.unique(found))} "
            f"different ones; loading and compiling {compilation:.1f} s")  # fmt: skip
