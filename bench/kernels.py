"""Where a training step's time goes: its kernels (GPU) or thunks (CPU), summed by name.

    python -m bench.kernels [--device=gpu] --sizes=125M --lengths=1024 --precisions=bfloat16 [--top=25]

The step is "ours" of `bench.train_step`. Times are of the device's own clock; on a CPU those of all threads together.
"""

from __future__ import annotations

import collections
import re
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from absl import app, flags

from bench.machine import choose, processor
from bench.train_step import contestants, ours

FLAGS = flags.FLAGS if __name__ == "__main__" else flags.FlagValues()
DEVICE = flags.DEFINE_enum("device", "cpu", ["cpu", "gpu"], "Where.", flag_values=FLAGS)
SIZES = flags.DEFINE_list("sizes", ["5M"], "Which models.", flag_values=FLAGS)
LENGTHS = flags.DEFINE_list("lengths", ["256"], "Tokens a row.", flag_values=FLAGS)
PRECISIONS = flags.DEFINE_list("precisions", ["float32"], "Of the computation.", flag_values=FLAGS)
FORM = flags.DEFINE_string("form", "ours", "A contestant of ours.", flag_values=FLAGS)
TOP = flags.DEFINE_integer("top", 25, "How many names.", flag_values=FLAGS)

WARM_UP, STEPS = 3, 5


def recorded(step: Callable[[], None], steps: int = STEPS) -> dict[str, tuple[float, float]]:
    """Kernel -> milliseconds and calls a step, from a profile of `steps`, which run warm."""
    import jax
    from jax.profiler import ProfileData

    for _ in range(WARM_UP):
        step()
    with tempfile.TemporaryDirectory() as folder:
        with jax.profiler.trace(folder):
            for _ in range(steps):
                step()
        (path,) = Path(folder).rglob("*.xplane.pb")
        data = ProfileData.from_file(str(path))
    on_gpu = jax.default_backend() != "cpu"
    found: dict[str, list[float]] = collections.defaultdict(list)
    for plane in data.planes:
        if plane.name.startswith("/device:GPU") if on_gpu else plane.name == "/host:CPU":
            for line in plane.lines:
                # Other lines of a GPU's plane name the same time again, by operation and by module.
                if line.name.startswith("Stream" if on_gpu else "tf_XLA"):
                    for event in line.events:
                        if on_gpu or not re.search(r"::|^end: ", event.name):  # no scheduling
                            found[kind(event.name)].append(event.duration_ns / 1e6)
    if not found:
        planes = ", ".join(plane.name for plane in data.planes)
        sys.exit(f"the profile names no kernels; its planes are {planes}")
    return {name: (sum(times) / steps, len(times) / steps) for name, times in found.items()}


def kind(name: str) -> str:
    """A kernel's name without the number that the compiler gave it."""
    return re.sub(r"[._]\d+$", "", name)


def report(found: dict[str, tuple[float, float]], top: int) -> str:
    """The longest first, and how much of the whole they are."""
    total = sum(time for time, _ in found.values())
    lines = [f"{'ms a step':>10s} {'share':>6s} {'calls':>6s}"]
    for name, (time, calls) in sorted(found.items(), key=lambda item: -item[1][0])[:top]:
        lines.append(f"{time:10.3f} {time / total:6.1%} {calls:6.0f}  {name[:110]}")
    return "\n".join([*lines, f"{total:10.3f} {1:6.1%} {sum(calls for _, calls in found.values()):6.0f}  all"])


def main(argv: list[str]) -> None:
    choose(DEVICE.value)
    for size in SIZES.value:
        for length in map(int, LENGTHS.value):
            for precision in PRECISIONS.value:
                forms = contestants(DEVICE.value, size, length, precision)
                ours_are = [name for name, (_, function, _) in forms.items() if function == "ours"]
                if FORM.value not in ours_are:
                    sys.exit(f"--form={FORM.value}: no contestant of ours; there are {'; '.join(ours_are)}")
                _, _, argument = forms[FORM.value]
                print(f"\n{size}, rows of {length}, {precision}, {FORM.value}; {processor()}")
                print(report(recorded(ours(argument)), TOP.value))


if __name__ == "__main__":
    app.run(main)
