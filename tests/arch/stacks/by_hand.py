"""Stacks by hand: a decoder's layers called one after another, whatever loops the stack makes of them."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from arch.answers import mean_over
from arch.blocks import PreNorm
from arch.bottlenecks.base import Bottleneck
from arch.context import Context, Gates
from arch.layers.attention.masks import SlidingWindow
from arch.layers.attention.softmax import Attention
from arch.layers.feed_forward import GatedMLP
from arch.layers.init.initializers import Normal
from arch.models.decoder import Decoder
from arch.params import ParamFactory
from arch.stacks import Sequential
from arch.stacks.patterns import sections
from arch.taps import Tap
from tests.arch import tiny

B, T, D = 2, 6, 16
FULL, LOCAL = Attention(heads=2), Attention(heads=2, mask=SlidingWindow(2))


def pre(hidden=8, mixer=FULL, kind=PreNorm, **fields):
    return kind(mixer=mixer, feed_forward=None if hidden is None else GatedMLP(hidden=hidden), **fields)


WIDE, NARROW = pre(24), pre(8)


def model(block, depth=4, stack=Sequential(), **fields):
    return Decoder(vocab=tiny.V, width=D, depth=depth, block=block, stack=stack, **fields)


def form(spec, **changes):
    return dataclasses.replace(spec, stack=dataclasses.replace(spec.stack, **changes))


def found_in(spec):
    """(the sections of the stack of `spec`, whether they are one block) of a spec whose stack keeps all layers."""
    indices = range(spec.depth) if spec.stack.kept is None else spec.stack.kept.indices
    total = spec.depth if spec.stack.kept is None else spec.stack.kept.of
    blocks = [spec.block.layers(total)[index] for index in indices]
    return sections(blocks, [after for after, _ in spec.stack.between])


def each_layer(spec, params):
    """The block and the parameters of every layer."""
    layers = {}
    for i, section in enumerate(found_in(spec)):
        for j, block in enumerate(section.period):
            for turn, layer in enumerate(section.layers(j)):
                stacked = params["stack"]["sections"][str(i)][str(j)]
                layers[layer] = block, jax.tree.map(lambda leaf, turn=turn: leaf[turn], stacked)
    return [layers[layer] for layer in range(spec.depth)]


def together(spec, params, layers):
    """The parameters of `spec` with these of its layers."""
    stacked = {
        str(i): {
            str(j): jax.tree.map(lambda *leaves: jnp.stack(leaves), *[layers[n] for n in section.layers(j)])
            for j in range(len(section.period))
        }
        for i, section in enumerate(found_in(spec))
    }
    return {**params, "stack": {**params["stack"], "sections": stacked}}


@dataclasses.dataclass(frozen=True)
class Squeeze(Bottleneck):
    """tanh(x * gain), with the mean square of what comes in as a loss, and as a metric."""

    def build(self, width, make):
        return SqueezeLayer(width, make)


class SqueezeLayer(nnx.Module):
    def __init__(self, width, make):
        self.gain = make.constant([(width, "embed")], 1.0)

    def __call__(self, x, ctx):
        size = mean_over(jnp.square(x))
        ctx.answer(self, losses={"size": size}, metrics={"seen": size})
        return jnp.tanh(x * self.gain[...][None, None])


def by_hand(spec, params, tokens, gates=Gates(), save=""):
    """Logits, and what taps saved of each layer: the layers called one after another, the rest written out."""
    x, saved = params["embedding"]["table"][tokens], []
    positions = np.arange(tokens.shape[1], dtype=np.int32)[None]
    between = dict(spec.stack.between)
    for layer, (block, own) in enumerate(each_layer(spec, params)):
        x = bottleneck(between, layer, x, params)
        make = ParamFactory(jax.random.key(0), Normal(), spec.depth, layer)
        graphdef = nnx.split(nnx.eval_shape(lambda block=block, make=make: block.build(D, make)))[0]
        mine = Gates({name: jnp.asarray(gate)[layer] for name, gate in gates.items()})
        tap = Tap(save=save).recorder()
        ctx = Context(positions, None, positions, None, layer=layer, gates=mine, tap=tap)
        x = nnx.merge(graphdef, own)(x, ctx).x
        saved.append(tap.collect())
    x = bottleneck(between, spec.depth, x, params)
    norm = jnp.sqrt(jnp.mean(jnp.square(x), axis=-1, keepdims=True) + 1e-6)
    return (x / norm * params["norm"]["gain"][None, None]) @ params["head"]["kernel"], saved


def bottleneck(between, after, x, params):
    if after not in between:
        return x
    return jnp.tanh(x * params["stack"]["between"][str(after)]["gain"][None, None])
