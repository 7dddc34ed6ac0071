"""Tiny models for every twin: name -> spec. Two layers, width 32."""

import dataclasses
import functools
import zlib

import jax
import numpy as np

from arch.blocks import Block, Parallel
from arch.blocks.bare_mixer import BareMixer
from arch.blocks.deep_norm import DeepNorm
from arch.blocks.depth_scaled import ScaledInput, ScaledNorm
from arch.blocks.post_norm import PostNorm
from arch.blocks.pre_norm import PreNorm
from arch.blocks.reordered_norm import ReorderedNorm
from arch.bottlenecks.codebook import Codebook
from arch.bottlenecks.finite_scalar import FiniteScalar
from arch.bottlenecks.gated import Gated
from arch.bottlenecks.gumbel import GumbelSoftmax
from arch.bottlenecks.lookup_free import LookupFree
from arch.bottlenecks.residual import Residual
from arch.bottlenecks.several import Grouped, PerHead
from arch.bottlenecks.sim_vq import SimVQ
from arch.bottlenecks.top_k import BatchTopK, TopK
from arch.bottlenecks.vector_quantized import LearnedCodes, VectorQuantized
from arch.cost import abstract
from arch.hf.generated.tier import Generated
from arch.hf.tiers import joined as joined_trees
from arch.layers.attention import masks
from arch.layers.attention.cross import CrossAttention
from arch.layers.attention.feature_maps import PositiveOrthogonal
from arch.layers.attention.linear import LinearAttention
from arch.layers.attention.linformer import Linformer
from arch.layers.attention.sinkhorn import Sinkhorn
from arch.layers.attention.softmax import Attention
from arch.layers.attention.sparse_masks import BigBird, Both, Longformer, Strided
from arch.layers.attention.synthesizer import DenseSynthesizer, RandomSynthesizer
from arch.layers.embedding_norm import NormedEmbedding
from arch.layers.embeddings import Embedding, Tied, Untied
from arch.layers.feed_forward import MLP, GatedMLP
from arch.layers.heads.class_heads import LinearHead, MLPHead
from arch.layers.heads.clipped import ClippedHead
from arch.layers.heads.pooling import FirstPooling, LastPooling, MeanPooling
from arch.layers.heads.prediction import PredictionHead
from arch.layers.heads.scaled import ScaledTied
from arch.layers.linear import Dense
from arch.layers.normed_positions import NormedLearned
from arch.layers.norms.across_heads import AcrossHeads
from arch.layers.norms.common import LayerNorm, NoNorm, RMSNorm
from arch.layers.norms.depth_scale import DepthScaled, DepthScaledInput
from arch.layers.norms.group import GroupNorm
from arch.layers.positions import Learned, NoPosition, Sinusoidal, T5Relative
from arch.layers.recurrent.clip import ConstantClip
from arch.layers.recurrent.lstm import LSTM, BidirectionalLSTM
from arch.layers.recurrent.lstm_cell import LSTMCell
from arch.models.classifier import Classifier
from arch.models.decoder import Decoder
from arch.models.embedder import Embedder
from arch.models.encoder import Encoder
from arch.models.encoder_decoder import EncoderDecoder
from arch.models.encoder_decoder import reading as joined
from arch.models.tagger import Tagger
from arch.models.trunk import Trunk
from arch.params import split
from arch.stacks import Cycle, FirstThen
from arch.stacks.parallel import Grouped as Groups
from arch.stacks.parallel import ParallelStack
from arch.stacks.sequential import Sequential
from tests.arch import tiny
from tests.arch.hf.translators import TRANSLATORS
from tests.arch.tiny import D, N, V


@functools.cache
def drawn(spec):
    """(graph, parameters, buffers) as `tiny.draw`, for models that have buffers too: what counts is 1, codes differ."""
    graphdef, params, buffers = split(abstract(spec))

    def fill(path, leaf):
        name = jax.tree_util.keystr(path)
        noise = np.random.default_rng(zlib.crc32(name.encode())).standard_normal(leaf.shape).astype(np.float32)
        return noise if "codes" in name or "fixed" in name else np.ones(leaf.shape, leaf.dtype)

    def small(path, leaf):
        name = jax.tree_util.keystr(path)
        noise = np.random.default_rng(zlib.crc32(name.encode())).standard_normal(leaf.shape).astype(np.float32)
        start = {"gain": 1.0, "omega": 1.0}.get(next((one for one in ("gain", "omega") if one in name), ""), 0.0)
        return np.float32(start) + np.float32(1.0 if "table" in name or "codes" in name else 0.3) * noise

    if not buffers:
        return (*tiny.draw(spec), {})
    fills = ((small, params), (fill, buffers))
    return (graphdef, *(jax.tree_util.tree_map_with_path(rule, tree) for rule, tree in fills))


def planned(spec, facts):
    """The plan of generated code."""
    _, params, buffers = drawn(spec)
    return Generated().plan(spec, joined_trees(params, buffers) if buffers else params, facts)


BIAS = Dense(bias=True)


def block(kind: type[Block] = PreNorm, feed_forward=GatedMLP(hidden=24), norm=RMSNorm(), at=(), **mixer) -> Block:
    return kind(mixer=Attention(**{"heads": N, **mixer}), feed_forward=feed_forward, norm=norm, at=at)


def decoder(one=None, **fields):
    return Decoder(**{"vocab": V, "width": D, "depth": 2, "block": one or block(), **fields})


def encoder(one=None, **fields):
    one = one or block(mask=masks.Bidirectional())
    return Encoder(**{"vocab": V, "width": D, "depth": 2, "block": one, **fields})


def classifier(kind=Classifier, causal=False, **fields):
    one = block(mask=masks.Causal() if causal else masks.Bidirectional(), norm=LayerNorm())
    return kind(**{"vocab": V, "width": D, "depth": 2, "block": one, "position": NoPosition(), "classes": 3, **fields})


DECODERS = {
    **{f"block {name}": tiny.decoder(block=name) for name in tiny.BLOCKS},
    **{f"position {name}": tiny.decoder(position=name) for name in tiny.POSITIONS},
    "block scaled_input of one": decoder(ScaledInput(mixer=Attention(heads=N), which="attention")),
    "block scaled_norm index": decoder(ScaledNorm(mixer=Attention(heads=N), index=3, exponent=1.0)),
    "block deep_norm as released": decoder(DeepNorm(mixer=Attention(heads=N), compat="lns_code")),
    "block bare": decoder(FirstThen((block(BareMixer),), (block(),)), depth=3),
    "block without feed-forward": decoder(block(feed_forward=None)),
    "norm layer": decoder(block(norm=LayerNorm()), norm=LayerNorm(bias=False)),
    "norm group": decoder(block(norm=GroupNorm(groups=4)), norm=None),
    "norm none": decoder(block(norm=NoNorm())),
    "norm depth-scaled": decoder(block(norm=DepthScaled(norm=LayerNorm()))),
    "norm depth-scaled input": decoder(block(norm=DepthScaledInput(norm=RMSNorm(1e-2)))),
    "qk-norm": decoder(block(qk_norm=RMSNorm(), head_dim=12, kv_heads=1)),
    "qk-norm across heads": decoder(block(ReorderedNorm, qk_norm=AcrossHeads(), head_dim=12, kv_heads=2, linear=BIAS)),
    "qk-norm of each depth": decoder(block(qk_norm=DepthScaled())),
    "heads free, biases": decoder(
        block(heads=3, head_dim=10, kv_heads=1, linear=BIAS, feed_forward=MLP(40, "relu", BIAS))
    ),
    "softcap and scale": decoder(block(softcap=2.0, scale=0.5)),
    "activations": decoder(Cycle((block(feed_forward=MLP(24, "gelu_tanh")), block(feed_forward=GatedMLP(24, "gelu"))))),
    "window": decoder(block(mask=masks.SlidingWindow(4))),
    "windows by layer": decoder(
        Cycle((block(mask=masks.SlidingWindow(3)), block(), block(mask=masks.SlidingWindow(5)))), depth=4
    ),
    "window with bias": decoder(block(mask=masks.SlidingWindow(4), position=T5Relative(buckets=8, max_distance=7))),
    "causal and strided": decoder(block(mask=Both(masks.Causal(), Strided(3)))),
    "head tied": decoder(head=Tied()),
    "head tied softcap": decoder(head=Tied(softcap=3.0)),
    "head scaled": decoder(head=ScaledTied()),
    "head clipped": decoder(head=ClippedHead(head=Untied(), gamma=1.0)),
    "head clipped scaled": decoder(head=ClippedHead(head=ScaledTied(), gamma=5.0)),
    "head clipped tied": decoder(head=ClippedHead(head=Tied(softcap=9.0), gamma=4.0)),
    "embedding scaled": decoder(embedding=Embedding(scale=5.0), head=Tied()),
    "embedding normed": decoder(embedding=NormedEmbedding(scale=2.0, norm=LayerNorm())),
    "stack of all blocks": decoder(tiny.decoder(block="mix").block, depth=4, stack=Sequential(loop="unroll")),
    "stack kept": tiny.decoder(block="scaled_norm", kept=((0, 3), 4)),
    "stack parallel": decoder(depth=3, stack=ParallelStack()),
    "stack groups": decoder(block(ScaledNorm), depth=4, stack=Groups(groups=2, combine="root")),
    "stack groups with a norm": decoder(block(norm=NoNorm()), depth=4, stack=Groups(groups=2, norm=DepthScaled())),
    "learned positions normed": decoder(position=NormedLearned(length=80)),
}  # fmt: skip

ENCODERS = {
    "encoder": encoder(),
    "encoder bert": encoder(
        head=PredictionHead(linear=BIAS), position=NormedLearned(length=24, norm=LayerNorm()), norm=None
    ),
    "encoder local": encoder(Cycle((block(mask=masks.LocalWindow(2)), block(mask=masks.Bidirectional()))), head=Tied()),
    "encoder longformer": encoder(block(mask=Longformer(2, 1))),
    "encoder bigbird": encoder(block(mask=BigBird(block=2, random=1, length=16))),
    "encoder strided": encoder(block(mask=Strided(3))),
    "encoder alibi": tiny.decoder(position="alibi", mask=masks.Bidirectional()),
    "encoder t5 both sides": encoder(block(mask=masks.Bidirectional(), position=T5Relative(8, 7, bidirectional=True))),
    "encoder post": tiny.decoder(block="post", mask=masks.Bidirectional()),
    "encoder parallel": dataclasses.replace(tiny.decoder(block="parallel", mask=masks.Bidirectional()), head=Tied()),
}

CLASSIFIERS = {
    "classifier": classifier(pooling=MeanPooling(), head=MLPHead()),
    "classifier first": classifier(pooling=FirstPooling(), head=LinearHead()),
    "classifier last, causal": classifier(causal=True, pooling=LastPooling()),
    "tagger": classifier(Tagger),
}


def embedder(causal=False, **fields):
    one = block(mask=masks.Causal() if causal else masks.Bidirectional(), norm=LayerNorm())
    return Embedder(**{"vocab": V, "width": D, "depth": 2, "block": one, "position": NoPosition(), **fields})


EMBEDDERS = {
    "embedder": embedder(),
    "embedder of an open encoder": embedder(position=Learned(length=24), norm=None, pooling=FirstPooling()),
    "embedder last, causal": embedder(causal=True, pooling=LastPooling()),
}


def mixing(mixer, **fields):
    return decoder(PreNorm(mixer=mixer, feed_forward=MLP(24)), position=Learned(length=80), **fields)


def reading(mixer, **fields):
    """An encoder: the mixer sees both sides."""
    one = PreNorm(mixer=mixer, feed_forward=MLP(24), norm=LayerNorm())
    return encoder(one, position=Sinusoidal(), **fields)


RECURRENT = {
    "mixer linear": mixing(LinearAttention(heads=N, mask=masks.Causal())),
    "mixer performer": mixing(LinearAttention(heads=N, mask=masks.Causal(), features=PositiveOrthogonal(count=16))),
    "mixer lstm": mixing(LSTM(hidden=20)),
    "mixer lstm clipped": mixing(LSTM(cell=LSTMCell(clip=ConstantClip(0.5), linear=BIAS), linear=BIAS)),
}

MIXERS = {
    "encoder linear": reading(LinearAttention(heads=N, head_dim=12)),
    "encoder performer": reading(LinearAttention(heads=N, features=PositiveOrthogonal(count=16, seed=3))),
    "encoder linformer": reading(Linformer(heads=N, length=16, rank=5, linear=BIAS)),
    "encoder dense synthesizer": reading(DenseSynthesizer(heads=N, length=16)),
    "encoder random synthesizer": reading(RandomSynthesizer(heads=N, length=16)),
    "encoder sinkhorn": reading(Sinkhorn(heads=N, length=16, block=4)),
    "encoder lstm": reading(BidirectionalLSTM(hidden=12)),
}


def pair(source=None, target=None, cross=CrossAttention(heads=N, kv_heads=2), **fields):
    source = source or block(mask=masks.Bidirectional())
    target = joined(target or block(), cross)
    both = {"vocab": V, "width": D}
    return EncoderDecoder(
        encoder=Trunk(**{**both, "depth": 3, "block": source, **fields.pop("encoder", {})}),
        decoder=Trunk(**{**both, "depth": 2, "block": target, **fields.pop("decoder", {})}),
        **fields,
    )


PAIRS = {
    "pair": pair(),
    "pair post-norm": pair(block(PostNorm, mask=masks.Bidirectional()), block(PostNorm), head=Untied()),
    "pair one table": pair(encoder={"embedding": None}, head=ScaledTied()),
    "pair one table, head of its own": pair(encoder={"embedding": None}, head=Untied()),
    "pair of widths": pair(
        encoder={"width": 24, "vocab": 13},
        cross=CrossAttention(heads=3, head_dim=8, memory_width=24, qk_norm=RMSNorm(), linear=BIAS),
    ),
    "pair t5": pair(block(mask=masks.Bidirectional(), position=NoPosition()), block(position=NoPosition()),
                    encoder={"position": T5Relative(8, 7, bidirectional=True, heads=N)},
                    decoder={"position": T5Relative(8, 7, heads=N)}),
    "pair with windows": pair(block(mask=masks.LocalWindow(2)), block(mask=masks.SlidingWindow(4))),
}  # fmt: skip

PAIRS |= TRANSLATORS

BOTTLENECKS = {
    "codebook between layers": decoder(stack=Sequential(between=((1, Codebook(codes=11, k=2, prenorm="affine")),))),
    "codebooks at attn.z": decoder(block(at=(("attn.z", PerHead(Codebook(codes=9))),))),
    "codebook on heads": decoder(block(at=(("attn.z", Codebook(codes=30, metric="l2", prenorm="layer")),), kv_heads=2)),
    "codebooks at mlp_out": decoder(block(at=(("mlp_out", Grouped(Codebook(codes=9, k=2, compat="code"), 4)),))),
    "learned codes at resid_mid": decoder(
        block(at=(("resid_mid", LearnedCodes(codes=40)), ("resid_post", Codebook(9))))
    ),
    "running codes": decoder(block(at=(("mlp_out", Grouped(VectorQuantized(codes=9, revive=0.1), 4)),))),
    "fixed codes, mapped": decoder(block(at=(("mlp_out", Grouped(SimVQ(codes=9), 4)),))),
    "finite scalars": decoder(
        block(at=(("attn_out", FiniteScalar(levels=(5, 4, 8))), ("mlp_out", Grouped(FiniteScalar(levels=(5, 4)), 16))))
    ),
    "finite scalars as released": decoder(block(at=(("attn_out", FiniteScalar((2, 2, 2, 2), compat="artanh")),))),
    "codebooks at parts of heads": decoder(block(at=(("attn.z", PerHead(Grouped(Codebook(codes=9), 2))),))),
    "signs": decoder(block(at=(("attn_out", LookupFree(binary=6)), ("mlp_out", Grouped(LookupFree(binary=4), 8))))),
    "gumbel codes": decoder(block(at=(("mlp_out", Grouped(GumbelSoftmax(codes=9, temperature=0.5), 2)),))),
    "sparse": decoder(block(at=(("mlp_out", TopK(codes=48, k=5)),))),
    "sparse, few bits": decoder(block(at=(("mlp_out", TopK(codes=48, k=5, precision=16)),))),
    "sparse by batch": decoder(
        block(at=(("mlp_out", BatchTopK(codes=48, k=5)), ("attn.z", PerHead(BatchTopK(codes=16, k=3, most=8)))))
    ),
    "sparse, gated": decoder(stack=Sequential(between=((1, Gated(codes=48, k=20)),))),
    "residual codes": decoder(block(PostNorm, at=(("attn_out", Residual(LearnedCodes(codes=9), 3)),))),
    "codebook, parallel": decoder(block(Parallel, at=(("attn_out", Codebook(9)), ("resid_pre", Codebook(30))))),
}

DECODERS |= RECURRENT | BOTTLENECKS
ENCODERS |= MIXERS

CASES = {**DECODERS, **ENCODERS, **CLASSIFIERS, **EMBEDDERS, **PAIRS}
