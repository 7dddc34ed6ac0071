"""A teacher from nowhere: parameters drawn by numpy, in place of a checkpoint's."""

from __future__ import annotations

import dataclasses

import jax
import numpy as np

from arch.cost import abstract
from arch.models.base import Model
from arch.params import split
from train.starts.start import Start


@dataclasses.dataclass(frozen=True)
class Drawn(Start):
    """Standard normal numbers times `scale` for every parameter of `model`."""

    model: Model
    scale: float = 0.3
    seed: int = 0

    def digest(self):
        return f"drawn {self.scale} {self.seed}"

    def origins(self):
        return dict.fromkeys(self.arrays()["params"], "numpy")

    def arrays(self):
        _, params, _ = split(abstract(self.model))
        rng = np.random.default_rng(self.seed)
        leaves, _ = jax.tree_util.tree_flatten_with_path(params)
        paths = {jax.tree_util.keystr(path, simple=True, separator="."): leaf.shape for path, leaf in leaves}
        drawn = {path: (self.scale * rng.standard_normal(shape)).astype(np.float32) for path, shape in paths.items()}
        return {"params": drawn, "buffers": {}}
