"""Exported folders opened by Transformers: logits, padding, generation, gradients. Float32, CPU."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
import transformers

from arch.decode.generate import generate
from arch.hf.tiers import plan
from arch.models.base import Inputs
from arch.params import merge
from tests.arch import tiny
from tests.arch.hf import cases
from tests.arch.hf.test_fold import ALL, LNS

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
    tokens[:, 0] = cases.FACTS.bos  # as rows begin
    source = cases.tokens(length=14, seed=1) if "t5" in name else None
    if source is not None:
        source[:, -1] = cases.FACTS.eos
    near(cases.logits(spec, params, tokens, source), theirs(model, tokens, source))


@pytest.mark.parametrize("name", ["t5", pytest.param("t5gemma", marks=pytest.mark.slow)])
def test_a_pair_is_trained_further_by_labels(name, tmp_path):
    """Which Transformers shifts by itself, behind the token that begins."""
    spec, params = cases.drawn(name)
    cases.export(spec, params, tmp_path / "out")
    model, source, target = opened(tmp_path / "out"), cases.tokens(length=9), cases.tokens(length=5, seed=2)
    told = model(input_ids=torch.from_numpy(source).long(), labels=torch.from_numpy(target).long(), use_cache=False)
    begun = np.concatenate([np.full((len(target), 1), cases.FACTS.bos, np.int32), target[:, :-1]], axis=1)
    ours = jax.nn.log_softmax(cases.logits(spec, params, begun, source))
    wanted = -np.take_along_axis(np.asarray(ours), target[..., None], axis=2).mean()
    assert float(told.loss) == pytest.approx(wanted, rel=1e-4)


@pytest.mark.parametrize("spec", [LNS, pytest.param(ALL, marks=pytest.mark.slow)], ids=["lns", "all constants"])
def test_folded_constants(spec, tmp_path):
    spec, params = cases.random(spec)
    assert cases.export(spec, params, tmp_path / "out").config["model_type"] == "llama"
    tokens = cases.tokens()
    near(cases.logits(spec, params, tokens), theirs(opened(tmp_path / "out"), tokens))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["llama", "gpt2", "bert", "modernbert", "modernbert-decoder"])
def test_padding(name, tmp_path):
    """Rows of unequal lengths: the logits of what is there."""
    spec, params = cases.drawn(name)
    cases.export(spec, params, tmp_path / "out")
    tokens, lengths = cases.tokens(3), np.array([cases.T, 4, 7])
    there = (np.arange(cases.T)[None] < lengths[:, None]).astype(np.int32)
    ours = cases.logits(spec, params, np.where(there, tokens, 0).astype(np.int32), segments=there)
    other = theirs(opened(tmp_path / "out"), np.where(there, tokens, 1), mask=there)
    keep = there.astype(bool)
    near(ours[keep], other[keep])


@pytest.mark.slow
def test_64_tokens_by_a_cache(tmp_path):
    spec, params = cases.drawn("llama")
    cases.export(spec, params, tmp_path / "out")
    graphdef, _ = tiny.draw(spec)
    prompt = cases.tokens(1, 5)
    ours = generate(merge(graphdef, jax.tree.map(jnp.asarray, params), {}), prompt.tolist(), 64).tokens
    model = opened(tmp_path / "out")
    model.generation_config.eos_token_id = None
    other = model.generate(torch.from_numpy(prompt).long(), max_new_tokens=64, do_sample=False)[:, 5:].numpy()
    assert len(set(other[0].tolist())) > 3
    np.testing.assert_array_equal(ours, other)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["gpt2", "gpt_neox", "llama mha tied"])
def test_gradients(name, tmp_path):
    """Of the mean cross-entropy of one batch, each laid out as its tensor."""
    spec, params = cases.drawn(name)
    cases.export(spec, params, tmp_path / "out")
    graphdef, _ = tiny.draw(spec)
    tokens = cases.tokens(3)

    def loss(params):
        logits = merge(graphdef, params, {})(Inputs(tokens=jnp.asarray(tokens[:, :-1]))).logits
        return -jnp.mean(jnp.take_along_axis(jax.nn.log_softmax(logits), jnp.asarray(tokens[:, 1:, None]), axis=-1))

    found = jax.tree.map(np.asarray, jax.jit(jax.grad(loss))(params))
    model = opened(tmp_path / "out")  # without dropout
    ids = torch.from_numpy(tokens).long()
    logits = model(ids[:, :-1]).logits
    torch.nn.functional.cross_entropy(logits.reshape(-1, cases.V), ids[:, 1:].reshape(-1)).backward()
    gradients = {name: value.grad.numpy() for name, value in model.named_parameters()}
    laid = {one.name.replace("embed_out", "lm_head"): one.value() for one in plan(spec, found, cases.FACTS).tensors}
    assert laid.keys() == gradients.keys()
    for name, value in laid.items():
        scale = np.abs(gradients[name]).max()
        np.testing.assert_allclose(value, gradients[name], rtol=1e-4, atol=1e-4 * max(scale, 1e-3), err_msg=name)
