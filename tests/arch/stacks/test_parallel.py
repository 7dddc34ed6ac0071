"""Parallel-shallow stacks of transformer blocks: the layouts, what they share and where they agree."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from arch.blocks import PreNorm
from arch.blocks.mix_norm import MixNorm
from arch.context import Gates
from arch.layers.attention.softmax import Attention
from arch.layers.init.initializers import Normal, ZeroOutput
from arch.layers.norms.common import NoNorm, RMSNorm, RMSNormLayer
from arch.models.decoder import Decoder
from arch.spec import SpecError
from arch.stacks import Sequential
from arch.stacks.parallel import Grouped, ParallelStack
from arch.taps import Tap
from tests.arch import tiny

B, T = 2, 6


def spec(stack, depth=4, **fields):
    return dataclasses.replace(tiny.decoder(depth=depth, **fields), stack=stack)


def gradients(spec, params=None):
    """The gradient of a random function of the logits, and the logits."""
    forward, own = tiny.forward(spec)
    weights = np.random.default_rng(0).standard_normal((B, T, tiny.V)).astype(np.float32)

    def loss(params):
        out = forward(params, tiny.tokens(B, T))
        return jnp.sum(out.logits * weights), out.logits

    return tiny.jit(jax.grad(loss, has_aux=True))(own if params is None else params)


@pytest.mark.parametrize("stack", [Grouped(groups=4), Grouped(groups=4, loop="unroll", combine="root")])
def test_as_many_groups_as_blocks_are_the_sequential_stack(stack):
    """To the bit, gradients too: the blocks themselves run."""
    tiny.close(gradients(spec(stack)), gradients(spec(Sequential(loop=stack.loop))), 0, 0)


@pytest.mark.parametrize("block", tiny.BLOCKS)
def test_a_single_block_is_the_same_in_parallel(block):
    sequential = gradients(spec(Sequential(), depth=1, block=block))
    tiny.close(gradients(spec(ParallelStack(), depth=1, block=block)), sequential, 0, 0)


def test_one_group_is_parallel_and_parallel_is_not_sequential():
    parallel = gradients(spec(ParallelStack()))
    tiny.close(gradients(spec(Grouped(groups=1))), parallel, 0, 0)
    assert np.abs(gradients(spec(Sequential()))[1] - parallel[1]).max() > 0.1


@pytest.mark.parametrize("block", ["pre", "post", "sandwich", "parallel"])
def test_a_group_adds_up_what_its_blocks_write(block):
    """Against each block run by itself from the group's input: one identity, whatever the block."""
    forward, params = tiny.forward(spec(Grouped(groups=2), block=block))
    one, _ = tiny.forward(spec(Sequential(), depth=1, block=block))
    tokens, save = tiny.tokens(B, T), Tap(save="resid_p.*|embed|final_norm")
    taps = tiny.jit(lambda p: forward(p, tokens, tap=save).taps)(params)

    @tiny.jit
    def alone(blocks, x):
        """A block on x, by a model of that block alone with x in place of its embedding."""
        tap = Tap(save="resid_post", edit={"embed": lambda _, layer: x})
        return one({**params, "stack": {"blocks": blocks}}, tokens, tap=tap).taps["resid_post"][0]

    x = taps["embed"]
    for layers in ((0, 1), (2, 3)):
        outputs = []
        for layer in layers:
            blocks = jax.tree.map(lambda leaf, at=layer: leaf[at : at + 1], params["stack"]["blocks"])
            outputs.append(alone(blocks, x))
            tiny.close(taps["resid_pre"][layer], x)
            tiny.close(taps["resid_post"][layer], outputs[-1])
        x = x + sum(output - x for output in outputs)
    scale = np.sqrt(np.mean(np.square(x), axis=-1, keepdims=True) + 1e-6)
    tiny.close(taps["final_norm"], np.asarray(x) / scale * params["norm"]["gain"][None, None], 1e-4, 1e-4)


def test_layouts_share_shapes_and_states():
    """And start from the same numbers: a branch is drawn as the layer of the sequence."""
    sequential = tiny.draw(spec(Sequential()))[1]
    starts = []
    for stack in (Sequential(), ParallelStack(), Grouped(groups=2)):
        shapes = jax.tree.map(np.shape, tiny.draw(spec(stack))[1])
        assert shapes == jax.tree.map(np.shape, sequential)
        model = spec(stack, depth=2).build(rngs=nnx.Rngs(0))
        starts.append(nnx.to_pure_dict(nnx.state(model, nnx.Param)))
    tiny.close(starts[1], starts[0], 0, 0)
    tiny.close(starts[2], starts[0], 0, 0)


@pytest.mark.parametrize("remat", ["none", "full"])
@pytest.mark.parametrize("loop", ["scan", "unroll"])
def test_every_form_is_one_function(loop, remat):
    plain = gradients(spec(Grouped(groups=2)))
    tiny.close(gradients(spec(Grouped(groups=2, loop=loop, remat=remat))), plain)


@pytest.mark.parametrize("stack", [ParallelStack(), Grouped(groups=2)], ids=["parallel", "grouped"])
def test_cached_decoding_is_the_full_forward(stack):
    """Three tokens at once, then one by one; every branch has a cache of its own."""
    one = spec(stack)
    forward, params = tiny.forward(one)
    tokens = tiny.tokens(B, T)
    full = tiny.jit(lambda p: forward(p, tokens).logits)(params)
    first = tiny.jit(lambda p: forward(p, tokens[:, :3], cache=tiny.empty_cache(one, B, T)))(params)
    step = tiny.jit(lambda p, token, cache: forward(p, token, cache=cache))
    found, cache = [first.logits], first.cache
    assert {leaf.shape[0] for leaf in jax.tree.leaves(cache.layers)} == {4}
    for at in range(3, T):
        out = step(params, tokens[:, at : at + 1], cache)
        found, cache = [*found, out.logits], out.cache
    tiny.close(np.concatenate(found, axis=1), full)


def test_gates_belong_to_the_layer():
    """A closed gate takes out one branch: what is left is the stack of the others, and the gradient is theirs."""
    forward, params = tiny.forward(spec(ParallelStack(), norm=tiny.BIASED))
    three, _ = tiny.forward(spec(ParallelStack(), depth=3, norm=tiny.BIASED))
    tokens = tiny.tokens(B, T)
    run = tiny.jit(lambda p, gates: forward(p, tokens, gates=gates).logits)
    kept = jax.tree.map(lambda leaf: leaf[np.array([0, 2, 3])], params["stack"])
    wanted = tiny.jit(lambda p: three(p, tokens).logits)({**params, "stack": kept})
    gates = np.array([True, False, True, True])
    tiny.close(run(params, Gates(block=gates)), wanted)
    tiny.close(run(params, Gates(mixer=gates, feed_forward=gates)), wanted)
    tiny.close(run(params, Gates(block=np.broadcast_to(gates[:, None, None], (4, B, T)))), wanted)
    assert np.abs(run(params, Gates(block=np.ones(4, bool))) - wanted).max() > 0.1


def test_taps_and_dropout_belong_to_the_layer():
    """Saved values are (layer, ...), edits get the layer's own index, and each branch drops what its layer drops."""

    def writes(stack, **edit):
        forward, params = tiny.forward(spec(stack, block="parallel", dropout=0.5))
        tap = Tap(save="attn_out", edit=edit)
        run = tiny.jit(lambda key: forward(params, tiny.tokens(B, T), key=key, tap=tap).taps["attn_out"])
        return np.asarray(run(jax.random.key(0)))

    sequential, parallel = writes(Sequential()), writes(ParallelStack())
    np.testing.assert_array_equal(parallel == 0, sequential == 0)
    assert (parallel[0] != parallel[1]).any()
    numbered = writes(Grouped(groups=2), attn_out=lambda x, layer: jnp.zeros_like(x) + layer.astype(x.dtype))
    np.testing.assert_array_equal(numbered[:, 0, 0, 0], np.arange(4.0))


@dataclasses.dataclass(frozen=True)
class LayerTeller(RMSNorm):
    """A norm that multiplies by 1 + the index of the layer that it is told."""

    def build(self, width, make, axis="embed"):
        return LayerTellerLayer(self, width, make, axis)


class LayerTellerLayer(RMSNormLayer):
    def __call__(self, x, ctx):
        return super().__call__(x, ctx) * (1.0 + jnp.asarray(ctx.layer, x.dtype))


@pytest.mark.parametrize("loop", ["scan", "unroll"])
def test_depth_is_the_group(loop):
    """Norms that depend on depth are told the index of the group: in one group none of them does anything."""
    told = lambda stack: gradients(spec(stack, norm=LayerTeller()))[1]  # noqa: E731
    untold = lambda stack: gradients(spec(stack))[1]  # noqa: E731
    tiny.close(told(ParallelStack(loop=loop)), untold(ParallelStack(loop=loop)))
    # In two groups the gains of the second are doubled.
    stack = Grouped(groups=2, loop=loop)
    params = tiny.draw(spec(stack))[1]
    second = np.array([1, 1, 2, 2], np.float32)[:, None]
    blocks = dict(params["stack"]["blocks"])
    for name in ("mixer_norm", "feed_forward_norm"):
        blocks[name] = {"gain": blocks[name]["gain"] * second}
    tiny.close(told(stack), gradients(spec(stack), {**params, "stack": {"blocks": blocks}})[1])


def test_wide_attention_is_parallel_attention_under_one_norm():
    """L sublayers of h heads side by side that share a norm are one of L h heads, whose projections are theirs
    laid side by side (identity 2)."""
    layers, heads, head_dim = 3, 2, 8

    def attention(heads, norm):
        return PreNorm(mixer=Attention(heads=heads, head_dim=head_dim), feed_forward=None, norm=norm)

    common = {"vocab": tiny.V, "width": tiny.D}
    stack = ParallelStack(norm=RMSNorm())
    narrow = Decoder(**common, depth=layers, block=attention(heads, NoNorm()), stack=stack)
    wide = Decoder(**common, depth=1, block=attention(layers * heads, RMSNorm()))
    forward, params = tiny.forward(narrow)
    wide_forward, wide_params = tiny.forward(wide)
    mixer = params["stack"]["blocks"]["mixer"]
    joined = {
        **{name: {"kernel": np.concatenate(mixer[name]["kernel"], axis=1)[None]} for name in "qkv"},
        "o": {"kernel": np.concatenate(mixer["o"]["kernel"], axis=0)[None]},
    }
    blocks = {"mixer": joined, "mixer_norm": params["stack"]["norm"]}
    wide_params = {**wide_params, **{name: params[name] for name in ("embedding", "head", "norm")}}
    wide_params["stack"] = {"blocks": blocks}
    count = lambda tree: sum(leaf.size for leaf in jax.tree.leaves(tree))  # noqa: E731
    assert count(params) == count(wide_params)
    tokens = tiny.tokens(B, T)
    found = tiny.jit(lambda p: forward(p, tokens).logits)(params)
    tiny.close(found, tiny.jit(lambda p: wide_forward(p, tokens).logits)(wide_params), 1e-5, 1e-5)


def test_zero_outputs_make_every_layout_the_same_at_the_start():
    """Equal logits, and equal gradients for the zero matrices of the first group (identity 8)."""
    rngs = lambda: nnx.Rngs(jax.random.key(3))  # noqa: E731
    found = []
    for stack in (Sequential(), Grouped(groups=2), ParallelStack(), Grouped(groups=2, norm=None, loop="unroll")):
        start = dataclasses.replace(spec(stack), init=ZeroOutput(Normal(0.3)))
        params = nnx.to_pure_dict(nnx.state(start.build(rngs=rngs()), nnx.Param))
        grads, logits = gradients(start, params)
        blocks = grads["stack"]["blocks"]
        found.append((logits, blocks["mixer"]["o"]["kernel"][0], blocks["feed_forward"]["down"]["kernel"][0]))
        assert np.abs(found[-1][1]).max() > 1e-3
    for other in found[1:]:
        tiny.close(other, found[0], 1e-5, 1e-6)
    # Scaled branches write the same nothing, with a gradient smaller by the scale.
    scaled = dataclasses.replace(spec(ParallelStack(combine="root")), init=ZeroOutput(Normal(0.3)))
    params = nnx.to_pure_dict(nnx.state(scaled.build(rngs=rngs()), nnx.Param))
    grads, logits = gradients(scaled, params)
    tiny.close(logits, found[0][0], 1e-5, 1e-6)
    tiny.close(2 * grads["stack"]["blocks"]["mixer"]["o"]["kernel"][0], found[0][1], 1e-5, 1e-6)


def test_groups_must_divide_the_depth():
    with pytest.raises(SpecError, match=r"Grouped\.groups=3: must divide the depth 4 \(1, 2, 4\)"):
        spec(Grouped(groups=3)).build(rngs=nnx.Rngs(0))
    with pytest.raises(SpecError, match=r"groups=0: must be at least 1"):
        Grouped(groups=0)


def test_a_block_that_counts_layers_stands_in_sequence():
    model = tiny.decoder(depth=4)
    model = dataclasses.replace(model, block=MixNorm(mixer=model.block.mixer, fraction=0.5))
    for stack in (ParallelStack(), Grouped(groups=2)):
        with pytest.raises(
            SpecError, match=f"counts layers one after another, which {type(stack).__name__} has side by side"
        ):
            dataclasses.replace(model, stack=stack).build(rngs=nnx.Rngs(0))
    one_a_group = dataclasses.replace(model, stack=Grouped(groups=4, norm=None))
    one_a_group.build(rngs=nnx.Rngs(0))
