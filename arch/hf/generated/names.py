"""Where our arrays lie in the generated model: names, and kernels the way torch has them."""

from __future__ import annotations

import numpy as np

LAST = {"gain": "weight", "kernel": "weight", "table": "weight"}
INNER = {
    **{name: f"{name}_proj" for name in ("q", "k", "v", "o", "gate", "up", "down")},
    **{"forward": "forwards", "backward": "backwards", "to": "to_levels", "back": "from_levels"},
    **LAST,
}
SUBLAYERS = {"mixer": "self_attn", "feed_forward": "mlp", "forward": "forwards", "backward": "backwards"}


def renamed(path: str, logits: bool) -> str:
    """The name there of our array at `path` by layer. `logits`: whether the head is one over the vocabulary."""
    first, _, rest = path.partition(".")
    if first in ("encoder", "decoder"):
        return f"model.{first}.{renamed(rest, logits).removeprefix('model.')}"
    parts = path.split(".")
    if first == "head":
        if logits and parts[-1] == "kernel" and set(parts[:-1]) == {"head"}:
            return "lm_head.weight"
        return ".".join(["head", *(INNER.get(part, part) for part in parts[1:])])
    if path == "embedding.table":
        return "model.embed_tokens.weight"
    if first == "layers" and parts[2:4] == ["at", "attn_z"]:
        return ".".join(["model", *parts[:2], "self_attn", "z", *(INNER.get(part, part) for part in parts[4:])])
    if first == "layers":
        start = ["layers", parts[1], SUBLAYERS.get(parts[2], parts[2])]
        return ".".join(["model", *start, *(INNER.get(part, part) for part in parts[3:])])
    return ".".join(["model", first, *(INNER.get(part, part) for part in parts[1:])])


def turned(path: str, array: np.ndarray) -> np.ndarray:
    """Our array as torch has it: kernels [inputs..., outputs...] as [outputs, inputs], biases flat."""
    *_, above, last = ("", *path.split("."))
    if last == "kernel" and array.ndim > 1:
        inputs = array.ndim - 1 if above == "o" else 1
        rows = int(np.prod(array.shape[:inputs]))
        return np.ascontiguousarray(array.reshape(rows, -1).T)
    return array.reshape(-1) if last == "bias" else array


def returned(path: str, array: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Our array of `shape` from that of torch: `turned` the other way."""
    return (array.T if path.rpartition(".")[2] == "kernel" and len(shape) > 1 else array).reshape(shape)
