"""Verdicts on served exports: the rules on what is written, and broken copies of it; the dry run."""

import json

import pytest

from arch.hf.family import Facts
from arch.hf.folder import write
from arch.hf.serving import verdict
from tests.arch.hf import cases
from tests.arch.hf.generated_cases import CASES, planned

FACTS = Facts(context=128, bos=0, eos=1)
SERVED = ("block pre", "block admin", "window", "qk-norm", "position learned", "embedding scaled", "head tied softcap",
          "stack parallel", "block deep", "codebooks at attn.z",
          "codebook between layers", "softcap and scale")  # fmt: skip
REFUSED = {
    "position alibi": "ALiBi is an additive mask, which servers drop",
    "position t5_model": "T5Relative is an additive mask, which servers drop",
    "causal and strided": "Both is a mask of its own, which servers drop",
    "windows by layer": "SlidingWindow is a mask of its own, which servers drop",
    "mixer linear": "LinearAttention mixes tokens outside the attention function",
    "mixer lstm": "LSTM mixes tokens outside the attention function",
    "head clipped": "they make logits without ClippedHead",
    "encoder": "it is no causal language model",
    "classifier": "it is no causal language model",
    "pair": "an encoder-decoder, which they refuse",
}


def folder(name, to):
    spec = CASES[name]
    write(planned(spec, FACTS), to)
    return to


@pytest.mark.parametrize("name", SERVED)
def test_served(name, tmp_path):
    assert verdict(folder(name, tmp_path / "out")).line == (
        "opens in Transformers: yes; served by vLLM: yes, by SGLang: yes"
    )


@pytest.mark.parametrize("name", REFUSED)
def test_not_served(name, tmp_path):
    found = verdict(folder(name, tmp_path / "out"))
    assert found.line.startswith(f"Transformers only ({REFUSED[name]}"), found.line


BREAKS = {
    "scaling=self.scaling": (
        "scaling=self.scaling * 2.0",
        "StrataAttention must give scaling= a number or an attribute",
    ),
    "self.layer_idx = layer_idx\n        self.head_dim": ("self.head_dim", "StrataAttention must keep its layer_idx"),
    "            **kwargs,\n        )\n        if self.z": (
        "        )\n        if self.z",
        "StrataAttention must hand **kwargs",
    ),
    "nn.ModuleList(": ("list(", "StrataModel must hold its layers in one nn.ModuleList"),
    "        position_ids=None,\n        cache=None,\n        inputs_embeds=None,\n        use_cache=None,\n": (
        "        cache=None,\n        inputs_embeds=None,\n        use_cache=None,\n",
        "StrataModel.forward does not take position_ids",
    ),
}


@pytest.mark.parametrize("old", BREAKS)
def test_broken_copies(old, tmp_path):
    new, why = BREAKS[old]
    path = folder("block pre", tmp_path / "out") / "modeling_strata.py"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    found = verdict(tmp_path / "out")
    assert why in found.vllm, found
    assert not found.transformers


def test_sglang_replaces_what_is_called_rmsnorm(tmp_path):
    path = folder("norm depth-scaled", tmp_path / "out") / "modeling_strata.py"
    text = path.read_text()
    assert verdict(tmp_path / "out").sglang == ""
    path.write_text(text.replace("StrataDepthScaled", "StrataDepthRMSNorm"))
    found = verdict(tmp_path / "out")
    assert (found.vllm, "StrataDepthRMSNorm is replaced by a plain RMSNorm" in found.sglang) == ("", True)
    assert found.line.startswith("opens in Transformers: yes; served by vLLM: yes, by SGLang: no (")
    plain = folder("block pre", tmp_path / "plain") / "modeling_strata.py"
    plain.write_text(plain.read_text().replace("return self.weight * x.to", "return 2 * self.weight * x.to"))
    assert "does not end in the product with its weight" in verdict(tmp_path / "plain").sglang


def test_what_transformers_would_not_open(tmp_path):
    path = folder("block pre", tmp_path / "out") / "modeling_strata.py"
    text = path.read_text()
    path.write_text(text.replace("        self.post_init()\n", "        self.post_init()\n        self.more = 1\n"))
    assert "does not end in self.post_init()" in verdict(tmp_path / "out").transformers
    path.write_text(text.replace("_tied_weights_keys = None", '_tied_weights_keys = ["lm_head.weight"]'))
    assert "is no dict" in verdict(tmp_path / "out").line


@pytest.mark.parametrize("name", ["../elsewhere.StrataModel", "other/repo--modeling_strata.StrataModel", "missing.A"])
def test_code_outside_the_folder(name, tmp_path):
    config = folder("block pre", tmp_path / "out") / "config.json"
    told = json.loads(config.read_text())
    told["auto_map"]["AutoModel"] = name
    config.write_text(json.dumps(told))
    assert "is no class of a file in the folder" in verdict(tmp_path / "out").transformers


def test_standard_classes(tmp_path):
    for name, served in (("llama", True), ("bert", False), ("t5", False)):
        cases.export(*cases.drawn(name), tmp_path / name)
        assert (verdict(tmp_path / name).vllm == "") is served


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", [*SERVED, "block sandwich", "stack groups"])
def test_dry_run_of_what_is_served(name, tmp_path):
    from arch.hf.dry_run import difference, served

    out = folder(name, tmp_path / name.replace(" ", "_"))
    assert difference(out) == ""
    assert served(out).vllm == ""


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ["position alibi", "causal and strided"])
def test_dry_run_of_what_is_not(name, tmp_path):
    """It finds by itself what the rules refuse."""
    from arch.hf.dry_run import difference

    assert "two requests in one row come out" in difference(folder(name, tmp_path / name.replace(" ", "_")))
