"""The adapter of MTEB: each text's vector is that of the text alone, pooled as its family does."""

import dataclasses
import sys
import types

import jax
import numpy as np
import pytest

from arch.blocks import PreNorm
from arch.layers.attention.masks import Bidirectional, SlidingWindow
from arch.layers.attention.softmax import Attention
from arch.layers.feed_forward import MLP
from arch.layers.positions import Learned, NoPosition
from arch.models.classifier import Classifier
from arch.models.decoder import Decoder
from arch.models.encoder import Encoder
from arch.spec import UserError
from experiments.suites.mteb import TextEncoder
from tests.experiments.suites.letters import Letters, opened, read
from tests.train import toys
from train.objectives.masked_lm import MaskedLM

V, D, LIMIT = toys.VOCAB, 16, 40
PLACES = {"position": Learned(LIMIT)}
BLOCK = PreNorm(mixer=Attention(heads=2, position=NoPosition()), feed_forward=MLP(hidden=24))
SEEING = PreNorm(mixer=Attention(heads=2, position=NoPosition(), mask=Bidirectional()), feed_forward=MLP(hidden=24))
TEXTS = ["abc", "a b c d e f g", "", "x" * 50, "then the path"]


@pytest.fixture(scope="module")
def models():
    return {
        "decoder": opened(Decoder(V, D, 1, BLOCK, **PLACES)),
        "encoder": opened(Encoder(V + 1, D, 1, SEEING, **PLACES), objective=MaskedLM()),
    }


@pytest.mark.parametrize("family", ["decoder", "encoder"])
def test_vectors(models, family):
    model = models[family]
    found = TextEncoder(model, batch=2).encode(TEXTS, task_name="any", prompt_type="query")
    assert (found.shape, found.dtype) == ((len(TEXTS), D), np.float32)
    for text, vector in zip(TEXTS, found, strict=True):
        tokens = [0, *Letters().encode(text), *([1] if family == "encoder" else [])][:LIMIT]
        hidden = np.asarray(read(model.model, tokens).hidden[0])
        wanted = hidden.mean(axis=0) if family == "encoder" else hidden[-1]
        np.testing.assert_allclose(vector, wanted, atol=1e-4)


def test_batches_of_texts_are_texts(models):
    encoder = TextEncoder(models["decoder"], batch=2)
    np.testing.assert_array_equal(encoder.encode([{"text": TEXTS[:3]}, {"text": TEXTS[3:]}]), encoder.encode(TEXTS))


def test_similarities(models):
    rng = np.random.default_rng(0)
    one, other = rng.normal(size=(3, D)), rng.normal(size=(3, D))
    cosine = [[a @ b / np.sqrt(a @ a * (b @ b)) for b in other] for a in one]
    encoder = TextEncoder(models["decoder"])
    np.testing.assert_allclose(encoder.similarity(one, other), cosine)
    np.testing.assert_allclose(encoder.similarity_pairwise(one, other), np.diagonal(cosine))


def test_results_are_kept_by_weights_tokenizer_and_length(models, monkeypatch):
    """MTEB takes the results of a name and a revision for those of any model that has both."""

    class ModelMeta:
        create_empty = staticmethod(lambda given: given)

    monkeypatch.setitem(sys.modules, "mteb.models.model_meta", types.SimpleNamespace(ModelMeta=ModelMeta))
    model = models["decoder"]
    about = TextEncoder(model).mteb_model_meta
    sizes = [leaf.size for leaf in jax.tree.leaves(model.params)]
    assert (about["name"], about["n_parameters"], about["max_tokens"]) == ("strata/decoder", sum(sizes), LIMIT)
    assert TextEncoder(model, batch=3).mteb_model_meta == about
    other = dataclasses.replace(model, state={**model.state, "params": jax.tree.map(lambda x: x + 1, model.params)})
    run = model.program.run
    seen = dataclasses.replace(BLOCK, mixer=dataclasses.replace(BLOCK.mixer, mask=SlidingWindow(3)))
    masked = dataclasses.replace(run, model=dataclasses.replace(run.model, block=seen))
    masked = dataclasses.replace(model, program=dataclasses.replace(model.program, run=masked))
    others = (*map(TextEncoder, (other, masked, models["encoder"])), TextEncoder(model, length=5))
    revisions = [about["revision"], *(one.mteb_model_meta["revision"] for one in others)]
    assert len(set(revisions)) == 5


def test_what_embeds_nothing_is_refused(models):
    run = toys.run(model=Classifier(V, D, 1))
    odd = models["decoder"].program
    with pytest.raises(UserError, match="Classifier is none"):
        TextEncoder(dataclasses.replace(models["decoder"], program=dataclasses.replace(odd, run=run)))
