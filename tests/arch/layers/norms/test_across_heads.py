"""QK-norm over all heads together, against the formula in numpy."""

import jax.numpy as jnp
import numpy as np
import pytest

from arch.blocks import PreNorm
from arch.context import Context
from arch.cost import abstract
from arch.layers.attention.softmax import Attention
from arch.layers.norms.across_heads import AcrossHeads
from arch.layers.norms.common import LayerNorm, RMSNorm
from arch.layers.norms.depth_scale import DepthScaled
from arch.models.decoder import Decoder
from arch.params import merge, metadata
from arch.spec import SpecError
from tests.arch import tiny

PLACES = jnp.arange(5)[None]
CTX = Context(PLACES, None, PLACES, None, layer=1)


def model(norm, **mixer):
    mixer = Attention(heads=4, kv_heads=2, head_dim=6, qk_norm=norm, **mixer)
    return Decoder(vocab=tiny.V, width=16, depth=1, block=PreNorm(mixer=mixer))


def test_formula():
    """Mean square of all N K numbers of a token, eps, gains of their own; queries and keys by the heads they have."""
    spec = model(AcrossHeads(RMSNorm(1e-3)))
    graphdef, params = tiny.draw(spec)
    norms = params["stack"]["blocks"]["mixer"]
    layer = merge(graphdef, params, {}).stack.blocks.mixer
    for name, heads in (("q_norm", 4), ("k_norm", 2)):
        gain = np.asarray(norms[name]["norm"]["gain"])[0]
        assert gain.shape == (heads * 6,)
        x = np.random.default_rng(0).standard_normal((2, 5, heads, 6)).astype(np.float32)
        flat = x.reshape(2, 5, -1).astype(np.float64)
        wanted = flat / np.sqrt((flat**2).mean(-1, keepdims=True) + 1e-3) * gain
        norm = getattr(layer, name)
        norm.norm.gain = type(norm.norm.gain)(jnp.asarray(gain))
        tiny.close(norm(jnp.asarray(x), CTX), wanted.reshape(x.shape).astype(np.float32))


def test_its_gains_are_split_like_the_heads():
    axes = {path: row["axes"] for path, row in metadata(abstract(model(AcrossHeads()))).items()}
    assert axes["stack.blocks.mixer.q_norm.norm.gain"] == ("layers", "heads")
    assert axes["stack.blocks.mixer.k_norm.norm.gain"] == ("layers", "kv")


@pytest.mark.parametrize("norm", [RMSNorm(), LayerNorm(), DepthScaled()])
def test_any_norm_can_stand_in_it(norm):
    paths = [path for path in metadata(abstract(model(AcrossHeads(norm)))) if "q_norm.norm." in path]
    assert len(paths) == (2 if isinstance(norm, LayerNorm) else 1)


@pytest.mark.parametrize(
    "spec", [PreNorm(norm=AcrossHeads()), PreNorm(mixer=Attention(heads=2, qk_norm=DepthScaled(AcrossHeads())))]
)
def test_it_is_no_norm_of_one_vector(spec):
    with pytest.raises(SpecError, match="AcrossHeads belongs to attention"):
        abstract(Decoder(vocab=tiny.V, width=16, depth=1, block=spec))
