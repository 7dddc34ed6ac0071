"""Folders with code of their own, opened by Transformers: logits, padding, generation, gradients. Float32, CPU."""

import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
import transformers

from arch.hf.family import Facts
from arch.hf.folder import write
from arch.hf.generated.tier import Generated
from arch.models.base import Inputs
from arch.params import merge
from tests.arch import tiny
from tests.arch.hf.generated_cases import CASES, CLASSIFIERS, DECODERS, ENCODERS

pytestmark = pytest.mark.filterwarnings("ignore")
QUICK = ("block pre", "position alibi", "classifier")
FACTS = Facts(context=128, bos=0, eos=1)
T = 11


def some(names, quick):
    return pytest.mark.parametrize(
        "name", [pytest.param(name, marks=() if name in quick else pytest.mark.slow) for name in names]
    )


@functools.cache
def _folder(name, root):
    spec = CASES[name]
    _, params = tiny.draw(spec)
    to = root / name.replace(" ", "_").replace(",", "")
    write(Generated().plan(spec, params, FACTS), to)
    return to


@pytest.fixture(scope="session")
def root(tmp_path_factory):
    return tmp_path_factory.mktemp("generated")


def opened(folder, **options):
    """The model in a folder; it must need every tensor, and miss none."""
    (auto,) = (
        name for name in json.loads((folder / "config.json").read_text())["auto_map"] if name.startswith("AutoModelFor")
    )
    model, told = getattr(transformers, auto).from_pretrained(
        folder, trust_remote_code=True, output_loading_info=True, **options
    )
    assert not told["missing_keys"], told
    assert not told["unexpected_keys"], told
    assert not told["mismatched_keys"], told
    return model.eval()


@functools.cache
def case(name, root):
    return CASES[name], tiny.draw(CASES[name]), opened(_folder(name, root))


def ours(spec, params, tokens, segments=None):
    graphdef, _ = tiny.draw(spec)

    def run(params, tokens, segments):
        return merge(graphdef, params, {})(Inputs(tokens=tokens, segments=segments)).logits

    segments = None if segments is None else jnp.asarray(segments)
    return np.asarray(tiny.jit(run)(params, jnp.asarray(tokens), segments))


def tokens(rows=2, length=T, seed=0):
    return np.random.default_rng(seed).integers(2, tiny.V, (rows, length), dtype=np.int32)


def theirs(model, tokens, **told):
    with torch.no_grad():
        return model(torch.from_numpy(tokens).long(), **told).logits.numpy()


def near(ours, theirs, most=1e-5):
    assert np.std(theirs) > 0.05
    scale = np.abs(theirs).max()
    assert np.abs(ours - theirs).max() <= most * scale, np.abs(ours - theirs).max() / scale


@some(CASES, QUICK)
def test_logits_and_padding(name, root):
    """Row 0 is whole, row 1 ends in padding: what is text is ours, in both."""
    spec, (_, params), model = case(name, root)
    text = tokens()
    mask = np.ones_like(text)
    mask[1, 7:] = 0
    told = theirs(model, text, attention_mask=torch.from_numpy(mask).long())
    found = ours(spec, params, text, mask)
    if told.ndim == 2 or name in CLASSIFIERS:
        near(found if told.ndim == 2 else found[mask > 0], told if told.ndim == 2 else told[mask > 0])
    else:
        near(found[mask > 0], told[mask > 0])
    near(told[0], theirs(model, text)[0])
