"""Forward latency of one wide layer against many narrow ones, batch 1, on the CPU: the layouts of wide_attention.py.

    python -m bench.wide_latency [--kinds=softmax,linear,linformer] [--layouts=6x8,1x48] [--rounds=50]

Compiled once and warmed up first, then timed in turn, each in a process of its own; the bar of the study is a median of
1x48 at most 0.6 times that of 6x8. Published: 3.1 times as fast on IMDb bytes (`--form=` takes the arms of that task).
"""

from __future__ import annotations

import statistics
from collections.abc import Callable

from absl import app, flags

from bench.alternate import alternate

KINDS = flags.DEFINE_list("kinds", ["softmax", "linear", "linformer"], "Which attention kinds.")
LAYOUTS = flags.DEFINE_list("layouts", ["6x8", "1x48"], "Layers x heads a layer; the first is the reference.")
ROUNDS = flags.DEFINE_integer("rounds", 50, "Forward passes of each, alternating.", lower_bound=1)
FORM = flags.DEFINE_string("form", "bytes", "Form of the study that the arms are taken from; empty: the paper's shape.")


def forward(argument: dict[str, str]) -> Callable[[], None]:
    """One row of the arm `arm` of the study's form `form` through its model."""
    import jax
    import jax.numpy as jnp
    from flax import nnx

    from arch.models.base import Inputs
    from arch.params import merge, split
    from experiments.wide_attention import get_config

    run = get_config(argument["form"]).arms[argument["arm"]]
    graphdef, params, _ = split(run.model.build(rngs=nnx.Rngs(0)))
    (length,), _ = run.data.describe().arrays["tokens"]
    tokens = jnp.arange(length, dtype=jnp.int32)[None] % run.model.vocab  # type: ignore[attr-defined]
    segments = jnp.ones_like(tokens)
    step = jax.jit(lambda params, inputs: merge(graphdef, params, {})(inputs).logits)
    return lambda: jax.block_until_ready(step(params, Inputs(tokens, segments=segments)))


def main(_: list[str]) -> None:
    form = FORM.value
    task = "imdb bytes" if form == "" else form
    print(f"{'':24s} {'median ms':>10s} {'least ms':>10s} {'of ' + LAYOUTS.value[0]:>8s}")
    for kind in KINDS.value:
        names = {layout: f"{task} {kind} {layout}" for layout in LAYOUTS.value}
        contestants = {name: ("bench.wide_latency", "forward", {"form": form, "arm": name}) for name in names.values()}
        seconds = alternate(contestants, ROUNDS.value)
        medians = {name: statistics.median(values) for name, values in seconds.items()}
        for name, values in seconds.items():
            ratio = medians[name] / medians[names[LAYOUTS.value[0]]]
            print(f"{name:24s} {medians[name] * 1e3:10.2f} {min(values) * 1e3:10.2f} {ratio:8.2f}", flush=True)


if __name__ == "__main__":
    app.run(main)
