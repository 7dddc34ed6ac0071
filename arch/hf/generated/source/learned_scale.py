"""Learned factors on what sublayers write: LayerScale (arXiv 2103.17239), SkipInit (arXiv 2002.10444)."""

import torch
from torch import nn

from .pre_norm import StrataPreNorm


class StrataLearnedScale(StrataPreNorm):
    def __init__(self, part, config, layer_idx):
        super().__init__(part, config, layer_idx)
        size = (config.hidden_size,) if part["by_channel"] else ()
        self.add_beside("scale", lambda: nn.Parameter(torch.empty(size)))
        self.starts = {f"{name}_scale": part["initial"] for name in self.names}

    def finish(self, name, written):
        return written * self.beside(name, "scale")
