"""A call changes nothing in the part that is called: whoever assigns to itself is named while tracing."""

import dataclasses

import jax
import jax.numpy as jnp
import pytest
from flax import nnx

from arch.blocks import PreNorm
from arch.bottlenecks.base import Bottleneck
from arch.context import Result
from arch.layers.attention.softmax import Attention
from arch.layers.init.initializers import Normal
from arch.layers.norms.common import Norm, RMSNorm
from arch.layers.sublayer import FeedForward
from arch.models.base import Inputs
from arch.models.decoder import Decoder
from arch.params import ParamFactory, merge
from arch.purity import unchanged
from arch.spec import UserError
from arch.stacks import Cycle, Grouped, Sequential
from tests.arch import tiny
from tests.arch.parts import drawn

D = 8


class Restless(nnx.Module):
    """x * gain, and one of several ways of changing itself."""

    def __init__(self, how, make):
        self.how = how
        self.gain = make.constant([], 1.0)
        self.count = make.buffer([], 0.0)
        self.last, self.seen, self.memo = None, [], {}

    def __call__(self, x, ctx):
        x = x * self.gain[...]
        if self.how == "attribute":
            self.last = x
        elif self.how == "new attribute":
            self.fresh = jnp.sum(x)
        elif self.how == "buffer":
            self.count[...] = self.count[...] + 1
        elif self.how == "parameter":
            self.gain[...] = self.gain[...] * 2
        elif self.how == "list":
            self.seen.append(x)
        elif self.how == "dict":
            self.memo["x"] = x
        elif self.how == "variable":
            self.gain = nnx.Param(self.gain[...])
        return x


HOW = {
    "attribute": r"last \(",
    "new attribute": r"fresh \(",
    "buffer": "count of",
    "parameter": "gain of",
    "list": r"seen \(",
    "dict": r"memo \(",
    "variable": "gain of",
}


class RestlessLayer(Restless):
    def __call__(self, x, ctx):
        return Result(super().__call__(x, ctx))


@dataclasses.dataclass(frozen=True)
class RestlessFeedForward(FeedForward):
    how: str = ""

    def build(self, width, make):
        return RestlessLayer(self.how, make)


@dataclasses.dataclass(frozen=True)
class RestlessNorm(Norm):
    how: str = ""

    def build(self, width, make, axis="embed"):
        return Restless(self.how, make)


@dataclasses.dataclass(frozen=True)
class RestlessBottleneck(Bottleneck):
    how: str = ""

    def build(self, width, make):
        return Restless(self.how, make)


def decoder(how="", stack=Sequential(), pattern=False, norm=RMSNorm(), between=""):
    block = PreNorm(mixer=Attention(heads=2), feed_forward=RestlessFeedForward(how))
    stack = dataclasses.replace(stack, between=((1, RestlessBottleneck(between)),)) if between else stack
    block = Cycle((PreNorm(mixer=Attention(heads=2)), block)) if pattern else block
    return Decoder(vocab=tiny.V, width=D, depth=2, block=block, stack=stack, norm=norm)


def trace(spec):
    """Traces a call of the model; nothing is compiled."""
    tokens = jnp.zeros((1, 3), jnp.int32)
    return nnx.eval_shape(lambda: spec.build(rngs=nnx.Rngs(0))(Inputs(tokens=tokens)).logits)


STACKS = {
    "scan": Sequential(),
    "unroll": Sequential("unroll"),
    "remat": Sequential("scan", "full"),
    "parallel": Grouped(groups=1),
}


@pytest.mark.parametrize("stack", STACKS)
@pytest.mark.parametrize("how", HOW)
def test_a_layer_that_changes_itself_is_named(how, stack):
    with pytest.raises(UserError, match=f"{HOW[how]}.*was assigned to in a call.*ParamFactory.buffer") as error:
        trace(decoder(how, STACKS[stack]))
    assert "feed_forward" in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("how", ["attribute", "buffer"])
def test_so_is_one_in_a_pattern_a_norm_of_the_model_and_a_bottleneck(how):
    for spec, where in [
        (decoder(how, pattern=True), "feed_forward"),
        (decoder(norm=RestlessNorm(how)), "norm"),
        (decoder(between=how), r"stack\.between\.1"),
    ]:
        with pytest.raises(UserError, match=f"{where}.*was assigned to in a call"):
            trace(spec)


@pytest.mark.parametrize("stack", STACKS)
def test_those_that_do_not_pass(stack):
    assert trace(decoder(stack=STACKS[stack])).shape == (1, 3, tiny.V)
    assert trace(decoder(pattern=True, norm=RestlessNorm())).shape == (1, 3, tiny.V)


def test_changes_between_calls_are_the_users_own():
    """A model is a thing that can be edited; and what it holds is then used."""
    inputs = Inputs(tokens=jnp.zeros((1, 3), jnp.int32))

    @tiny.jit
    def run():
        model = merge(*drawn(decoder()))
        before = model(inputs).logits
        model.norm.gain[...] = 2 * model.norm.gain[...]
        return before, model(inputs).logits

    before, after = run()
    tiny.close(after, 2 * before)


def test_an_error_inside_is_not_covered_up():
    part = Restless("attribute", ParamFactory(jax.random.key(0), Normal()))

    def call():
        with unchanged(part):
            part.last = 1
            raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        call()
