"""How sublayers write into the residual stream."""

from arch.blocks.bare_mixer import BareMixer
from arch.blocks.base import Block
from arch.blocks.parallel import Parallel
from arch.blocks.post_norm import PostNorm
from arch.blocks.pre_norm import PreNorm
from arch.blocks.reordered_norm import ReorderedNorm
from arch.blocks.sandwich import SandwichNorm

__all__ = ["BareMixer", "Block", "Parallel", "PostNorm", "PreNorm", "ReorderedNorm", "SandwichNorm"]
