"""A tiny model for each family, and what it is written as."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from arch.blocks import Parallel, PostNorm, PreNorm, ReorderedNorm
from arch.hf.family import Facts
from arch.hf.folder import write
from arch.hf.tiers import plan
from arch.layers.attention import masks
from arch.layers.attention.softmax import Attention
from arch.layers.embeddings import Tied, Untied
from arch.layers.feed_forward import MLP, GatedMLP
from arch.layers.heads.prediction import PredictionHead
from arch.layers.linear import Dense
from arch.layers.normed_positions import NormedLearned
from arch.layers.norms.across_heads import AcrossHeads
from arch.layers.norms.common import LayerNorm, RMSNorm
from arch.layers.positions import Learned, NoPosition, Rotary
from arch.models.base import Inputs
from arch.models.decoder import Decoder
from arch.models.encoder import Encoder
from arch.params import merge
from arch.stacks import Cycle
from experiments.ettin_sizes import Size
from experiments.pair_sizes import T5GemmaSize, T5Size
from tests.arch import tiny

V, D, F, N, L, T = 23, 32, 40, 4, 2, 11
FACTS = Facts(context=32, bos=0, eos=1)
BIAS = Dense(bias=True)
SIZE = Size(layers=4, width=D, hidden=F, heads=N, vocab=V, radius=3)


def decoder(block, **fields):
    return Decoder(vocab=V, width=D, depth=L, block=block, **fields)


def llama(kv_heads=2, head=Untied(), attention=Dense(), feed_forward=Dense(), **mixer):
    mixer = Attention(**{"heads": N, "kv_heads": kv_heads, "linear": attention, **mixer})
    block = PreNorm(mixer=mixer, feed_forward=GatedMLP(hidden=F, linear=feed_forward), norm=RMSNorm(1e-5))
    return decoder(block, head=head, norm=RMSNorm(1e-5))


def gpt2(head=Tied(), bias=True):
    linear = Dense(bias=bias)
    mixer = Attention(heads=N, position=NoPosition(), linear=linear)
    block = PreNorm(mixer=mixer, feed_forward=MLP(F, "gelu_tanh", linear), norm=LayerNorm(bias=bias))
    return decoder(block, position=Learned(length=32), norm=LayerNorm(bias=bias), head=head)


def neox(kind=PreNorm, head=Untied(), bias=True):
    mixer = Attention(heads=N, position=Rotary(fraction=0.5), linear=Dense(bias=bias))
    return decoder(kind(mixer=mixer, feed_forward=MLP(F, "gelu", BIAS), norm=LayerNorm()), norm=LayerNorm(), head=head)


def bert(eps=1e-5, kind=PostNorm, block_eps=None, **fields):
    one = LayerNorm(eps=eps)
    mixer = Attention(heads=N, position=NoPosition(), mask=masks.Bidirectional(), linear=BIAS)
    return Encoder(
        vocab=V,
        width=D,
        depth=L,
        block=kind(mixer=mixer, feed_forward=MLP(F, "gelu", BIAS), norm=LayerNorm(eps=block_eps or eps), **fields),
        position=NormedLearned(length=32, norm=one),
        norm=None,
        head=PredictionHead(norm=one, linear=BIAS),
    )


def qwen3_by_layer():
    block = lambda mask: PreNorm(  # noqa: E731
        mixer=Attention(heads=N, kv_heads=1, head_dim=16, qk_norm=RMSNorm(1e-5), mask=mask),
        feed_forward=GatedMLP(hidden=F),
        norm=RMSNorm(1e-5),
    )
    return decoder(Cycle((block(masks.Causal()), block(masks.SlidingWindow(4)))), norm=RMSNorm(1e-5))


def olmo2(kv_heads=2, head=Untied(), linear=Dense()):
    mixer = Attention(heads=N, kv_heads=kv_heads, qk_norm=AcrossHeads(RMSNorm(1e-5)), linear=linear)
    return decoder(
        ReorderedNorm(mixer=mixer, feed_forward=GatedMLP(hidden=F), norm=RMSNorm(1e-5)), head=head, norm=RMSNorm(1e-5)
    )


CASES = {
    "llama": llama,
    "llama mha tied": lambda: llama(kv_heads=None, head=Tied()),
    "llama mqa biases": lambda: llama(kv_heads=1, attention=BIAS, feed_forward=BIAS),
    "llama bias of attention, other base": lambda: llama(attention=BIAS, position=Rotary(base=500.0)),
    "mistral": lambda: llama(mask=masks.SlidingWindow(4)),
    "mistral with free heads": lambda: llama(heads=3, kv_heads=1, head_dim=12, head=Tied()),
    "qwen3": lambda: llama(qk_norm=RMSNorm(1e-5), attention=BIAS, head_dim=16),
    "qwen3 by layer": qwen3_by_layer,
    "olmo2": olmo2,
    "olmo2 mha tied biases": lambda: olmo2(kv_heads=None, head=Tied(), linear=BIAS),
    "gpt2": gpt2,
    "gpt2 untied": lambda: gpt2(Untied()),
    "gpt2 without biases": lambda: gpt2(bias=False),
    "gpt_neox": neox,
    "gpt_neox parallel": lambda: neox(Parallel),
    "gpt_neox tied, no bias of attention": lambda: neox(head=Tied(), bias=False),
    "bert": bert,
    "modernbert": lambda: SIZE.encoder(theta_global=160_000.0, theta_local=100.0),
    "modernbert-decoder": lambda: SIZE.decoder(theta_global=160_000.0, theta_local=100.0),
    "t5": lambda: T5Size(L, D, F, N, head_dim=8, vocab=V).model(),
    "t5 gated untied": lambda: T5Size(L, D, F, N, gated=True, head_dim=8, vocab=V).model(),
    "t5gemma": lambda: T5GemmaSize(L, D, F, N, 2, head_dim=8, window=3, vocab=V).model(),
}
KINDS = {name: name.split()[0] for name in CASES}


@functools.cache
def drawn(name):
    """(spec, parameters) of a case: no gain is 1, no bias 0."""
    return random(CASES[name]())


def random(spec):
    _, params = tiny.draw(spec)
    return spec, jax.tree.map(np.asarray, params)


def export(spec, params, to, **options):
    """The plan that was written into the folder `to`."""
    found = plan(spec, params, FACTS)
    write(found, to, **options)
    return found


def tokens(rows=2, length=T, seed=0):
    return np.random.default_rng(seed).integers(2, V, (rows, length), dtype=np.int32)


def logits(spec, params, tokens, source=None, segments=None):
    """Ours, float32."""
    graphdef, _ = tiny.draw(spec)

    def run(params):
        read = None if source is None else Inputs(tokens=jnp.asarray(source))
        return merge(graphdef, params, {})(Inputs(tokens=jnp.asarray(tokens), segments=segments, source=read)).logits

    return np.asarray(jax.jit(run)(params))


def leaves(params):
    found, _ = jax.tree_util.tree_flatten_with_path(params)
    return {jax.tree_util.keystr(path): np.asarray(leaf) for path, leaf in found}
