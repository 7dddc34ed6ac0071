"""Constants folded into the numbers: the model that is read back is a standard one, and has the same logits."""

import dataclasses

import numpy as np
import pytest

from arch.blocks import PreNorm
from arch.blocks.admin import Admin
from arch.blocks.deep_norm import DeepNorm
from arch.blocks.depth_scaled import ScaledInput, ScaledNorm, ScaledResidual, ScaledSublayer
from arch.blocks.learned_scale import LayerScale, SkipInit
from arch.blocks.mix_norm import MixNorm
from arch.blocks.reordered_norm import ReorderedNorm
from arch.hf.canonical import canonical, unlike
from arch.hf.family import UnfitError
from arch.hf.plain import plain
from arch.hf.reading import read
from arch.hf.tiers import STANDARD, Fold, Plan, plan
from arch.layers.attention.masks import Causal, SlidingWindow
from arch.layers.attention.softmax import Attention
from arch.layers.embeddings import Embedding, Tied
from arch.layers.feed_forward import GatedMLP
from arch.layers.heads.scaled import ScaledTied
from arch.layers.norms.across_heads import AcrossHeads
from arch.layers.norms.common import RMSNorm
from arch.layers.norms.depth_scale import DepthScaled
from arch.layers.positions import ALiBi
from arch.models.decoder import Decoder
from arch.probe.prune import prune
from arch.spec import UserError
from arch.stacks import Cycle, Listed
from tests.arch.hf import cases

D, F, N, V = cases.D, cases.F, cases.N, cases.V
EPS = 1e-5


def block(kind=PreNorm, norm=RMSNorm(EPS), mixer=Attention(heads=N, kv_heads=2), **fields):
    return kind(mixer=mixer, feed_forward=GatedMLP(hidden=F), norm=norm, **fields)


def decoder(*each, **fields):
    what = each[0] if len(each) == 1 else Listed(each)
    return Decoder(vocab=V, width=D, depth=len(each) if len(each) > 1 else 3, block=what, norm=RMSNorm(EPS), **fields)


LNS = decoder(block(ScaledNorm))
ALL = decoder(
    block(),
    block(ScaledNorm, which="attention"),
    block(norm=DepthScaled(RMSNorm(EPS), exponent=1.0)),
    block(ScaledSublayer),
    block(LayerScale),
    block(SkipInit, mixer=Attention(heads=N, kv_heads=2, scale=0.7)),
    block(norm=RMSNorm(EPS), kind=ScaledInput, exponent=0.0),
    embedding=Embedding(scale=3.0),
    head=ScaledTied(scale=0.2),
)


def same(spec, params, folder):
    """Exports, reads back and compares; answers the plan."""
    found = cases.export(spec, params, folder)
    back = read(folder)
    tokens = cases.tokens()
    ours, other = cases.logits(spec, params, tokens), cases.logits(back.model, back.params, tokens)
    assert np.abs(ours - other).max() <= 2e-6 * np.abs(ours).max()
    return found


def test_lns_is_a_llama(tmp_path):
    spec, params = cases.random(LNS)
    found = same(spec, params, tmp_path / "out")
    assert found.config["model_type"] == "llama"
    assert found.reason == "opens as LlamaForCausalLM, 1/l^e of the depth into the gains"
    weights = {one.name: one for one in found.tensors}
    gain = params["stack"]["blocks"]["mixer_norm"]["gain"][2]
    exact = (gain.astype(np.float64) * 3**-0.5).astype(np.float32)
    np.testing.assert_array_equal(weights["model.layers.2.input_layernorm.weight"].value(), exact)
    again = read(tmp_path / "out")
    assert dict(unlike(canonical(again.model), canonical(decoder(block())))) == {}


def test_all_constants_at_once_are_a_llama(tmp_path):
    found = same(*cases.random(ALL), tmp_path / "out")
    assert found.config["model_type"] == "llama"
    assert found.config["tie_word_embeddings"]
    assert len(found.reason.split("; ")) == 7, found.reason


@pytest.mark.slow
def test_a_scale_of_normed_queries(tmp_path):
    mixer = Attention(heads=N, kv_heads=2, scale=0.7, qk_norm=RMSNorm(EPS))
    spec, params = cases.random(decoder(block(mixer=mixer), head=Tied(), embedding=Embedding(scale=0.5)))
    assert same(spec, params, tmp_path / "out").config["model_type"] == "qwen3"


def test_a_release_is_told_where_older_ones_differ():
    found = plan(*cases.drawn("t5gemma"), cases.FACTS)
    assert found.reason == "opens as T5GemmaForConditionalGeneration, as it is, in Transformers 5.4 and later"


def test_a_norm_within_a_norm_is_no_norm_of_the_block():
    """The factor of the depth goes into the gains behind the sublayers, and not into those of queries and keys."""
    mixer = Attention(heads=N, kv_heads=2, scale=0.7, qk_norm=AcrossHeads(RMSNorm(EPS)))
    spec, params = cases.random(decoder(block(ReorderedNorm, norm=DepthScaled(RMSNorm(EPS)), mixer=mixer)))
    found = plan(spec, params, cases.FACTS)
    assert (found.tier, found.config["model_type"]) == ("standard class", "olmo2")
    held, blocks = {one.name: one.value() for one in found.tensors}, params["stack"]["blocks"]
    for name, norm, factor in (
        ("post_feedforward_layernorm", blocks["feed_forward_norm"]["norm"], 3**-0.5),
        ("self_attn.q_norm", blocks["mixer"]["q_norm"]["norm"], 0.7 * (D // N) ** 0.5),
        ("self_attn.k_norm", blocks["mixer"]["k_norm"]["norm"], 1.0),
    ):
        np.testing.assert_allclose(held[f"model.layers.2.{name}.weight"], norm["gain"][2] * factor, rtol=1e-6)


def test_deep_norm_is_a_bert(tmp_path):
    """At an eps of the blocks that is alpha^2 of the others: there is one for all."""
    alpha = (2 * cases.L) ** 0.25
    spec, params = cases.random(cases.bert(eps=1e-4, kind=DeepNorm, block_eps=1e-4 * alpha**2))
    found = cases.export(spec, params, tmp_path / "out")
    assert found.config["model_type"] == "bert"
    back = read(tmp_path / "out")
    ours, other = (cases.logits(*one, cases.tokens()) for one in ((spec, params), (back.model, back.params)))
    assert np.abs(ours - other).max() <= 1e-5 * np.abs(ours).max()
    with pytest.raises(UserError, match=r"eps"):
        plan(cases.bert(kind=DeepNorm), params, cases.FACTS, STANDARD)


@pytest.mark.slow
def test_layers_that_were_cut_out_keep_their_factors(tmp_path):
    spec, params = cases.random(dataclasses.replace(LNS, depth=4))
    same(*prune(spec, params, (1, 3)), tmp_path / "out")


def test_what_mix_norm_is_by_layer():
    spec, params = cases.random(dataclasses.replace(decoder(block(MixNorm, fraction=0.5)), depth=4))
    kinds = [type(one).__name__ for one in plain(spec, params).model.block.each]
    assert kinds == ["PostNorm", "PostNorm", "PreNorm", "PreNorm"]


REFUSED = {
    "alibi": (decoder(block(mixer=Attention(heads=N, position=ALiBi()))), "mixer.position=ALiBi has no counterpart"),
    "cap": (
        decoder(block(mixer=Attention(heads=N, softcap=9.0))),
        "layer 0 mixer.softcap=9.0 has no counterpart: llama",
    ),
    "admin": (decoder(block(Admin)), "layer 0='Admin' has no counterpart: llama has 'PreNorm' there"),
    "residual": (decoder(block(ScaledResidual)), "layer 0='ScaledResidual' has no counterpart"),
    "layers": (
        decoder(block(), block(mixer=Attention(heads=2))),
        r"layer 1 mixer.heads=2 has no counterpart: llama has 4 there",
    ),
    "windows": (
        decoder(Cycle((block(), block(mixer=Attention(heads=N, mask=SlidingWindow(3)))))),
        "layer",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_has_no_counterpart_is_told_in_one_line(name):
    spec, told = REFUSED[name]
    _, params = cases.random(spec)
    with pytest.raises(UserError, match=told) as error:
        plan(spec, params, cases.FACTS, STANDARD)
    assert str(error.value).startswith("Decoder cannot be exported: standard class: ")
    assert "; per_layer_config: " in str(error.value)
    assert len(str(error.value).splitlines()) == 1


def test_a_further_tier_is_asked_last():
    class Code:
        name = "code"

        def plan(self, model, params, facts):
            if isinstance(model.block, Cycle):
                raise UnfitError("a pattern")
            return Plan(self.name, "written as code", {"model_type": "mine"}, (), {"modeling.py": ""})

    tiers = (Fold(), Code())
    spec, params = cases.random(REFUSED["alibi"][0])
    found = plan(spec, params, cases.FACTS, tiers)
    assert found.tier == "code"
    assert found.reason.startswith("written as code; not standard class: mixer.position=ALiBi")
    assert plan(*cases.random(LNS), cases.FACTS, tiers).tier == "standard class"
    with pytest.raises(UserError, match=r"; code: a pattern$"):
        plan(*cases.random(REFUSED["windows"][0]), cases.FACTS, tiers)


def test_training_alone_makes_no_difference():
    spec = decoder(block(dropout=0.3))
    assert dict(unlike(canonical(spec), canonical(decoder(block())))) == {}
    other = decoder(block(mixer=Attention(heads=N, kv_heads=2, mask=Causal(), head_dim=D // N)))
    assert dict(unlike(canonical(spec), canonical(other))) == {}
