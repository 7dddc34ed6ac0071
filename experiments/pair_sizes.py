"""Published encoder-decoders by name: T5 (arXiv 1910.10683), T5 v1.1 (its repository), the 330M model of "Return of the
Encoder" (Mu, arXiv 2501.16273), and the smaller pair of T5Gemma (arXiv 2504.06225) with Gemma 2's halves.

T5: pre-norm with RMSNorm, no biases, a relative position bias that all layers of a side share (both ways in the
encoder, of the past in the decoder, none in cross-attention), scores that are not scaled, one table of 32,128 tokens
for both halves. v1.0 has ReLU feed-forwards and a tied head that reads h D^-1/2; v1.1 gated GELU and an untied head.
Dropout is of what each sublayer writes; T5's own is on embeddings, attention weights, inside the feed-forward and
behind the last norm as well.

Mu: 20 layers read and 10 write. Attention is narrower than the model (6 heads of 64 at D = 1024, 3 of keys and values);
all its linear maps and those of the feed-forward have biases. Two of its habits are left out because they change
nothing but the order of things: it counts positions of the source from the middle, which rotary positions do not see,
and query head n reads key-value head n mod 3, here n // 2; weights of one open in the other with the heads permuted.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from arch.blocks import PreNorm, SandwichNorm
from arch.layers.attention.cross import CrossAttention
from arch.layers.attention.masks import Bidirectional, Causal, LocalWindow, Mask, SlidingWindow
from arch.layers.attention.softmax import Attention
from arch.layers.embeddings import Embedding, Head, Tied, Untied
from arch.layers.feed_forward import MLP, GatedMLP
from arch.layers.heads.scaled import ScaledTied
from arch.layers.init.initializers import Initializer, Normal
from arch.layers.init.t5 import SmallQueries, T5Init
from arch.layers.linear import Dense
from arch.layers.norms.common import RMSNorm
from arch.layers.positions import NoPosition, Position, Rotary, T5Relative
from arch.layers.sublayer import FeedForward
from arch.models.encoder_decoder import EncoderDecoder, reading
from arch.models.trunk import Trunk
from arch.stacks import Cycle

VOCAB = 32_128
NORM = RMSNorm(eps=1e-6)


@dataclasses.dataclass(frozen=True)
class Parts:
    """What the two halves of a pair have in common: the fields of their attentions, their feed-forward, and how a model
    is put together of them."""

    attention: dict[str, Any]
    feed_forward: FeedForward
    own: Position
    source: Position
    target: Position
    head: Head
    init: Initializer
    dropout: float

    def pair(self, vocab: int, width: int, source_layers: int, target_layers: int) -> EncoderDecoder:
        """The pair of these layers; its encoder looks tokens up in the decoder's table."""
        block: dict[str, Any] = {"feed_forward": self.feed_forward, "norm": NORM, "dropout": self.dropout}
        mixer: dict[str, Any] = {"position": self.own, **self.attention}
        shape: dict[str, Any] = {"vocab": vocab, "width": width, "norm": NORM, "init": self.init}
        reads = PreNorm(mixer=Attention(mask=Bidirectional(), **mixer), **block)
        writes = reading(PreNorm(mixer=Attention(mask=Causal(), **mixer), **block), CrossAttention(**self.attention))
        encoder = Trunk(block=reads, depth=source_layers, embedding=None, position=self.source, **shape)
        decoder = Trunk(block=writes, depth=target_layers, position=self.target, **shape)
        return EncoderDecoder(encoder=encoder, decoder=decoder, head=self.head)


@dataclasses.dataclass(frozen=True)
class T5Size:
    """A shape of T5: as many layers on either side, heads of `head_dim`, `gated` as v1.1 is."""

    layers: int
    width: int
    hidden: int
    heads: int
    gated: bool = False
    head_dim: int = 64
    vocab: int = VOCAB

    def model(self, dropout: float = 0.1) -> EncoderDecoder:
        """The pair of this shape. v1.1 was pre-trained without dropout."""
        attention = {"heads": self.heads, "head_dim": self.head_dim, "scale": 1.0, "linear": SmallQueries()}
        gated = GatedMLP(hidden=self.hidden, activation="gelu_tanh")
        parts = Parts(
            attention=attention,
            feed_forward=gated if self.gated else MLP(hidden=self.hidden, activation="relu"),
            own=NoPosition(),
            source=T5Relative(bidirectional=True),
            target=T5Relative(),
            head=Untied() if self.gated else ScaledTied(),
            init=T5Init(),
            dropout=dropout,
        )
        return parts.pair(self.vocab, self.width, self.layers, self.layers)


@dataclasses.dataclass(frozen=True)
class MuSize:
    """A shape of Mu: layers that read and that write, heads of queries and of keys and values."""

    source_layers: int
    target_layers: int
    width: int
    hidden: int
    heads: int
    kv_heads: int
    head_dim: int = 64
    vocab: int = VOCAB

    def model(self, dropout: float = 0.1) -> EncoderDecoder:
        """The pair of this shape."""
        linear = Dense(bias=True)
        heads = {"heads": self.heads, "kv_heads": self.kv_heads, "head_dim": self.head_dim}
        parts = Parts(
            attention={**heads, "linear": linear},
            feed_forward=MLP(hidden=self.hidden, activation="gelu_tanh", linear=linear),
            own=Rotary(),
            source=NoPosition(),
            target=NoPosition(),
            head=Tied(),
            init=Normal(0.02),
            dropout=dropout,
        )
        return parts.pair(self.vocab, self.width, self.source_layers, self.target_layers)


@dataclasses.dataclass(frozen=True)
class T5GemmaSize:
    """A shape of T5Gemma: two stacks of Gemma 2's blocks (a norm before and behind each sublayer, local and global
    layers in turn, soft-capped scores and logits), cross-attention in the decoder, a table for each half."""

    layers: int
    width: int
    hidden: int
    heads: int
    kv_heads: int
    head_dim: int = 256
    window: int = 4096
    vocab: int = 256_000

    def model(self) -> EncoderDecoder:
        """The pair of this shape. A local layer of the encoder sees `window` tokens on either side, one of the decoder
        itself and `window - 1` before it, as in Transformers."""
        heads: dict[str, Any] = {"heads": self.heads, "kv_heads": self.kv_heads, "head_dim": self.head_dim}
        attention: dict[str, Any] = {**heads, "softcap": 50.0}
        feed_forward = GatedMLP(hidden=self.hidden, activation="gelu_tanh")

        def block(mask: Mask) -> SandwichNorm:
            return SandwichNorm(mixer=Attention(mask=mask, **attention), feed_forward=feed_forward, norm=NORM)

        def both(*masks: Mask) -> Cycle:
            return Cycle(tuple(block(mask) for mask in masks))

        writes = both(SlidingWindow(self.window), Causal())
        shape: dict[str, Any] = {"vocab": self.vocab, "width": self.width, "depth": self.layers, "norm": NORM}
        shape |= {"embedding": Embedding(scale=self.width**0.5), "init": Normal(0.02)}
        return EncoderDecoder(
            encoder=Trunk(block=both(LocalWindow(self.window), Bidirectional()), **shape),
            decoder=Trunk(block=writes.with_blocks(lambda one: reading(one, CrossAttention(**attention))), **shape),
            head=Tied(softcap=30.0),
        )


SIZES: dict[str, T5Size | MuSize | T5GemmaSize] = {
    "t5-small": T5Size(6, 512, 2048, 8),
    "t5-base": T5Size(12, 768, 3072, 12),
    "t5-large": T5Size(24, 1024, 4096, 16),
    "t5-v1_1-small": T5Size(8, 512, 1024, 6, gated=True),
    "t5-v1_1-base": T5Size(12, 768, 2048, 12, gated=True),
    "t5-v1_1-large": T5Size(24, 1024, 2816, 16, gated=True),
    "t5-v1_1-xl": T5Size(24, 2048, 5120, 32, gated=True),
    "t5gemma-2b-2b": T5GemmaSize(26, 2304, 9216, 8, 4),
    "mu-330M": MuSize(20, 10, 1024, 4096, 6, 3),
}
