"""Constants that are only a matter of writing: folded into the map or gain beside them, exactly but for rounding.

    ScaledNorm, DepthScaled   s norm(x)              into the gain (and bias) of the norm       arXiv 2502.05795
    ScaledSublayer            x + s f(x)             into the map that writes to the stream     arXiv 2502.05795
    LayerScale, SkipInit      x + g * f(x)           into that map                              arXiv 2103.17239
    DeepNorm                  norm(a x + f(x))       = norm(x + f(x) / a) at eps / a^2          arXiv 2203.00555
    ScaledInput               norm(s x)              = norm(x) at eps / s^2
    MixNorm                   by layer               is pre-norm or post-norm                   arXiv 2412.13795
    Embedding(scale)          s E[t]                 into the table; a tied head's norm gets 1 / s
    ScaledTied(scale)         (s h) E^T              into the gain of the norm before the head
    Attention(scale)          s q k                  into the queries, or the gain of their norm

What cannot be folded is left as it is. A layer that was cut out of a deeper model keeps the factors it had there.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Callable
from typing import Any

from arch.blocks.base import Block
from arch.blocks.deep_norm import RELEASED_ALPHA, DeepNorm
from arch.blocks.depth_scaled import SUBLAYERS, DepthScaledBlock, ScaledInput, ScaledNorm, ScaledSublayer
from arch.blocks.learned_scale import LayerScale, SkipInit
from arch.blocks.mix_norm import MixNorm
from arch.blocks.post_norm import PostNorm
from arch.blocks.pre_norm import PreNorm
from arch.hf.weights import Weights
from arch.layers.norms.depth_scale import DepthScaled, DepthScaledInput

WRITES = {"Attention": "o", "CrossAttention": "o", "MLP": "down", "GatedMLP": "down"}
"""The map of a sublayer that writes into the stream."""


@dataclasses.dataclass
class Layer:
    """A layer while it is folded.

    Attributes:
      block: what is left to be said of it.
      index, depth: of the layer, 0-based, and L; those of the model it was cut out of.
      at: its paths begin with this.
      weights: those of the model, changed in place.
      told: what was folded, in words.
    """

    block: Block
    index: int
    depth: int
    at: str
    weights: Weights
    told: dict[str, None]

    def scale(self, below: str, factor: Any) -> None:
        """Multiplies every array whose path in the layer begins with `below`."""
        for path in [path for path in self.weights if path.startswith(f"{self.at}{below}.")]:
            self.weights[path] = self.weights[path].times(factor)

    def written(self, name: str) -> str | None:
        """The path of the map by which sublayer `name` writes; None: it has none that is known to be linear."""
        part = self.block.sublayers[name]
        last = WRITES.get(type(part).__name__)
        return None if last is None or type(part).__module__.partition(".")[0] != "arch" else f"{name}.{last}"

    def become(self, kind: type[Block], words: str, **fields: Any) -> None:
        """Makes the block one of `kind`."""
        names = [field.name for field in dataclasses.fields(Block)]
        self.block = kind(**{name: getattr(self.block, name) for name in names} | fields)
        self.told[words] = None


def _factor(block: DepthScaledBlock | DepthScaled, index: int) -> float:
    return float((block.index if block.index is not None else index + 1) ** -block.exponent)


def _scaled(block: DepthScaledBlock) -> tuple[str, ...]:
    return tuple(block.sublayers) if block.which == "both" else (SUBLAYERS[block.which],)


def depth_scaled_norm(layer: Layer) -> None:
    """LayerNorm Scaling as a norm: `NAME.norm.gain` becomes `NAME.gain`."""
    norm = layer.block.norm
    if type(norm) is DepthScaledInput:
        inner: Any = norm.norm
        if not hasattr(inner, "eps"):
            return
        inner = dataclasses.replace(inner, eps=inner.eps / _factor(norm, layer.index) ** 2)
    elif type(norm) is DepthScaled:
        inner = norm.norm
    else:
        return
    for path in [path for path in layer.weights if re.match(rf"{re.escape(layer.at)}[a-z0-9_]*norm\.norm\.", path)]:
        weight = layer.weights.pop(path)
        new = path.replace("norm.norm.", "norm.")
        layer.weights[new] = weight.times(_factor(norm, layer.index)) if type(norm) is DepthScaled else weight
    layer.block = dataclasses.replace(layer.block, norm=inner)
    layer.told["1/l^e of the depth into the gains"] = None


def scaled_norm(layer: Layer) -> None:
    block = layer.block
    if type(block) is ScaledNorm:
        for name in _scaled(block):
            layer.scale(f"{name}_norm", _factor(block, layer.index))
        layer.become(PreNorm, "1/l^e of the depth into the gains")


def scaled_sublayer(layer: Layer) -> None:
    block = layer.block
    if type(block) is ScaledSublayer and all(layer.written(name) for name in _scaled(block)):
        for name in _scaled(block):
            layer.scale(str(layer.written(name)), _factor(block, layer.index))
        layer.become(PreNorm, "1/l^e of the depth into what sublayers write")


def scaled_input(layer: Layer) -> None:
    block = layer.block
    if type(block) is ScaledInput and block.which == "both" and hasattr(block.norm, "eps"):
        norm: Any = block.norm
        inner = dataclasses.replace(norm, eps=norm.eps / _factor(block, layer.index) ** 2)
        layer.become(PreNorm, "1/l^e of the depth into eps", norm=inner)


def learned_scale(layer: Layer) -> None:
    block = layer.block
    if type(block) in (LayerScale, SkipInit) and all(layer.written(name) for name in block.sublayers):
        for name in block.sublayers:
            layer.scale(str(layer.written(name)), layer.weights.pop(f"{layer.at}{name}_scale").value())
        layer.become(PreNorm, "learned scales into what sublayers write")


def deep_norm(layer: Layer) -> None:
    block = layer.block
    if type(block) is DeepNorm and hasattr(block.norm, "eps") and all(layer.written(name) for name in block.sublayers):
        alpha = (2 * layer.depth) ** 0.25 if block.compat == "paper" else RELEASED_ALPHA
        for name in block.sublayers:
            layer.scale(str(layer.written(name)), 1 / alpha)
        norm: Any = block.norm
        inner = dataclasses.replace(norm, eps=norm.eps / alpha**2)
        layer.become(PostNorm, "DeepNorm's alpha into what sublayers write", norm=inner)


def mix_norm(layer: Layer) -> None:
    block = layer.block
    if type(block) is MixNorm:
        post = layer.index < math.floor(block.fraction * layer.depth)
        layer.become(PostNorm if post else PreNorm, "Mix-LN's kind of each layer")


def attention_scale(layer: Layer) -> None:
    """Scale and head width of every attention are given by the canonical block."""
    for name, each in layer.block.sublayers.items():
        part: Any = each
        if not (hasattr(part, "scale") and hasattr(part, "head_dim")) or part.scale == part.head_dim**-0.5:
            continue
        ratio = part.scale * part.head_dim**0.5
        layer.scale(f"{name}.q" if part.qk_norm is None else f"{name}.q_norm", ratio)
        changed = dataclasses.replace(part, scale=part.head_dim**-0.5)
        extra = tuple((key, changed if key == name else one) for key, one in layer.block.extra)
        fields: dict[str, Any] = {"mixer": changed} if name == "mixer" else {"extra": extra}
        layer.block = dataclasses.replace(layer.block, **fields)
        layer.told["the scale of attention into the queries"] = None


RULES: tuple[Callable[[Layer], None], ...] = (
    depth_scaled_norm,
    scaled_norm,
    scaled_sublayer,
    scaled_input,
    learned_scale,
    deep_norm,
    mix_norm,
)


def embedding_scale(spec: Any, weights: Weights, at: str, before_head: str | None) -> tuple[Any, bool]:
    """(trunk, whether folded) without `Embedding.scale`. `before_head`: path of the norm whose output a tied head
    reads; None: the head reads another table."""
    embedding = spec.embedding
    scale = None if embedding is None else embedding.scale
    if scale is None or scale == 1:
        return spec, False
    table = f"{at}embedding.table"
    if before_head is not None:
        gains = [path for path in weights if path.startswith(f"{before_head}.")]
        if not gains:
            return spec, False
        for path in gains:
            weights[path] = weights[path].times(1 / scale)
    weights[table] = weights[table].times(scale)
    return dataclasses.replace(spec, embedding=dataclasses.replace(embedding, scale=None)), True
