"""Our training step against Transformers' Llama with torch's AdamW, at the same shapes, on the CPU or one GPU.

    python -m bench.train_step [--sizes=5M,25M] [--precisions=float32,bfloat16] [--rounds=15]
    python -m bench.train_step --device=gpu --sizes=125M,350M --lengths=1024,2048 --precisions=bfloat16

The same model (RMSNorm, rotary positions, SwiGLU, untied head, no biases), rows of random tokens, next-token
cross-entropy, AdamW; in bfloat16 parameters and their updates stay float32 on both sides (torch's autocast).
Contestants run in turn in processes of their own; the table shows medians and their ratios, and on GPUs model FLOPs
utilisation in both conventions: 6 FLOPs a parameter and token, without the embedding that is looked up, and with
attention's full T x T scores beside (PaLM).
"""

from __future__ import annotations

import dataclasses
import os
import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from typing import Any

from absl import app, flags

from bench.alternate import alternate, table
from bench.machine import choose, cores, gpu_peak, processor

FLAGS = flags.FLAGS if __name__ == "__main__" else flags.FlagValues()
DEVICE = flags.DEFINE_enum("device", "cpu", ["cpu", "gpu"], "Where.", flag_values=FLAGS)
SIZES = flags.DEFINE_list("sizes", ["5M", "25M"], "Which models.", flag_values=FLAGS)
LENGTHS = flags.DEFINE_list(
    "lengths", ["256"], "Tokens a row; a step has as many rows as make the size's tokens.", flag_values=FLAGS
)
PRECISIONS = flags.DEFINE_list("precisions", ["float32"], "Of the computation.", flag_values=FLAGS)
ROUNDS = flags.DEFINE_integer("rounds", 15, "Runs of each contestant, alternating.", flag_values=FLAGS)
WARM_UP = flags.DEFINE_integer("warm_up", 20, "Steps of each contestant before.", flag_values=FLAGS)
ONLY = flags.DEFINE_multi_string("only", [], "Contestants by name; none: all.", flag_values=FLAGS)

# `tokens` of a step. 125M and 350M have the widths and depths of GPT-2's small and medium, and blocks of as many
# parameters.
SHAPES: dict[str, dict[str, int]] = {
    "toy": {"width": 32, "depth": 2, "heads": 2, "hidden": 64, "vocab": 256, "tokens": 64},
    "5M": {"width": 256, "depth": 6, "heads": 4, "hidden": 688, "vocab": 1024, "tokens": 2048},
    "25M": {"width": 512, "depth": 7, "heads": 8, "hidden": 1376, "vocab": 4096, "tokens": 2048},
    "125M": {"width": 768, "depth": 12, "heads": 12, "hidden": 2048, "vocab": 32_768, "tokens": 16_384},
    "350M": {"width": 1024, "depth": 24, "heads": 16, "hidden": 2816, "vocab": 32_768, "tokens": 16_384},
}


def decoder(size: str, loop: str = "unroll") -> Any:
    """The spec of ours."""
    from arch.blocks import PreNorm
    from arch.layers.attention.softmax import Attention
    from arch.layers.feed_forward import GatedMLP
    from arch.models.decoder import Decoder
    from arch.stacks import Sequential

    shape = SHAPES[size]
    return Decoder(
        vocab=shape["vocab"],
        width=shape["width"],
        depth=shape["depth"],
        block=PreNorm(mixer=Attention(heads=shape["heads"]), feed_forward=GatedMLP(hidden=shape["hidden"])),
        stack=Sequential(loop=loop),  # type: ignore[arg-type]
    )


def ours(argument: dict[str, Any]) -> Callable[[], None]:
    """Strata's step, as `launch.py train` runs it: the CPU is divided into `devices`."""
    import jax
    import numpy as np

    from train.data.text import Text
    from train.optim.optimizers import AdamW
    from train.optim.schedules import Constant
    from train.run import Run
    from train.runtime.host import divide_cores, keep_freed_memory
    from train.setup import prepare

    keep_freed_memory()
    if argument["devices"] > 1:
        divide_cores(argument["devices"])
    shape, length = SHAPES[argument["size"]], argument["length"]
    run = Run(
        model=decoder(argument["size"], argument["loop"]),
        data=Text(length=length),
        optimizer=AdamW(learning_rate=1e-3, schedule=Constant(), clip=None, weight_decay=0.01),
        batch=shape["tokens"] // length,
        precision=argument["precision"],
    )
    known = {"vocab": shape["vocab"], "token_bytes": np.ones(shape["vocab"], np.float32)}
    program = prepare(run, dataclasses.replace(run.data.describe(), **known))
    tokens = np.random.default_rng(0).integers(0, shape["vocab"], (run.batch, length + 1), np.int32)
    batch = program.place({"tokens": tokens, "segments": np.ones_like(tokens)})
    box = {"state": program.start(), "go": jax.device_put(True)}

    def step() -> None:
        box["state"], metrics = program.train_step(box["state"], batch, box["go"])
        float(metrics["loss"])
        jax.block_until_ready(box["state"])

    return step


def theirs(argument: dict[str, Any]) -> Callable[[], None]:
    """Transformers' LlamaForCausalLM with torch.optim.AdamW; on a GPU with cuDNN's attention."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.set_num_threads(cores())
    device = "cuda" if argument["device"] == "gpu" else "cpu"
    shape, length = SHAPES[argument["size"]], argument["length"]
    config = LlamaConfig(
        vocab_size=shape["vocab"],
        hidden_size=shape["width"],
        intermediate_size=shape["hidden"],
        num_hidden_layers=shape["depth"],
        num_attention_heads=shape["heads"],
        num_key_value_heads=shape["heads"],
        max_position_embeddings=length,
        tie_word_embeddings=False,
        attn_implementation="sdpa",
        use_cache=False,
    )
    model = LlamaForCausalLM(config).train().to(device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.01, fused=argument["fused"] or None)
    forward: Any = torch.compile(model) if argument["compile"] else model
    tokens = torch.randint(0, shape["vocab"], (shape["tokens"] // length, length), device=device)
    contexts: list[Callable[[], Any]] = []
    if argument["precision"] == "bfloat16":
        contexts.append(lambda: torch.autocast(device, dtype=torch.bfloat16))
    if device == "cuda":
        from torch.nn.attention import SDPBackend, sdpa_kernel

        torch.set_float32_matmul_precision("high")  # TF32, as XLA's float32 on GPUs
        contexts.append(lambda: sdpa_kernel(SDPBackend.CUDNN_ATTENTION))

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        with ExitStack() as stack:
            for context in contexts:
                stack.enter_context(context())
            loss = forward(input_ids=tokens, labels=tokens).loss
        loss.backward()
        optimizer.step()
        loss.item()

    return step


def contestants(device: str, size: str, length: int, precision: str) -> dict[str, tuple[str, str, Any]]:
    """Name -> what `alternate` runs. "ours" is the form for the device: unrolled, a device a core on CPUs."""
    here = "bench.train_step"
    what = {"device": device, "size": size, "length": length, "precision": precision}
    forms: dict[str, tuple[str, dict[str, Any]]] = {"ours": ("ours", {"loop": "unroll", "devices": 1})}
    if device == "cpu":
        forms = {
            "ours": ("ours", {"loop": "unroll", "devices": cores()}),
            "ours, one device": ("ours", {"loop": "unroll", "devices": 1}),
        }
    forms["ours, scanned"] = ("ours", {"loop": "scan", "devices": forms["ours"][1]["devices"]})
    if device == "cpu":
        forms["torch eager"] = ("theirs", {"compile": False, "fused": False})
        forms["torch eager, fused"] = ("theirs", {"compile": False, "fused": True})
        forms["torch compile"] = ("theirs", {"compile": True, "fused": False})
    forms["torch compile, fused"] = ("theirs", {"compile": True, "fused": True})
    return {name: (here, function, {**what, **form}) for name, (function, form) in forms.items()}


def flops(size: str, length: int) -> tuple[float, float]:
    """Of one step: 6 a parameter and token, without the embedding that is looked up; and with attention's scores,
    12 T D a layer and token (PaLM, arXiv 2204.02311, appendix B)."""
    shape = SHAPES[size]
    block = 4 * shape["width"] ** 2 + 3 * shape["width"] * shape["hidden"]
    parameters = shape["depth"] * block + shape["vocab"] * shape["width"]
    scores = 12 * shape["depth"] * length * shape["width"]
    return 6.0 * parameters * shape["tokens"], float(6 * parameters + scores) * shape["tokens"]


def utilisation(seconds: Mapping[str, Sequence[float]], size: str, length: int, peak: float) -> str:
    """Tokens a second and MFU in both conventions, of a device of `peak` FLOP/s."""
    bare, full = flops(size, length)
    lines = [f"{'':24s} {'tokens/s':>10s} {'MFU, 6N':>8s} {'with T x T':>10s}"]
    for name, values in seconds.items():
        median = statistics.median(values)
        rate = SHAPES[size]["tokens"] / median
        lines.append(f"{name:24s} {rate:10,.0f} {bare / median / peak:8.1%} {full / median / peak:10.1%}")
    return "\n".join(lines)


def main(argv: list[str]) -> None:
    on_gpu = choose(DEVICE.value)
    print(f"{processor()}, {cores()} cores, load {os.getloadavg()[0]:.1f}")
    for size in SIZES.value:
        for length in map(int, LENGTHS.value):
            if SHAPES[size]["tokens"] % length:
                sys.exit(f"--lengths={length}: must divide the {SHAPES[size]['tokens']} tokens of a step of {size}")
            for precision in PRECISIONS.value:
                print(f"\n{size}: {SHAPES[size]}, rows of {length}, {precision}, {ROUNDS.value} rounds")
                runs = contestants(DEVICE.value, size, length, precision)
                if unknown := set(ONLY.value) - set(runs):
                    sys.exit(f"--only={unknown.pop()}: no such contestant; there are {'; '.join(runs)}")
                runs = {name: what for name, what in runs.items() if not ONLY.value or name in ONLY.value}
                seconds = alternate(runs, ROUNDS.value, WARM_UP.value, at_once=on_gpu)
                print(table(seconds, next(name for name in ("ours", *runs) if name in runs)), flush=True)
                peak = gpu_peak(precision) if on_gpu else None
                if peak is not None:
                    print(utilisation(seconds, size, length, peak), flush=True)
                elif on_gpu:
                    print(f"no MFU: the peak of this GPU in {precision} is not known")


if __name__ == "__main__":
    app.run(main)
