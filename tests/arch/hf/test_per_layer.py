"""Why no model is written as a standard class with `per_layer_config`, and that it is so in Transformers as it is."""

import sys
from pathlib import Path

import pytest

from arch.hf.family import Facts, UnfitError
from arch.hf.tiers import FAMILIES, PerLayer
from tests.arch import tiny


def test_the_tier_says_why():
    with pytest.raises(UnfitError, match=r"no standard class .* reads per_layer_config \(Transformers 5\.24\)"):
        PerLayer().plan(tiny.decoder(), {}, Facts())


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_no_class_with_a_counterpart_reads_it():
    """The day that one does, this fails: then there is a tier to write."""
    transformers = pytest.importorskip("transformers")
    assert len(FAMILIES) > 10
    for family in FAMILIES:
        cls = getattr(transformers, family.architecture, None)
        if cls is not None:
            text = Path(sys.modules[cls.__module__].__file__).read_text(encoding="utf-8")
            assert "per_layer_config" not in text, family.architecture
            assert "heterogeneous" not in text, family.architecture


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_llama_refuses_layers_of_unlike_widths():
    transformers = pytest.importorskip("transformers")
    sizes = {"hidden_size": 16, "num_attention_heads": 2, "num_hidden_layers": 2, "vocab_size": 9}
    config = transformers.LlamaConfig(**sizes, per_layer_config={1: {"intermediate_size": 24}})
    with pytest.raises(RuntimeError, match=r"intermediate_size. is a per-layer attribute"):
        transformers.LlamaForCausalLM(config)
