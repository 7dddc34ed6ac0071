"""A third and a fourth sublayer in every kind of block: everything follows their names."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from arch.blocks import Parallel, PreNorm
from arch.context import Gates, Result, dropout
from arch.cost import abstract
from arch.layers.attention.softmax import Attention
from arch.layers.caches import Growing
from arch.layers.feed_forward import GatedMLP
from arch.layers.init.initializers import Normal
from arch.layers.sublayer import Mixer, Sublayer
from arch.models.decoder import Decoder
from arch.params import ParamFactory, metadata, split, stack_layers
from arch.spec import SpecError, UserError
from arch.taps import Tap
from tests.arch import tiny

B, T, D, L = 2, 6, 16, 2


@dataclasses.dataclass(frozen=True)
class Adapter(Sublayer):
    """x W, of which `rate` is dropped inside."""

    rate: float = 0.0

    @property
    def causal(self):
        return True

    def build(self, width, make):
        return AdapterLayer(self, width, make)


class AdapterLayer(nnx.Module):
    def __init__(self, spec, width, make):
        self.rate = spec.rate
        self.kernel = make.weight("kernel", [(width, "embed")], [(width, None)], role="residual")

    def __call__(self, x, ctx):
        ones = dropout(jnp.ones_like(x), self.rate, ctx.dropout_key)
        return Result((x * ctx.tap("mask", ones)) @ self.kernel[...])


EXTRA = (("cross", Attention(heads=2)), ("adapter", Adapter()))
NAMES = ("cross", "adapter")
BESIDE = {
    "parallel": {},
    "sandwich": {"_norm", "_out_norm"},
    "layer_scale": {"_norm", "_scale"},
    "skip_init": {"_norm", "_scale"},
    "admin": {"_norm", "_omega"},
}
"""What a block has beside each sublayer, where it is not just a norm."""

ORDER = ("mixer", "cross", "feed_forward", "adapter")


def model(kind="pre", extra=EXTRA, order=(), loop="scan", **fields):
    parts = {"mixer": Attention(heads=2), "feed_forward": GatedMLP(hidden=8), "extra": extra, "order": order, **fields}
    return dataclasses.replace(tiny.decoder(loop=loop, depth=L), width=D, block=tiny.BLOCKS[kind](**parts))


@pytest.mark.parametrize("kind", tiny.BLOCKS)
def test_parameters_are_under_the_names(kind):
    """And are, for the sublayers that are there without it, those of before."""
    plain, more = (metadata(abstract(one)) for one in (model(kind, ()), model(kind)))
    assert plain.items() <= more.items()
    name = lambda path: path.removeprefix("stack.blocks.").split(".")[0]  # noqa: E731
    beside = {name(path).removeprefix("mixer") for path in plain if name(path).startswith("mixer")}
    assert {name(path) for path in more.keys() - plain.keys()} == {f"{x}{what}" for x in NAMES for what in beside}
    assert beside == {"", *BESIDE.get(kind, {"_norm"})}


@pytest.mark.parametrize("kind", tiny.BLOCKS)
def test_gates_by_name_leave_the_block_without_it(kind):
    """Closed, the block is that of the other sublayers; open, it is not. The order is the given one."""
    forward, params = tiny.forward(model(kind, order=ORDER))
    plain, own = tiny.forward(model(kind, ()))
    shared = {**params, "stack": {"blocks": {name: params["stack"]["blocks"][name] for name in own["stack"]["blocks"]}}}
    closed, first = np.zeros(L, bool), np.array([False, True])
    run = tiny.jit(lambda params, gates: forward(params, tiny.tokens(B, T), gates=gates).logits)
    expected = tiny.jit(lambda params: plain(params, tiny.tokens(B, T)).logits)(shared)
    tiny.close(run(params, Gates(cross=closed, adapter=closed)), expected)
    for gates in (Gates(cross=closed, adapter=first), Gates(cross=first, adapter=closed)):
        assert np.abs(run(params, gates) - expected).max() > 1e-3


@pytest.mark.parametrize("loop", ["scan", "unroll"])
@pytest.mark.parametrize("kind", ["pre", "parallel"])
def test_sites_follow_the_names_and_sum_to_the_stream(kind, loop):
    forward, params = tiny.forward(model(kind, order=ORDER, loop=loop))
    taps = tiny.jit(lambda p: forward(p, tiny.tokens(B, T), tap=Tap(save=".*")).taps)(params)
    writes = ("attn_out", "cross_out", "mlp_out", "adapter_out")
    attention = {f"attn.{site}" for site in ("q", "k", "v", "scores", "pattern", "z")}
    assert {*writes, *attention, *(f"cross.{site}" for site in attention), "adapter.mask"} <= set(taps)
    assert "mask" not in taps
    stream = taps["resid_pre"]
    middle = ("resid_mid", "resid_after_cross", "resid_after_feed_forward", "resid_post")
    if kind == "parallel":
        assert not set(middle[:3]) & set(taps)
        tiny.close(stream + sum(taps[site] for site in writes), taps["resid_post"])
        return
    for write, after in zip(writes, middle, strict=True):
        stream = stream + taps[write]
        tiny.close(stream, taps[after])


def test_the_order_is_that_of_the_names():
    """In a block of its own kind: mixer, the extra ones, feed_forward, unless another is given."""
    assert tuple(PreNorm(extra=EXTRA).sublayers) == ("mixer", "cross", "adapter", "feed_forward")
    assert tuple(PreNorm(extra=EXTRA, order=ORDER).sublayers) == ORDER
    assert tuple(PreNorm(extra=EXTRA, feed_forward=None).sublayers) == ("mixer", "cross", "adapter")
    found = []
    for order in ((), ORDER):
        forward, params = tiny.forward(model(order=order))
        found.append(tiny.jit(lambda p, forward=forward: forward(p, tiny.tokens(B, T)).logits)(params))
    assert np.abs(found[0] - found[1]).max() > 1e-2


@pytest.mark.parametrize("kind", ["pre", "post", "mix", "parallel"])
def test_sublayers_drop_different_places_outside_and_inside(kind):
    """Four masks of what is written, two of what is dropped inside two equal parts: no two alike, nor two layers'."""
    extra = (("one", Adapter(0.5)), ("two", Adapter(0.5)))
    forward, params = tiny.forward(model(kind, extra, dropout=0.5))
    tap = Tap(save=r"(one|two)\.mask|.*_out")
    run = tiny.jit(lambda key: forward(params, tiny.tokens(B, T), key=key, tap=tap).taps)
    taps = run(jax.random.key(0))
    assert set(taps) == {"one.mask", "two.mask", "one_out", "two_out", "attn_out", "mlp_out"}
    masks = [np.asarray(value[layer]) == 0 for value in taps.values() for layer in range(L)]
    for index, mask in enumerate(masks):
        assert 0.3 < mask.mean() < 0.7
        assert all((mask != other).mean() > 0.3 for other in masks[:index])
    quiet = tiny.jit(lambda: forward(params, tiny.tokens(B, T), tap=tap).taps)()
    assert all((np.asarray(value) != 0).all() for value in quiet.values())


@pytest.mark.parametrize("kind", ["pre", "post", "parallel", "mix"])
def test_caches_are_under_the_names_and_decoding_is_the_full_forward(kind):
    spec = model(kind, order=ORDER)
    forward, params = tiny.forward(spec)
    tokens = tiny.tokens(B, T)

    found, cache = tiny.jit(tiny.in_pieces(spec, tokens, (3, 4, T)))(params)
    full = tiny.jit(lambda params: forward(params, tokens).logits)(params)
    tiny.close(found, full)
    assert set(cache.layers) == {"mixer", "cross"}
    assert all(isinstance(one, Growing) for one in cache.layers.values())
    assert np.abs(cache.layers["mixer"].entries["k"] - cache.layers["cross"].entries["k"]).max() > 0.1


def start(*blocks):
    """The parameters that each of `blocks` starts from, stacked over the layers."""

    def one(block):
        return split(stack_layers(lambda make: block.build(D, make), ParamFactory(jax.random.key(0), Normal()), L))[1]

    return tiny.jit(lambda: [one(block) for block in blocks])()


def test_the_others_start_as_without_it():
    block = lambda *extra: model(extra=extra).block  # noqa: E731
    one, two = (("one", Adapter()), ("two", Adapter()))
    plain, more, twins, renamed = start(block(), block(*EXTRA), block(one, two), block(two))
    tiny.close({name: more[name] for name in plain}, plain, 0, 0)
    assert np.abs(twins["one"]["kernel"] - twins["two"]["kernel"]).max() > 0
    np.testing.assert_array_equal(renamed["two"]["kernel"], twins["two"]["kernel"])


def test_admin_counts_the_sublayers():
    """Its ratios start at sqrt(i) of the sublayers in their order."""
    [params] = start(model("admin", order=ORDER).block)
    ratios = np.stack([params[f"{name}_omega"][:, 0] for name in ORDER], axis=1)
    np.testing.assert_allclose(ratios, np.sqrt(1 + np.arange(4 * L)).reshape(L, 4), rtol=1e-6)


def test_a_gate_on_what_is_not_there_is_refused():
    forward, params = tiny.forward(model())
    line = "gates are given for crosss, memory; the layers have adapter, block, cross, feed_forward, mixer"
    gates = Gates(crosss=np.ones(L, bool), cross=np.ones(L, bool), memory=np.ones(L, bool))
    with pytest.raises(ValueError, match=line):
        forward(params, tiny.tokens(B, T), gates=gates)


@pytest.mark.parametrize(
    "name",
    [
        "mixer",
        "feed_forward",
        "block",
        "norm",
        "extra",
        "order",
        "dropout",
        "attn",
        "mlp",
        "Cross",
        "a.b",
        "",
        "2",
        "a-b",
    ],
)
def test_names_that_cannot_be(name):
    with pytest.raises(SpecError, match=r"PreNorm\.extra=.*names of sublayers must be different lower-case words"):
        PreNorm(extra=((name, Adapter()),))


@pytest.mark.parametrize("name", ["rates", "names", "write", "step", "finish", "mixer_norm", "init_cache"])
def test_names_that_the_block_has_taken(name):
    """They were overwritten, or overwrote the block's own."""
    with pytest.raises(UserError, match=f"PreNormLayer has something else called {name}: give the sublayer another"):
        tiny.draw(model(extra=((name, Adapter()),)))


def test_names_and_orders_are_checked():
    with pytest.raises(SpecError, match="must be different"):
        PreNorm(extra=(("cross", Adapter()), ("cross", Adapter())))
    for order in (("mixer",), ("mixer", "feed_forward", "cross", "cross"), ("mixer", "cross", "feed_forward", "x")):
        with pytest.raises(SpecError, match=r"PreNorm\.order=.*each sublayer once: mixer, cross, feed_forward"):
            PreNorm(extra=EXTRA[:1], order=order)


@dataclasses.dataclass(frozen=True)
class Forgetful(Mixer):
    """A mixer that decodes without its past: it has no cache, or one that it does not answer."""

    cached: bool = False

    def build(self, width, make):
        return (ForgetfulLayer if self.cached else AdapterLayer)(Adapter(), width, make)


class ForgetfulLayer(AdapterLayer):
    def init_cache(self, room):
        return Growing.empty(room, {"k": (1,)})


@pytest.mark.parametrize("kind", [PreNorm, Parallel])
def test_a_mixer_that_would_forget_is_refused(kind):
    """It would answer as if each token were the first of its row."""
    for cached, line in [
        (False, r"AdapterLayer \(mixer\) has no init_cache, which a mixer that decodes token by token needs"),
        (True, r"ForgetfulLayer \(mixer\) was called with a cache and returned none: Result\(x, cache\)"),
    ]:
        spec = Decoder(vocab=tiny.V, width=D, depth=1, block=kind(mixer=Forgetful(cached)))
        forward, params = tiny.forward(spec)
        with pytest.raises(UserError, match=line):
            jax.eval_shape(lambda p: forward(p, tiny.tokens(1, 2), cache=tiny.empty_cache(spec, 1, 4)).logits, params)  # noqa: B023
