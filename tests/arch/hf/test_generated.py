"""Folders with code of their own, opened by Transformers: logits, padding, generation, gradients. Float32, CPU."""

import dataclasses
import functools
import json
import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
import transformers

from arch.hf.family import Facts
from arch.hf.folder import write
from arch.hf.generated.tier import Generated
from arch.hf.parity import compare
from arch.models.base import Inputs
from arch.params import merge
from arch.spec import UserError
from tests.arch import tiny
from tests.arch.hf.generated_cases import CASES, EMBEDDERS, PAIRS, RECURRENT, TRANSLATORS, drawn, planned

pytestmark = pytest.mark.filterwarnings("ignore")
QUICK = ("block pre", "position alibi", "classifier")
torch.set_num_threads(1)  # the operations are tiny
FACTS = Facts(context=128, bos=0, eos=1)
T = 11


UNMOVED = ("model.stack.between.1.encoder_bias",)
"""The bias of a gate, whose step has no gradient: its own loss moves it."""


def some(names, quick):
    return pytest.mark.parametrize(
        "name", [pytest.param(name, marks=() if name in quick else pytest.mark.slow) for name in names]
    )


@functools.cache
def _folder(name, root):
    spec = CASES[name]
    to = root / name.replace(" ", "_").replace(",", "")
    write(planned(spec, FACTS), to)
    return to


@pytest.fixture(scope="session")
def root(tmp_path_factory):
    return tmp_path_factory.mktemp("generated")


def opened(folder, **options):
    """The model in a folder; it must need every tensor, and miss none."""
    kinds = json.loads((folder / "config.json").read_text())["auto_map"]
    auto = next((name for name in kinds if name.startswith("AutoModelFor")), "AutoModel")
    model, told = getattr(transformers, auto).from_pretrained(
        folder, trust_remote_code=True, output_loading_info=True, **options
    )
    assert not told["missing_keys"], told
    assert not told["unexpected_keys"], told
    assert not told["mismatched_keys"], told
    return model.eval()


@functools.cache
def case(name, root):
    return CASES[name], drawn(CASES[name]), opened(_folder(name, root))


def inputs(tokens, segments=None):
    return Inputs(tokens=jnp.asarray(tokens), segments=None if segments is None else jnp.asarray(segments))


def ours(spec, params, told):
    graphdef, _, buffers = drawn(spec)
    return np.asarray(tiny.jit(lambda params, told: merge(graphdef, params, buffers)(told).logits)(params, told))


def tokens(rows=2, length=T, seed=0):
    return np.random.default_rng(seed).integers(2, tiny.V, (rows, length), dtype=np.int32)


def theirs(model, tokens, **told):
    with torch.no_grad():
        out = model(torch.from_numpy(tokens).long(), **told)
    return answer(out).numpy()


def answer(out):
    """Logits, or the vectors of an embedder."""
    return out.logits if "logits" in out else out.pooler_output[:, None]


def near(ours, theirs, most=1e-5):
    assert np.std(theirs) > 0.05
    scale = np.abs(theirs).max()
    assert np.abs(ours - theirs).max() <= most * scale, np.abs(ours - theirs).max() / scale


@some(CASES, QUICK)
def test_logits_and_padding(name, root):
    """Row 0 is whole, row 1 ends in padding: what is text is ours, in both."""
    spec, (_, params, _), model = case(name, root)
    text = tokens()
    mask = np.ones_like(text)
    mask[1, 7:] = 0
    if name in PAIRS:
        source = tokens(length=11, seed=1) % 13
        told = {"decoder_input_ids": torch.from_numpy(text).long(), "attention_mask": torch.from_numpy(mask).long()}
        found = ours(spec, params, dataclasses.replace(inputs(text), source=inputs(source, mask)))
        return near(found, theirs(model, source, **told))
    told = theirs(model, text, attention_mask=torch.from_numpy(mask).long())
    found = ours(spec, params, inputs(text, mask))
    kept = slice(None) if told.ndim == 2 or name in EMBEDDERS else mask > 0
    near(found[kept], told[kept])
    return near(told[:1], theirs(model, text[:1]))


GENERATED = ("block pre", "position alibi", "position t5_model", "windows by layer", "stack groups", "qk-norm",
             "softcap and scale", "causal and strided", "position learned", *RECURRENT)  # fmt: skip


@some(GENERATED, ())
def test_cached_generation(name, root):
    """Greedy, 64 tokens, the second of two prompts padded on the left: those of the model without a cache."""
    _, _, model = case(name, root)
    prompt = torch.from_numpy(tokens(length=9)).long()
    mask = torch.ones_like(prompt)
    mask[1, :4] = 0
    told = {"attention_mask": mask, "max_new_tokens": 64, "do_sample": False, "eos_token_id": None, "pad_token_id": 0}
    whole = model.generate(prompt, **told, use_cache=True)
    assert torch.equal(whole, model.generate(prompt, **told, use_cache=False))
    assert len(set(whole[0].tolist())) > 3
    alone = model.generate(prompt[1:, 4:], max_new_tokens=64, do_sample=False, eos_token_id=None, pad_token_id=0)
    assert torch.equal(whole[1, 4:], alone[0])


@pytest.mark.slow
@pytest.mark.parametrize("name", ["block pre", "position t5_model"])
def test_generation_is_ours(name, root):
    """Token for token what the network says, each from the whole row."""
    spec, (_, params, _), model = case(name, root)
    length = 9 + 64
    row = model.generate(torch.from_numpy(tokens(1, 9)).long(), max_new_tokens=64, do_sample=False, eos_token_id=None)
    assert row.shape == (1, length)
    logits = ours(spec, params, inputs(row.numpy().astype(np.int32)))
    assert logits[0, 8:-1].argmax(-1).tolist() == row[0, 9:].tolist()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["pair", "pair t5", "pair with windows", *TRANSLATORS])
def test_pairs_generate_with_a_cache(name, root):
    """As without one, and as our network says, each token from the whole row."""
    spec, (_, params, _), model = case(name, root)
    source = torch.from_numpy(tokens(seed=1) % 13).long()
    mask = torch.ones_like(source)
    mask[1, 7:] = 0
    told = {"attention_mask": mask, "max_new_tokens": 40, "do_sample": False, "eos_token_id": None, "pad_token_id": 0}
    written = model.generate(source, **told)
    assert torch.equal(written, model.generate(source, **told, use_cache=False))
    assert len(set(written.flatten().tolist())) > 2
    read = inputs(source.numpy().astype(np.int32), mask.numpy().astype(np.int32))
    logits = ours(spec, params, dataclasses.replace(inputs(written.numpy().astype(np.int32)), source=read))
    assert logits[:, :-1].argmax(-1).tolist() == written[:, 1:].tolist()
    beams = model.generate(source, **{**told, "max_new_tokens": 8}, num_beams=3)
    assert torch.equal(beams, model.generate(source, **{**told, "max_new_tokens": 8}, num_beams=3, use_cache=False))


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    ["block admin", "block deep", "position t5", "head clipped tied", "mixer lstm", "sparse, gated", "sparse by batch",
     "sparse, few bits", "gumbel codes", "signs", "translator one table", "translator forward",
     "embedder"],
)  # fmt: skip
def test_gradients(name, root):
    """Of the sum of squares of all logits, by every weight."""
    spec, (graphdef, params, buffers), model = case(name, root)
    text = tokens()

    told = dataclasses.replace(inputs(text), source=inputs(text[:, ::-1] % 13)) if name in PAIRS else inputs(text)

    def loss(params):
        return jnp.mean(jnp.square(merge(graphdef, params, buffers)(told).logits))

    gradients = tiny.jit(jax.grad(loss))(params)
    expected = {
        one.name: one.value() for one in Generated().plan(spec, jax.tree.map(np.asarray, gradients), FACTS).tensors
    }
    model.zero_grad()
    answer(model(**asked(name, text))).square().mean().backward()
    found = {name: one.grad.numpy() for name, one in model.named_parameters(remove_duplicate=False)}
    assert expected.keys() <= found.keys()
    assert len(expected) == len(list(model.parameters()))  # a table that two read is there once
    for name, gradient in expected.items():
        assert np.abs(gradient).max() > 0 or name in UNMOVED, name
        np.testing.assert_allclose(found[name], gradient, rtol=1e-3, atol=1e-5 * np.abs(gradient).max(), err_msg=name)


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["block pre", "head tied", "pair one table", "mixer performer", "sparse by batch", "embedder", *TRANSLATORS]
)
def test_saved_and_opened_again(name, root, tmp_path):
    _, _, model = case(name, root)
    model.save_pretrained(tmp_path)
    again = opened(tmp_path)
    assert {key: value.shape for key, value in again.state_dict().items()} == {
        key: value.shape for key, value in model.state_dict().items()
    }
    for key, value in model.state_dict().items():
        assert torch.equal(value, again.state_dict()[key]), key
    told = asked(name, tokens())
    torch.testing.assert_close(answer(again(**told)), answer(model(**told)), rtol=1e-6, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [*TRANSLATORS, "mixer lstm clipped", "sparse by batch", "sparse, gated", "signs", "gumbel codes", "embedder"],
)
def test_in_16_bits(name, root):
    """Nearly the numbers of 32, and every part's types fit together, also with a cache."""
    _, _, model = case(name, root)
    small = opened(_folder(name, root), dtype=torch.bfloat16)
    told = asked(name, tokens())
    with torch.no_grad():
        wanted, found = answer(model(**told)), answer(small(**told))
    gap = (found.float() - wanted).abs().flatten().sort().values
    assert 0 < gap[len(gap) // 2] < 0.03 * wanted.abs().max()  # a code may be another
    if name in (*PAIRS, "mixer lstm clipped"):
        prompt = {"max_new_tokens": 6, "do_sample": False, "eos_token_id": None, "pad_token_id": 0}
        written = small.generate(told["input_ids"], **prompt)
        assert torch.equal(written, small.generate(told["input_ids"], **prompt, use_cache=False))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["embedder", "translator one table"])
def test_an_export_compares_them(name, root):
    """What `export` does before a folder is there: also of what has no logits, or is no trunk."""
    spec, (_, params, buffers), _ = case(name, root)
    own = (spec, params)
    assert compare(_folder(name, root), own, own, own_code=True, buffers=buffers).run < 1e-5
    other = (spec, jax.tree.map(lambda leaf: leaf * 1.01, params))
    with pytest.raises(UserError, match="Transformers gives other logits"):
        compare(_folder(name, root), other, other, own_code=True, buffers=buffers)


@pytest.mark.slow
def test_a_norm_of_all_heads_keeps_them_on_one_device(root):
    split = set(case("qk-norm", root)[2].config.base_model_tp_plan)
    assert set(case("qk-norm across heads", root)[2].config.base_model_tp_plan) == {
        one for one in split if ".mlp." in one
    }


def asked(name, text):
    ids = torch.from_numpy(text).long()
    if name not in PAIRS:
        return {"input_ids": ids}
    return {"input_ids": torch.from_numpy(text[:, ::-1] % 13).long(), "decoder_input_ids": ids}


ALONE = """
import sys
import torch
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM

model = AutoModelForCausalLM.from_pretrained(sys.argv[1], trust_remote_code=True)
base = AutoModel.from_pretrained(sys.argv[1], trust_remote_code=True)
assert AutoConfig.from_pretrained(sys.argv[1], trust_remote_code=True).model_type == "strata"
ids = torch.tensor([[3, 5, 2, 9]])
assert torch.equal(base(ids)[0], model.model(ids)[0])
assert model(ids, labels=ids).loss > 0
print(model.generate(ids, max_new_tokens=5, do_sample=False, eos_token_id=None)[0].tolist())
assert not {"jax", "flax", "arch"} & set(sys.modules), "Strata is not needed"
"""


@pytest.mark.slow
@pytest.mark.parametrize("name", ["position alibi", "codebooks at attn.z"])
def test_alone(name, root, tmp_path):
    """In a process with PyTorch and Transformers, and Strata not on the path."""
    _, _, model = case(name, root)
    environment = {**os.environ, "HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "1", "PYTHONPATH": ""}
    environment.pop("HF_MODULES_CACHE", None)
    command = [sys.executable, "-W", "ignore", "-c", ALONE, str(_folder(name, root))]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-2000:]
    ids = torch.tensor([[3, 5, 2, 9]])
    told = model.generate(ids, max_new_tokens=5, do_sample=False, eos_token_id=None)[0].tolist()
    assert done.stdout.strip().splitlines()[-1] == str(told)
