"""The contract of twins: every part has one or says why not; parts of a user's own bring theirs; code is composed."""

import ast
import dataclasses
import importlib
import inspect
import pkgutil
from typing import ClassVar

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import arch
from arch.blocks.dropout import DropoutBy
from arch.bottlenecks.codebook import Codebook
from arch.bottlenecks.gradients import GradientRule, Rotation
from arch.hf.family import Facts, UnfitError
from arch.hf.generated.compose import SOURCES, compose, needs
from arch.hf.generated.table import TWINS, WITHOUT
from arch.hf.generated.teller import name_of
from arch.hf.generated.tier import TASKS, Generated
from arch.hf.generated.twin import Twin
from arch.hf.tiers import plan
from arch.layers.init.initializers import Initializer
from arch.layers.linear import Linear
from arch.layers.norms.common import Norm, RMSNorm
from arch.models.encoder_decoder import EncoderDecoder
from arch.models.trunk import Trunk
from arch.spec import Spec, UserError
from arch.stacks.base import LayerSubset, Pattern
from tests.arch import tiny
from tests.arch.hf.generated_cases import CASES, block, classifier, decoder, mixing, planned
from tests.arch.hf.translators import translator

FACTS = Facts(bos=0, eos=1)
NO_PARTS = (Initializer, GradientRule, DropoutBy, Pattern, LayerSubset, Linear)
"""Specs that are no part of the function of a model, or are laid open: how weights start, what gradients go back,
which block a layer is, how a linear map is parameterised."""


def specs():
    """Every spec class of arch that can be made."""
    found = set()
    for module in pkgutil.walk_packages(arch.__path__, "arch."):
        if module.name.startswith(("arch.hf", "arch.decode")):
            continue
        for cls in vars(importlib.import_module(module.name)).values():
            if inspect.isclass(cls) and issubclass(cls, Spec) and cls.__module__ == module.name:
                found.add(cls)
    return sorted((cls for cls in found if not inspect.isabstract(cls)), key=lambda cls: cls.__qualname__)


def test_every_part_has_a_twin_or_a_reason():
    whole = {*TASKS, EncoderDecoder, Trunk, Spec}
    parts = [cls for cls in specs() if not issubclass(cls, NO_PARTS) and cls not in whole]
    assert len(parts) > 60
    lacking = [cls.__qualname__ for cls in parts if name_of(cls) not in TWINS and name_of(cls) not in WITHOUT]
    assert not lacking, f"neither a twin in arch/hf/generated/table.py nor a reason there: {lacking}"
    assert not set(TWINS) & set(WITHOUT)
    assert set(WITHOUT) <= {name_of(cls) for cls in parts}


def within(spec):
    """The names of all parts of a spec."""
    yield name_of(type(spec))
    for field in dataclasses.fields(spec):
        waiting = [getattr(spec, field.name)]
        while waiting:
            one = waiting.pop()
            if isinstance(one, tuple):
                waiting += one
            elif isinstance(one, Spec):
                yield from within(one)


def test_every_twin_is_in_a_case():
    """A twin that no case of the table of logits uses would not be compared with ours."""
    used = {name for spec in CASES.values() for name in within(spec)}
    assert set(TWINS) - used == {"BiasedAttention"}  # the form of Attention that biases need


def parts_of(text):
    tree = ast.parse(text)
    (table,) = (node.value for node in tree.body if isinstance(node, ast.Assign) and node.targets[0].id == "PARTS")
    return {ast.literal_eval(key): value.id for key, value in zip(table.keys, table.values, strict=True)}


def shown(plan):
    return parts_of(plan.files["modeling_strata.py"])


def test_a_file_has_the_twins_of_its_parts_and_no_others():
    _, params = tiny.draw(decoder())
    text = Generated().plan(decoder(), params, FACTS).files["modeling_strata.py"]
    classes = {node.name for node in ast.parse(text).body if isinstance(node, ast.ClassDef)}
    assert {"StrataRMSNorm", "StrataRotary", "StrataPreNorm", "StrataGatedMLP", "StrataCausal"} <= classes
    assert not {"StrataLayerNorm", "StrataALiBi", "StrataMLP", "StrataPostNorm", "StrataBiasedAttention"} & classes
    assert "jax" not in text and "arch." not in text.replace("torch.", "").replace("arxiv", "")  # noqa: PT018
    imported = {node.module.partition(".")[0] for node in ast.walk(ast.parse(text))
                if isinstance(node, ast.ImportFrom) and not node.level}  # fmt: skip
    assert imported <= {"torch", "transformers", "typing", "math"}


def test_sources_parse_and_need_only_each_other():
    names = {path.stem for path in SOURCES.glob("*.py")} - {"__init__"}
    assert len(names) > 50
    for name in names:
        assert set(needs(name)) <= names, name
    used = {twin.source for twin in TWINS.values()}
    assert used <= names


def test_compose_puts_what_is_needed_first():
    text = compose(["deep_norm"], "A title.", {"DeepNorm": "StrataDeepNorm"}, {})
    order = [node.name for node in ast.parse(text).body if isinstance(node, ast.ClassDef)]
    assert order == ["StrataBlock", "StrataPostNorm", "StrataDeepNorm"]
    assert "from ." not in text


def test_only_a_plain_norm_is_called_rmsnorm():
    named = [twin for twin in TWINS.values() if twin.name.endswith("RMSNorm")]
    assert named == [TWINS["RMSNorm"]]


SOURCE = '''
"""A norm with one gain."""

import torch
from torch import nn


class MyScaleNorm(nn.Module):
    def __init__(self, part, width, depth=None):
        super().__init__()
        self.length, self.eps = nn.Parameter(torch.ones(1)), part["eps"]

    def forward(self, hidden_states):
        return self.length * hidden_states / (hidden_states.square().sum(-1, keepdim=True) + self.eps).sqrt()
'''


@dataclasses.dataclass(frozen=True)
class ScaleNorm(Norm):
    """g x / |x| (arXiv 1910.05895), as a user writes it, with its twin."""

    hf: ClassVar = Twin("MyScaleNorm", SOURCE, arrays={"gain": "length"})
    eps: float = 1e-6

    def build(self, width, make, axis="embed"):
        return ScaleNormLayer(self, width, make)


class ScaleNormLayer(nnx.Module):
    def __init__(self, spec, width, make):
        self.eps = spec.eps
        self.gain = make.constant([(1, None)], width**0.5)

    def __call__(self, x, ctx):
        return x / jnp.sqrt(jnp.sum(jnp.square(x), axis=-1, keepdims=True) + self.eps) * self.gain[...]


@dataclasses.dataclass(frozen=True)
class Bare(ScaleNorm):
    """The same, without a twin of its own."""


def test_a_part_of_a_users_own_brings_its_twin():
    spec = decoder(block(norm=ScaleNorm()), norm=ScaleNorm())
    found = plan(spec, tiny.draw(spec)[1], FACTS)
    assert found.tier == "generated code"
    assert SOURCE.strip().splitlines()[-1] in found.files["modeling_strata.py"]
    names = {one.name for one in found.tensors}
    assert {"model.norm.length", "model.layers.1.mixer_norm.length"} <= names
    assert not [name for name in names if "gain" in name or name.endswith("norm.weight")]


def test_a_part_without_a_twin_is_refused_by_name():
    spec = decoder(block(norm=Bare()))
    with pytest.raises(
        UserError, match=r"generated code: Bare has no twin in PyTorch; a class of your own brings one as `hf"
    ):
        plan(spec, tiny.draw(spec)[1], FACTS)


def test_two_parts_of_one_name_are_refused():
    @dataclasses.dataclass(frozen=True)
    class RMSNorm(ScaleNorm):
        hf: ClassVar = Twin("MyScaleNorm", SOURCE)

    spec = decoder(block(norm=RMSNorm()))
    with pytest.raises(UnfitError, match="two parts of this name"):
        Generated().plan(spec, tiny.draw(spec)[1], FACTS)


def test_reasons_are_told():
    from arch.layers.recurrent.int8_lstm import Int8LSTMCell
    from arch.layers.recurrent.lstm import LSTM

    with pytest.raises(UnfitError, match="Int8LSTMCell has no twin in PyTorch: integer arithmetic"):
        planned(mixing(LSTM(cell=Int8LSTMCell())), FACTS)
    with pytest.raises(UnfitError, match=r"a bottleneck at mlp.post has no twin in PyTorch; at attn.z of Attention, "):
        planned(decoder(block(at=(("mlp.post", Codebook(9)),))), FACTS)
    passing = dataclasses.replace(translator(depths=(2, 2)), compat="pass_hidden_state")
    with pytest.raises(UnfitError, match=r"GNMT\.compat=pass_hidden_state has no twin in PyTorch; paper has"):
        planned(passing, FACTS)
    with pytest.raises(UnfitError, match="gradient=Rotation has no twin"):
        planned(decoder(block(at=(("mlp_out", Codebook(9, gradient=Rotation())),))), FACTS)


def test_the_standard_class_comes_first():
    spec = decoder(norm=RMSNorm())
    assert plan(spec, tiny.draw(spec)[1], FACTS).tier == "standard class"
    found = plan(CASES["position alibi"], tiny.draw(CASES["position alibi"])[1], FACTS)
    assert found.tier == "generated code"
    assert "not standard class: " in found.reason


def test_configuration_says_what_tools_look_for():
    spec = CASES["windows by layer"]
    config = Generated().plan(spec, tiny.draw(spec)[1], FACTS).config
    kinds = ["sliding_attention", "full_attention", "full_attention", "sliding_attention"]
    assert (config["layer_types"], config["sliding_window"]) == (kinds, 3)
    assert config["parts"]["layers"] == [0, 1, 2, 0]
    assert config["auto_map"]["AutoModel"] == "modeling_strata.StrataModel"
    assert not {"temperature", "top_k", "max_length"} & set(config)
    labels = classifier()
    told = Generated().plan(labels, tiny.draw(labels)[1], FACTS).config
    assert told["num_labels"] == 3 and told["architectures"] == ["StrataForSequenceClassification"]  # noqa: PT018


def test_tensors_are_ours_the_way_torch_has_them():
    spec = decoder(block(kv_heads=2, linear=tiny_bias()))
    _, params = tiny.draw(spec)
    found = {one.name: one for one in Generated().plan(spec, params, FACTS).tensors}
    kernel = np.asarray(params["stack"]["blocks"]["mixer"]["o"]["kernel"])[1]  # [N, K, D]
    theirs = found["model.layers.1.self_attn.o_proj.weight"]
    assert theirs.shape == (tiny.D, tiny.D)
    np.testing.assert_array_equal(theirs.value(), kernel.reshape(-1, tiny.D).T)
    assert found["model.layers.0.self_attn.k_proj.bias"].shape == (2 * tiny.D // tiny.N,)


def tiny_bias():
    from arch.layers.linear import Dense

    return Dense(bias=True)
