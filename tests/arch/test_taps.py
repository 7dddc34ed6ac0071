"""Taps: free when off, the same values in every form, parts that sum to the residual, and edits that act."""

import ast
import inspect
import re
import textwrap
from collections.abc import Callable
from types import FunctionType, ModuleType

import jax
import numpy as np
import pytest

from arch.blocks import base
from arch.context import Gates
from arch.layers import feed_forward
from arch.layers.attention import attend
from arch.layers.attention import softmax as attention
from arch.models import decoder, trunk
from arch.taps import NoTap, Tap
from tests.arch import tiny

B, T = 2, 5
INSIDE = {
    *("resid_pre", "resid_mid", "resid_post", "attn_out", "mlp_out", "mlp.pre", "mlp.pre_linear", "mlp.post"),
    *("attn.q", "attn.k", "attn.v", "attn.scores", "attn.pattern", "attn.z"),
}
OUTSIDE = {"embed", "final_norm", "logits"}


class WithoutTaps(ast.NodeTransformer):
    """Turns every `tap(site, x)` and `ctx.tap(site, x)` into `x`."""

    count = 0

    def visit_Call(self, node):
        self.generic_visit(node)
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        if name in ("tap", "tap_or_none") and len(node.args) == 2:
            self.count += 1
            return node.args[1]
        return node


def functions(module: ModuleType):
    """(owner, name, function) of every function and method written in `module`."""
    for owner in (
        module,
        *(c for c in vars(module).values() if inspect.isclass(c) and c.__module__ == module.__name__),
    ):
        for name, value in list(vars(owner).items()):
            if isinstance(value, FunctionType) and value.__module__ == module.__name__:
                yield owner, name, value


def remove_taps(monkeypatch) -> int:
    """Replaces every function that calls a tap by one compiled from its source without that call."""
    removed = 0
    for module in (attend, attention, feed_forward, base, trunk, decoder):
        for owner, name, function in functions(module):
            source = inspect.unwrap(function)
            if name.startswith("__") and name != "__call__":
                continue
            transformer = WithoutTaps()
            tree = transformer.visit(ast.parse(textwrap.dedent(inspect.getsource(source))))
            if not transformer.count:
                continue
            tree.body[0].decorator_list = []
            code = compile(ast.fix_missing_locations(tree), "<without taps>", "exec", flags=annotations())
            scope: dict[str, Callable] = {}
            exec(code, vars(module), scope)
            monkeypatch.setattr(owner, name, scope[name])
            removed += transformer.count
    monkeypatch.setattr(attention, "attend", attend.attend)
    return removed


def annotations() -> int:
    import __future__

    return __future__.annotations.compiler_flag


def program(spec, **arguments) -> tuple[str, str]:
    """Lowered and optimized text of forward and backward, without names and source locations."""
    forward, params = tiny.forward(spec)
    lowered = jax.jit(jax.grad(lambda p: forward(p, tiny.tokens(B, T), **arguments).logits.sum())).lower(params)
    compiled = lowered.compile(tiny.OPTIONS).as_text()
    return lowered.as_text(), re.sub(
        r", metadata=\{[^}]*\}|^(FileNames|FunctionNames|FileLocations|StackFrames)(\n.+)*", "", compiled, flags=re.M
    )


@pytest.mark.parametrize(
    "spec", [tiny.decoder(remat="full"), tiny.decoder(block="parallel", loop="unroll")], ids=["scan", "unroll"]
)
def test_off_is_the_program_without_taps(spec, monkeypatch):
    off, idle = program(spec), program(spec, tap=Tap())
    assert program(spec, tap=Tap(edit={"attn.z": lambda x, layer: x + 1}))[1] != off[1]
    with monkeypatch.context() as patch:
        assert remove_taps(patch) >= 15
        without = program(spec)
        with pytest.raises(ValueError, match="no tap site"):  # They are really gone.
            program(spec, tap=Tap(save="attn.z"))
    assert off == without
    assert idle == without


def test_no_tap_is_the_identity():
    x = jax.numpy.zeros(1)
    assert NoTap()("anything", x) is x
    assert NoTap().at(3)("anything", x) is x
    assert not NoTap().wants("anything")


@pytest.fixture(scope="module")
def everything():
    """Every site of a scanned model: (taps, output)."""
    forward, params = tiny.forward(tiny.decoder(depth=3))
    out = tiny.jit(lambda p: forward(p, tiny.tokens(B, T), tap=Tap(save=".*")))(params)
    return out.taps, out


def test_sites_and_shapes(everything):
    taps, out = everything
    assert set(taps) == INSIDE | OUTSIDE
    assert {taps[site].shape[:2] for site in INSIDE} == {(3, B)}
    assert taps["attn.pattern"].shape == (3, B, tiny.N, T, T)
    assert taps["attn.k"].shape == (3, B, T, tiny.H, tiny.D // tiny.N)
    np.testing.assert_array_equal(taps["logits"], out.logits)
    np.testing.assert_allclose(taps["attn.pattern"].sum(axis=-1), 1.0, rtol=1e-5)
    assert (np.triu(taps["attn.pattern"], 1) == 0).all()


@pytest.mark.parametrize(("loop", "remat"), [("unroll", "none"), ("scan", "full"), ("unroll", "dots")])
def test_saved_values_are_the_same_in_every_form(loop, remat, everything):
    forward, params = tiny.forward(tiny.decoder(depth=3, loop=loop, remat=remat))
    taps = tiny.jit(lambda p: forward(p, tiny.tokens(B, T), tap=Tap(save=".*")).taps)(params)
    tiny.close(taps, everything[0])


def test_saved_values_pass_through_a_gradient(everything):
    """Under `jax.grad` and rematerialisation nothing of what is saved is lost."""
    forward, params = tiny.forward(tiny.decoder(depth=3, remat="full"))

    def loss(p):
        out = forward(p, tiny.tokens(B, T), tap=Tap(save="resid_.*"))
        return out.logits.sum(), out.taps

    _, taps = tiny.jit(jax.grad(loss, has_aux=True))(params)
    assert set(taps) == {"resid_pre", "resid_mid", "resid_post"}
    tiny.close(taps, {site: everything[0][site] for site in taps})


@pytest.mark.parametrize("gated", [None, "gates"])
@pytest.mark.parametrize("block", ["pre", "sandwich", "parallel"])
def test_parts_sum_to_the_residual(block, gated):
    """Also with dropout, and with gates of every kind."""
    forward, params = tiny.forward(tiny.decoder(block=block, depth=3, dropout=0.3, norm=tiny.BIASED))
    gates = (
        Gates() if gated is None else Gates(mixer=np.array([True, False, True]), feed_forward=np.float32([1, 0.5, 0]))
    )
    run = tiny.jit(lambda p, key: forward(p, tiny.tokens(B, T), key=key, gates=gates, tap=Tap(save=".*")).taps)
    taps = {site: np.asarray(value) for site, value in run(params, jax.random.key(0)).items()}
    if block == "parallel":
        assert "resid_mid" not in taps
    else:
        tiny.close(taps["resid_pre"] + taps["attn_out"], taps["resid_mid"])
        tiny.close(taps["resid_mid"] + taps["mlp_out"], taps["resid_post"])
    tiny.close(taps["embed"], taps["resid_pre"][0])
    tiny.close(taps["resid_post"][:-1], taps["resid_pre"][1:])
    tiny.close(taps["embed"] + (taps["attn_out"] + taps["mlp_out"]).sum(axis=0), taps["resid_post"][-1])
    if gated is not None:
        assert (taps["attn_out"][1] == 0).all()
        assert (taps["mlp_out"][2] == 0).all()
        assert np.abs(taps["mlp_out"][1]).max() > 0.01


def at_layer(wanted, change):
    """An edit that applies `change` at one layer, whether its index is known or traced."""
    return lambda x, layer: jax.numpy.where(layer == wanted, change(x), x)


@pytest.mark.parametrize(("site", "gate"), [("attn_out", "mixer"), ("mlp_out", "feed_forward")])
@pytest.mark.parametrize(("block", "loop"), [("pre", "unroll"), ("sandwich", "scan"), ("parallel", "scan")])
def test_zeroing_a_write_is_closing_its_gate(block, site, gate, loop):
    """Also where the sandwich's outer norm has a bias, which a write of zeros inside it would let through."""
    forward, params = tiny.forward(tiny.decoder(block=block, depth=3, loop=loop, norm=tiny.BIASED))
    tap = Tap(edit={site: at_layer(1, lambda x: 0 * x)})
    gates = Gates(**{gate: np.array([True, False, True])})
    run = lambda **kwargs: forward(params, tiny.tokens(B, T), **kwargs).logits  # noqa: E731
    edited, gated, plain = tiny.jit(lambda: (run(tap=tap), run(gates=gates), run()))()
    tiny.close(edited, gated, 1e-6, 1e-6)
    assert np.abs(gated - plain).max() > 0.1


@pytest.mark.parametrize(("loop", "remat"), [("scan", "none"), ("unroll", "none"), ("unroll", "full")])
def test_edits_see_their_layer_and_come_before_saving(loop, remat):
    forward, params = tiny.forward(tiny.decoder(depth=3, loop=loop, remat=remat))
    layers = []

    def write_layer(x, layer):
        layers.append(layer)
        return 0 * x + jax.numpy.asarray(-1 if layer is None else layer).astype(x.dtype)

    edit = {"resid_pre": write_layer, "final_norm": write_layer}
    taps = tiny.jit(lambda p: forward(p, tiny.tokens(B, T), tap=Tap(save="resid_pre|final_norm", edit=edit)).taps)(
        params
    )
    np.testing.assert_array_equal(taps["resid_pre"][:, 0, 0, 0], [0, 1, 2])
    np.testing.assert_array_equal(taps["final_norm"], np.full((B, T, tiny.D), -1))
    assert layers[-1] is None


def test_an_edited_pattern_changes_what_is_mixed():
    """A uniform pattern makes z the mean of the visible values."""
    forward, params = tiny.forward(tiny.decoder(depth=1, kv_heads=None))
    tap = Tap(save="attn.(v|z)", edit={"attn.pattern": lambda x, layer: 0 * x + 1 / T})
    taps = tiny.jit(lambda p: forward(p, tiny.tokens(B, T), tap=tap).taps)(params)
    mean = np.broadcast_to(taps["attn.v"].mean(axis=2, keepdims=True), taps["attn.z"].shape)
    tiny.close(taps["attn.z"], mean)


@pytest.mark.parametrize(
    "tap",
    [
        Tap(save="resid"),
        Tap(edit={"attn.zz": lambda x, layer: x}),
        Tap(save="resid_pre", edit={"0.attn.z": lambda x, layer: x}),
    ],
)
def test_unknown_sites_are_refused_with_the_list(tap):
    forward, params = tiny.forward(tiny.decoder())
    with pytest.raises(ValueError, match=r"no tap site (resid|attn\.zz|0\.attn\.z); this model has") as error:
        jax.eval_shape(lambda p: forward(p, tiny.tokens(B, T), tap=tap).logits, params)
    assert set(str(error.value).split("this model has ")[1].split(", ")) == INSIDE | OUTSIDE
