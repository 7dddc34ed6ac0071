"""The sizes and recipes of "Seq vs Seq: An Open Suite of Paired Encoders and Decoders" (Ettin, arXiv 2507.11412).

Shapes, peaks and warm-ups are those of the released configurations. The encoder and the decoder of a size have the same
parameters at the same paths; they differ in the masks of their attention, and in what they are trained to do:

    h      = LN(E[x])
    h      = h + Dropout(Attention(LN(h)))       layer 0 without the LN; layer l global where l mod 3 = 0, else local
    h      = h + (GELU(u) * g) W_f,  u, g = LN(h) W_i
    logits = LN(GELU(LN(h) W_d)) E^T + b

LN has no bias and eps 1e-5. A local layer sees the 64 tokens on either side of a token and itself; in the decoder,
those before it alone. The base of the local rotary positions differs between the released configurations, and is always
given.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

from arch.blocks import BareMixer, PreNorm
from arch.blocks.dropout import DropoutBy
from arch.layers.attention.masks import Bidirectional, Causal, LocalWindow, Mask, SlidingWindow
from arch.layers.attention.softmax import Attention
from arch.layers.embedding_norm import NormedEmbedding
from arch.layers.feed_forward import GatedMLP
from arch.layers.heads.prediction import PredictionHead
from arch.layers.init.megatron import FullMegatron
from arch.layers.norms.common import LayerNorm
from arch.layers.positions import Rotary
from arch.models.decoder import Decoder
from arch.models.encoder import Encoder
from arch.spec import Problem, Spec, at_least
from arch.stacks import FirstThen
from train.optim.batch_warmup import BatchWarmup
from train.optim.phases import Phase, Phases, pretraining
from train.optim.rules import Rules
from train.optim.stable_adamw import StableAdamW

VOCAB = 50_368
PRETRAINING = 1.7e12
NORM = LayerNorm(eps=1e-5, bias=False)


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How a size was trained.

    Attributes:
      learning_rate: the peak.
      weight_decay: decoupled; gains and biases have none.
      warmup: of the learning rate, in tokens, among those of pre-training.
      batch_warmup: of the batch, in tokens.
      extension, decay: tokens of the second and the third phase, in rows of 7,999; pre-training has rows of 1,024.
    """

    learning_rate: float
    weight_decay: float
    warmup: float
    batch_warmup: float
    extension: float = 250e9
    decay: float = 50e9

    def optimizer(self, *, step_tokens: int | BatchWarmup, before: float = 0.0) -> StableAdamW:
        """The optimiser of a run with updates of `step_tokens`, after `before` tokens: peak, 1 - sqrt to a half of it,
        1 - sqrt to 0.04 of that. Pre-training begins at 0 with a `BatchWarmup` of `batch_warmup` tokens, extension at
        1.7e12, decay behind both."""
        phases = (*pretraining(PRETRAINING, self.warmup), Phase(self.extension, 0.5, "sqrt"))
        schedule = Phases(phases=(*phases, Phase(self.decay, 0.02, "sqrt")), step_tokens=step_tokens, before=before)
        return StableAdamW(
            learning_rate=self.learning_rate,
            schedule=schedule,
            weight_decay=self.weight_decay,
            decay=Rules(((r"gain$|bias$", 0.0), (".*", 1.0))),
            b1=0.9,
            b2=0.98,
            eps=1e-6,
        )


@dataclasses.dataclass(frozen=True)
class Size(Spec):
    """A shape, and its recipe where it is one of the paper's.

    Attributes:
      layers: L, one more than a multiple of 3: the first and the last layer are global, as the released trainer asks.
      width: D.
      hidden: F, behind the gate.
      heads: N.
      recipe: of the paper.
      vocab: V, padded.
      radius: how far a local layer sees to one side, itself not counted: half of the configurations' window of 128.
    """

    layers: int
    width: int
    hidden: int
    heads: int
    recipe: Recipe | None = None
    vocab: int = VOCAB
    radius: int = 64

    def problems(self) -> Iterator[Problem]:
        yield from at_least(self, 1, "layers", "width", "hidden", "heads", "vocab")
        yield from at_least(self, 0, "radius")
        if self.layers % 3 != 1:
            yield Problem("layers", self.layers, "must be 1, 4, 7, ...: the last layer is global, as the first is")

    def encoder(self, *, theta_global: float, theta_local: float, dropout: float = 0.1) -> Encoder:
        """The encoder. `dropout` is of what attention writes; `theta_*` are the bases of the rotary positions."""
        block = self._pattern(Bidirectional(), LocalWindow(self.radius), theta_global, theta_local, dropout)
        return Encoder(block=block, **self._shared())

    def decoder(self, *, theta_global: float, theta_local: float, dropout: float = 0.1) -> Decoder:
        """The decoder, with the parameters of the encoder."""
        block = self._pattern(Causal(), SlidingWindow(self.radius + 1), theta_global, theta_local, dropout)
        return Decoder(block=block, **self._shared())

    def _shared(self) -> dict[str, Any]:
        shape = {"vocab": self.vocab, "width": self.width, "depth": self.layers}
        parts = {"embedding": NormedEmbedding(norm=NORM), "norm": NORM, "head": PredictionHead(norm=NORM)}
        return {**shape, **parts, "init": FullMegatron()}

    def _pattern(self, whole: Mask, near: Mask, theta_global: float, theta_local: float, dropout: float) -> FirstThen:
        feed_forward = GatedMLP(hidden=self.hidden, activation="gelu")
        parts: dict[str, Any] = {
            "feed_forward": feed_forward,
            "norm": NORM,
            "dropout": DropoutBy((("mixer", dropout),)),
        }
        far = Attention(heads=self.heads, position=Rotary(base=theta_global), mask=whole)
        local = PreNorm(mixer=Attention(heads=self.heads, position=Rotary(base=theta_local), mask=near), **parts)
        return FirstThen((BareMixer(mixer=far, **parts),), (local, local, PreNorm(mixer=far, **parts)))


SIZES = {
    "17M": Size(7, 256, 384, 4, Recipe(3e-3, 3e-4, 4e9, 125e9)),
    "32M": Size(10, 384, 576, 6, Recipe(3e-3, 3e-4, 4e9, 100e9)),
    "68M": Size(19, 512, 768, 8, Recipe(3e-3, 3e-4, 3e9, 75e9)),
    "150M": Size(22, 768, 1152, 12, Recipe(8e-4, 1e-5, 3e9, 50e9)),
    "400M": Size(28, 1024, 2624, 16, Recipe(5e-4, 1e-5, 2e9, 10e9)),
    "1B": Size(28, 1792, 3840, 28, Recipe(5e-4, 5e-5, 2e9, 3e9, 83.3e9, 16.7e9)),
}
