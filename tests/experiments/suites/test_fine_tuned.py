"""Fine-tuned scores: where the training starts, which learning rate is taken, and the ranks of the trained logits."""

import dataclasses
from types import SimpleNamespace

import jax
import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from arch.blocks import PreNorm
from arch.layers.attention.masks import Bidirectional
from arch.layers.attention.softmax import Attention
from arch.layers.feed_forward import MLP
from arch.layers.heads.pooling import LastPooling, MeanPooling
from arch.models.base import Inputs
from arch.models.classifier import Classifier
from arch.models.decoder import Decoder
from arch.models.encoder import Encoder
from arch.models.encoder_decoder import EncoderDecoder, reading
from arch.models.tagger import Tagger
from arch.models.trunk import Trunk
from arch.spec import SpecError, UserError
from experiments.suites.base import score
from experiments.suites.catalogue import SUITES, named
from experiments.suites.fine_tuned import FineTuned, ReplacedTokens, SameText
from experiments.suites.same_pair import SamePair
from tests.experiments.suites.letters import Letters
from tests.train import toys
from train.data.parallel import ParallelCorpus, ParallelSource
from train.data.reversal import Reversed
from train.objectives.masked_lm import MaskedLM
from train.objectives.sequence_to_sequence import SequenceToSequence
from train.setup import prepare
from train.trained import TrainedRun

V = toys.VOCAB
BLOCK = PreNorm(mixer=Attention(heads=2), feed_forward=MLP(hidden=24))
SEEING = PreNorm(mixer=Attention(heads=2, mask=Bidirectional()), feed_forward=MLP(hidden=24))
DATA = toys.Toy(rows=400, held_out=60)
RUNS = {
    "decoder": toys.run(model=Decoder(V, 16, 1, BLOCK), data=DATA),
    "encoder": toys.run(model=Encoder(V + 1, 16, 1, SEEING), data=DATA, objective=MaskedLM()),
}


def opened(run, scale=1.0):
    """A model that is fresh, times `scale`: another than fresh parameters of the same seed."""
    dataset = run.data.build()
    program = prepare(run, dataset.description)
    state = jax.device_get(program.start())
    return TrainedRun(
        program, {**state, "params": jax.tree.map(lambda x: x * np.float32(scale), state["params"])}, dataset, 0
    )


def scored(monkeypatch, one, model):
    """The score, and the model that it has trained for it."""
    kept, tuned = [], FineTuned.tuned
    monkeypatch.setattr(FineTuned, "tuned", lambda *told: kept.append(tuned(*told)) or kept[0])
    return score((one,), model, "validation"), kept[0]


def trunk(tree):
    leaves = jax.tree_util.tree_leaves_with_path({name: below for name, below in tree.items() if name != "head"})
    return {jax.tree_util.keystr(path): np.asarray(leaf) for path, leaf in leaves}


def test_ranks_of_the_best_learning_rate(monkeypatch):
    """The numbers are those of scikit-learn on the trained model's logits; a rate that learns nothing and one that
    diverges are not taken."""
    one = ReplacedTokens(rows=60, trained_on=400, steps=300, batch=16, learning_rates=(1e-9, 2e-2, 1e30))
    found, after = scored(monkeypatch, one, opened(RUNS["encoder"]))
    assert isinstance(after.program.run.model, Tagger)
    assert after.program.run.optimizer.learning_rate == 2e-2
    rows = after.dataset.rows["validation"].gather(np.arange(60))
    out = after.model(Inputs(rows["tokens"], rows["positions"], rows["segments"]))
    counts = rows["segments"] > 0
    right, margin = rows["labels"][counts], np.asarray(out.logits[..., 1] - out.logits[..., 0])[counts]
    assert found["replaced_auc_score"] == pytest.approx(roc_auc_score(right, margin), abs=1e-3)
    assert found["replaced_precision_score"] == pytest.approx(average_precision_score(right, margin), abs=1e-2)
    assert found["replaced_auc_score"] > 0.65


def test_it_starts_from_the_trunk_of_the_scored_model(monkeypatch):
    model = opened(RUNS["decoder"], scale=1.5)
    one = ReplacedTokens(rows=20, trained_on=8, steps=1, batch=8, learning_rates=(1e-20,))
    _, after = scored(monkeypatch, one, model)
    before, found = trunk(model.params), trunk(after.params)
    assert before.keys() == found.keys()
    for path, leaf in before.items():
        np.testing.assert_array_equal(found[path], leaf)
    assert after.program.run.model.block == BLOCK
    assert set(after.params["head"]) == {"kernel", "bias"}


def test_pairs_of_texts(monkeypatch):
    """The accuracy and the ranks of a model of pairs that is all but untrained."""
    model = opened(RUNS["decoder"], scale=1.5)
    one = SameText(rows=20, trained_on=8, steps=1, batch=8, learning_rates=(1e-20,))
    found, after = scored(monkeypatch, one, model)
    before, trained = trunk(model.params), trunk(after.params)
    for path, leaf in before.items():
        np.testing.assert_array_equal(trained[path], leaf)
    rows = after.dataset.rows["validation"].gather(np.arange(20))
    second = Inputs(rows["tokens2"], segments=rows["segments2"])
    logits = after.model(Inputs(rows["tokens"], segments=rows["segments"], second=second)).logits
    margins, right = np.asarray(logits) @ [-1, 1], rows["label"]
    assert found["same_text_accuracy"] == pytest.approx(((margins > 0) == (right == 1)).mean())
    assert found["same_text_auc_score"] == pytest.approx(roc_auc_score(right, margins), abs=1e-6)


WORDS = ("sun", "moon", "star", "sky", "sea", "fish", "bird", "tree")


@dataclasses.dataclass(frozen=True)
class Renderings(ParallelSource):
    """Pairs of a word and the same word twice, eight of a document."""

    def identity(self):
        return "renderings"

    def build(self, progress=None):
        records = [{"source": word, "target": f"{word} {word}", "document": str(n)} for n in range(9) for word in WORDS]
        splits = dict.fromkeys(self.splits, records)
        features = ("source", "target", "document")
        found = SimpleNamespace(splits=splits, features=features, columns=lambda split, *names: (
            tuple(record[name] for name in names) for record in splits[split]))  # fmt: skip
        return ParallelCorpus(found)


def lettered(run):
    model = opened(run, scale=1.5)
    model.dataset.tokenizer = Letters()
    return model


def test_two_renderings_of_a_text(monkeypatch):
    """The accuracy and the ranks of a model that has learnt a little, on both sides as the model's tokenizer reads
    them."""
    one = SamePair(rows=72, trained_on=72, steps=60, batch=24, learning_rates=(1e-9, 1e-2), pairs=Renderings())
    monkeypatch.setattr(SamePair, "refusal", lambda *_: "")  # toys are no text, but for the tokenizer they are given
    found, after = scored(monkeypatch, one, lettered(RUNS["encoder"]))
    assert after.program.run.optimizer.learning_rate == 1e-2
    rows = after.dataset.rows["validation"].gather(np.arange(72))
    assert Letters().decode(rows["tokens"][1]) == "moon"
    assert Letters().decode(rows["tokens2"][1]) == ("moon moon" if rows["label"][1] else "star star")
    second = Inputs(rows["tokens2"], segments=rows["segments2"])
    logits = after.model(Inputs(rows["tokens"], segments=rows["segments"], second=second)).logits
    margins, right = np.asarray(logits) @ [-1, 1], rows["label"]
    assert found["same_pair_accuracy"] == pytest.approx(((margins > 0) == (right == 1)).mean(), abs=1e-6)
    assert found["same_pair_auc_score"] == pytest.approx(roc_auc_score(right, margins), abs=1e-3)
    assert found["same_pair_auc_score"] > 0.65


def test_shared_tokens_tell_renderings_apart():
    model = lettered(RUNS["decoder"])
    (baseline,) = SamePair(rows=72, pairs=Renderings()).baselines(model.dataset, "validation")
    assert baseline.name == "shared tokens"
    assert baseline.values == {"same_pair_auc_score": 1.0}, "the same letters, and others"


def test_renderings_that_cannot_be_read_are_refused():
    model = lettered(RUNS["decoder"])
    one = SamePair(pairs=Renderings())
    with pytest.raises(UserError, match="Renderings has no split 'test', which is scored"):
        one.baselines(model.dataset, "test")
    assert "Toy is no running text" in one.refusal(RUNS["decoder"])
    del model.dataset.tokenizer
    with pytest.raises(UserError, match="has no tokenizer"):
        one.baselines(model.dataset, "validation")


def test_each_family_is_pooled_as_it_can():
    encoder, decoder = RUNS["encoder"].model, RUNS["decoder"].model
    assert SameText().matcher(encoder).pooling == MeanPooling()
    assert SameText().matcher(decoder).pooling == LastPooling()
    assert SameText(pooled="last").matcher(encoder).pooling == LastPooling()
    assert SameText(pooled="mean").matcher(decoder).pooling == MeanPooling()
    assert SameText().matcher(decoder).block == BLOCK


def test_what_cannot_be_fine_tuned_is_refused():
    for run in RUNS.values():
        assert named("fine_tuned", run) == SUITES["fine_tuned"]
    one = ReplacedTokens()
    pair = EncoderDecoder(encoder=Trunk(V, 16, 1, SEEING), decoder=Trunk(V, 16, 1, reading(BLOCK)))
    pairs = toys.run(model=pair, data=Reversed(length=8, vocab=V), objective=SequenceToSequence())
    assert "EncoderDecoder is neither" in one.refusal(pairs)
    assert "Classifier is none" in one.refusal(dataclasses.replace(RUNS["encoder"], model=Classifier(V, 16, 1)))
    assert "must have rows of text" in one.refusal(dataclasses.replace(RUNS["decoder"], data=pairs.data))
    with pytest.raises(SpecError, match=r"learning_rates=.*must be some numbers above 0"):
        ReplacedTokens(learning_rates=())
