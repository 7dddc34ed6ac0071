"""Exported folders opened by Transformers: logits, padding, generation, gradients. Float32, CPU."""

import numpy as np
import pytest
import torch
import transformers

from tests.arch.hf import cases

pytestmark = pytest.mark.filterwarnings("ignore")
QUICK = ("llama", "t5")


def opened(folder):
    """The model in a folder; it must need every tensor, and miss none."""
    config = transformers.AutoConfig.from_pretrained(folder)
    kind = getattr(transformers, config.architectures[0])
    model, told = kind.from_pretrained(folder, attn_implementation="eager", output_loading_info=True)
    assert not told["missing_keys"], told
    assert not told["unexpected_keys"], told
    assert not told["mismatched_keys"], told
    return model.eval()


def theirs(model, tokens, source=None, mask=None):
    ask = lambda ids: torch.from_numpy(np.asarray(ids)).long()  # noqa: E731
    told = {"use_cache": False} if "use_cache" in model.config.to_dict() else {}
    with torch.no_grad():
        if source is not None:
            return model(input_ids=ask(source), decoder_input_ids=ask(tokens), use_cache=False).logits.numpy()
        return model(ask(tokens), attention_mask=None if mask is None else ask(mask), **told).logits.numpy()


def near(ours, theirs, most=1e-5):
    assert np.std(theirs) > 0.1
    scale = np.abs(theirs).max()
    assert np.abs(ours - theirs).max() <= most * scale, np.abs(ours - theirs).max() / scale


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in cases.CASES]
)
def test_logits(name, tmp_path):
    spec, params = cases.drawn(name)
    plan = cases.export(spec, params, tmp_path / "out")
    assert plan.config["model_type"] == cases.KINDS[name]
    model = opened(tmp_path / "out")
    tokens = cases.tokens()
    source = cases.tokens(length=14, seed=1) if "t5" in name else None
    near(cases.logits(spec, params, tokens, source), theirs(model, tokens, source))
