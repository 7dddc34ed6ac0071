"""Our training step against Transformers' Llama with torch's AdamW, at the same shapes, float32, on the CPU.

    python -m bench.train_step [--sizes=5M,25M] [--rounds=15]

The same model (RMSNorm, rotary positions, SwiGLU, untied head, no biases), 8 rows of 256 tokens, next-token
cross-entropy, AdamW. Contestants run in turn in processes of their own; the table shows medians and their ratios.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable
from typing import Any

from absl import app, flags

from bench.alternate import alternate, table

SIZES = flags.DEFINE_list("sizes", ["5M", "25M"], "Which models.")
ROUNDS = flags.DEFINE_integer("rounds", 15, "Runs of each contestant, alternating.")

SHAPES: dict[str, dict[str, int]] = {
    "5M": {"width": 256, "depth": 6, "heads": 4, "hidden": 688, "vocab": 1024},
    "25M": {"width": 512, "depth": 7, "heads": 8, "hidden": 1376, "vocab": 4096},
}
BATCH, LENGTH = 8, 256


def ours(argument: dict[str, Any]) -> Callable[[], None]:
    """Strata's step, as `launch.py train --cpu_devices=...` runs it; `loop` is the stack's."""
    import jax
    import numpy as np

    from arch.blocks import PreNorm
    from arch.layers.attention.softmax import Attention
    from arch.layers.feed_forward import GatedMLP
    from arch.models.decoder import Decoder
    from arch.stacks import Sequential
    from train.data.text import Text
    from train.optim.optimizers import AdamW
    from train.optim.schedules import Constant
    from train.run import Run
    from train.runtime.host import divide_cores, keep_freed_memory
    from train.setup import prepare

    keep_freed_memory()
    divide_cores(argument["devices"])
    shape = SHAPES[argument["size"]]
    run = Run(
        model=Decoder(
            vocab=shape["vocab"],
            width=shape["width"],
            depth=shape["depth"],
            block=PreNorm(mixer=Attention(heads=shape["heads"]), feed_forward=GatedMLP(hidden=shape["hidden"])),
            stack=Sequential(loop=argument["loop"]),
        ),
        data=Text(length=LENGTH),
        optimizer=AdamW(learning_rate=1e-3, schedule=Constant(), clip=None, weight_decay=0.01),
        batch=BATCH,
    )
    known = {"vocab": shape["vocab"], "token_bytes": np.ones(shape["vocab"], np.float32)}
    program = prepare(run, dataclasses.replace(run.data.describe(), **known))
    tokens = np.random.default_rng(0).integers(0, shape["vocab"], (BATCH, LENGTH + 1), np.int32)
    batch = program.place({"tokens": tokens, "segments": np.ones_like(tokens)})
    box = {"state": program.start(), "go": jax.device_put(True)}

    def step() -> None:
        box["state"], metrics = program.train_step(box["state"], batch, box["go"])
        float(metrics["loss"])
        jax.block_until_ready(box["state"])

    return step


def theirs(argument: dict[str, Any]) -> Callable[[], None]:
    """Transformers' LlamaForCausalLM with torch.optim.AdamW; `compile` and `fused` as torch has them."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.set_num_threads(os.cpu_count() or 1)
    shape = SHAPES[argument["size"]]
    config = LlamaConfig(
        vocab_size=shape["vocab"],
        hidden_size=shape["width"],
        intermediate_size=shape["hidden"],
        num_hidden_layers=shape["depth"],
        num_attention_heads=shape["heads"],
        num_key_value_heads=shape["heads"],
        max_position_embeddings=LENGTH,
        tie_word_embeddings=False,
        attn_implementation="sdpa",
        use_cache=False,
    )
    model = LlamaForCausalLM(config).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.01, fused=argument["fused"] or None)
    forward: Any = torch.compile(model) if argument["compile"] else model
    tokens = torch.randint(0, shape["vocab"], (BATCH, LENGTH))

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        loss = forward(input_ids=tokens, labels=tokens).loss
        loss.backward()
        optimizer.step()
        loss.item()

    return step


def contestants(size: str) -> dict[str, tuple[str, str, Any]]:
    """Name -> what `alternate` runs. Ours is unrolled with a device a core, the form for CPUs; others are beside it."""
    here, cores = "bench.train_step", os.cpu_count()
    return {
        "ours": (here, "ours", {"size": size, "loop": "unroll", "devices": cores}),
        "ours, one device": (here, "ours", {"size": size, "loop": "unroll", "devices": 1}),
        "ours, scanned": (here, "ours", {"size": size, "loop": "scan", "devices": cores}),
        "torch eager": (here, "theirs", {"size": size, "compile": False, "fused": False}),
        "torch eager, fused": (here, "theirs", {"size": size, "compile": False, "fused": True}),
        "torch compile": (here, "theirs", {"size": size, "compile": True, "fused": False}),
        "torch compile, fused": (here, "theirs", {"size": size, "compile": True, "fused": True}),
    }


def main(argv: list[str]) -> None:
    for size in SIZES.value:
        print(f"\n{size}: {SHAPES[size]}, {BATCH} x {LENGTH} tokens, {os.cpu_count()} cores, {ROUNDS.value} rounds")
        print(table(alternate(contestants(size), ROUNDS.value), "ours"), flush=True)


if __name__ == "__main__":
    app.run(main)
