"""Cached generation against Transformers' Llama with the same weights: tokens a second, greedy, float32, on the CPU.

    python -m bench.generate [--sizes=25M,135M] [--batches=1,8] [--rounds=5] [--prompt=128] [--new=128]

25M: seven layers of width 512, 8 heads, as in `bench.train_step`; 135M: SmolLM2's shape. Weights are random, of one
seed, and reach ours through the folder that Transformers saves, so that the import is part of what is checked: greedy
tokens are compared before anything is timed. Contestants run in turn in processes of their own.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from absl import app, flags

from bench.alternate import alternate, quartiles, table

FLAGS = flags.FLAGS if __name__ == "__main__" else flags.FlagValues()  # imported, it has its own
SIZES = flags.DEFINE_list("sizes", ["25M", "135M"], "Which models.", flag_values=FLAGS)
BATCHES = flags.DEFINE_list("batches", ["1", "8"], "Rows side by side.", flag_values=FLAGS)
ROUNDS = flags.DEFINE_integer("rounds", 5, "Runs of each contestant, alternating.", flag_values=FLAGS)
PROMPT = flags.DEFINE_integer("prompt", 128, "Tokens of a prompt.", flag_values=FLAGS)
NEW = flags.DEFINE_integer("new", 128, "Tokens that are added.", flag_values=FLAGS)
THREADS = flags.DEFINE_list("threads", ["1", "2"], "Threads of torch.", flag_values=FLAGS)

SHAPES: dict[str, dict[str, Any]] = {
    "toy": {"width": 32, "depth": 2, "heads": 4, "kv": 2, "hidden": 48, "vocab": 61, "base": 10_000.0, "range": 0.6},
    "25M": {"width": 512, "depth": 7, "heads": 8, "kv": 8, "hidden": 1376, "vocab": 4096, "base": 10_000.0},
    "135M": {"width": 576, "depth": 30, "heads": 9, "kv": 3, "hidden": 1536, "vocab": 49152, "base": 100_000.0},
}


def reference(size: str) -> Any:
    """`LlamaForCausalLM` of a shape, random from seed 0, with nothing that ends a text."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    shape = SHAPES[size]
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=shape["vocab"],
        hidden_size=shape["width"],
        intermediate_size=shape["hidden"],
        num_hidden_layers=shape["depth"],
        num_attention_heads=shape["heads"],
        num_key_value_heads=shape["kv"],
        max_position_embeddings=1024,
        rope_parameters={"rope_type": "default", "rope_theta": shape["base"]},
        tie_word_embeddings=True,
        initializer_range=shape.get("range", 0.05),
        pad_token_id=0,
        eos_token_id=None,
    )
    model = LlamaForCausalLM(config).eval()
    model.generation_config.eos_token_id = None
    return model


def prompts(argument: dict[str, Any]) -> np.ndarray:
    """int32 [B, P]."""
    shape = (argument["batch"], argument["prompt"])
    return np.random.default_rng(0).integers(1, SHAPES[argument["size"]]["vocab"], shape, np.int32)


def ours(argument: dict[str, Any]) -> Callable[[], np.ndarray]:
    """`generate` with the weights of the reference: tokens [B, new]."""
    from arch import cost
    from arch.decode.generate import generate
    from arch.hf.reading import read
    from arch.params import merge, split
    from train.runtime.compilation import enable_compilation_cache

    enable_compilation_cache()
    with tempfile.TemporaryDirectory() as folder:
        reference(argument["size"]).save_pretrained(folder)
        found = read(Path(folder))
    import jax
    import jax.numpy as jnp

    graphdef, _, _ = split(cost.abstract(found.model))
    model = merge(graphdef, jax.tree.map(jnp.asarray, found.params), {})
    tokens = list(prompts(argument))
    return lambda: generate(model, tokens, argument["new"]).tokens


def theirs(argument: dict[str, Any]) -> Callable[[], np.ndarray]:
    """Transformers' `generate` with its cache, on `threads`: tokens [B, new]."""
    import torch

    torch.set_num_threads(argument["threads"])
    model = reference(argument["size"])
    tokens = torch.from_numpy(prompts(argument)).long()
    told = {"max_new_tokens": argument["new"], "do_sample": False, "use_cache": True}
    told["attention_mask"] = torch.ones_like(tokens)

    def run() -> np.ndarray:
        with torch.inference_mode():
            return model.generate(input_ids=tokens, **told)[:, tokens.shape[1] :].numpy()

    return run


def agreement(argument: dict[str, Any]) -> float:
    """The fraction of greedy tokens that are those of Transformers, before the first that differs in each row."""
    same = ours(argument)() == theirs({**argument, "threads": 1})()
    return float(np.cumprod(same, axis=1).mean())


def contestants(argument: dict[str, Any], threads: list[int]) -> dict[str, tuple[str, str, Any]]:
    """Name -> what `alternate` runs."""
    here = "bench.generate"
    others = {f"torch, {n} thread{'s' * (n > 1)}": (here, "theirs", {**argument, "threads": n}) for n in threads}
    return {"ours": (here, "ours", argument), **others}


def report(seconds: dict[str, list[float]], argument: dict[str, Any]) -> str:
    """The table of times, and tokens a second with the ratio round by round."""
    work = argument["batch"] * argument["new"]
    lines = [table(seconds, "ours")]
    for name, times in seconds.items():
        low, median, high = quartiles(times, seconds["ours"])
        rate = work / float(np.median(times))
        lines.append(f"{name:24s} {rate:8.1f} tokens/s   ours is {median:.2f}x ({low:.2f} to {high:.2f})")
    return "\n".join(lines)


def main(argv: list[str]) -> None:
    for size in SIZES.value:
        for batch in map(int, BATCHES.value):
            argument = {"size": size, "batch": batch, "prompt": PROMPT.value, "new": NEW.value}
            load = os.getloadavg()[0]
            print(
                f"\n{size}, batch {batch}, {PROMPT.value} + {NEW.value} tokens, {os.cpu_count()} cores, load {load:.1f}"
            )
            print(f"greedy tokens equal before the first that differs: {agreement(argument):.1%}", flush=True)
            found = alternate(contestants(argument, list(map(int, THREADS.value))), ROUNDS.value, warm_up=1)
            print(report(found, argument), flush=True)


if __name__ == "__main__":
    app.run(main)
