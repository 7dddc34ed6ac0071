"""Recovery: bottlenecks that let everything or nothing through score exactly 1 and 0; the rest against a hand count."""

import dataclasses
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from arch.blocks import PreNorm
from arch.bottlenecks import usage
from arch.bottlenecks.base import Bottleneck, Quantized, Quantizer
from arch.bottlenecks.codebook import Codebook
from arch.bottlenecks.several import PerHead
from arch.bottlenecks.top_k import TopK
from arch.context import Gates
from arch.layers.attention.masks import Bidirectional
from arch.layers.attention.softmax import Attention
from arch.layers.feed_forward import MLP
from arch.models.base import Inputs
from arch.models.classifier import Classifier
from arch.models.decoder import Decoder
from arch.spec import UserError
from arch.stacks import Cycle
from arch.stacks.sequential import Sequential
from arch.taps import Tap
from experiments.suites.base import Asked, score
from experiments.suites.recovery import FILLED, Recovery, _batches, _Scored
from train.data.description import Description
from train.data.reversal import Reversed
from train.forward import ROW
from train.objectives.classification import Classification
from train.objectives.next_token import NextToken
from train.optim import AdamW, Constant
from train.run import Logging, Run
from train.setup import prepare
from train.trained import TrainedRun


@dataclasses.dataclass(frozen=True)
class Scaled(Bottleneck):
    """Vectors times a number, as one code."""

    by: float = 1.0

    def build(self, width, make):
        return ScaledLayer(self.by, make)


class ScaledLayer(Quantizer):
    def __init__(self, by, make):
        self.by, self.counts = by, usage.counter(make, 3)

    def quantize(self, x, weights=None, *, training=False, key=None, codes=None, amplitudes=None):
        return Quantized(self.by * x, jnp.ones((*x.shape[:-1], 1), jnp.int32))

    def bits(self, counts=None):
        return jnp.zeros(())


class Rows:
    """Rows of a data set of tokens."""

    def __init__(self, arrays):
        self.arrays = arrays

    def __len__(self):
        return len(self.arrays["tokens"])

    def gather(self, which):
        return {name: array[which] for name, array in self.arrays.items()}


LENGTH, ROWS, VOCAB = 6, 7, 16


def block_of(at):
    return PreNorm(mixer=Attention(heads=2), feed_forward=MLP(hidden=16), at=at)


def opened(at, stack=None, block=None):
    block = block or block_of(at)
    model = Decoder(VOCAB, 8, 2, block, **({} if stack is None else {"stack": stack}))
    optimizer = AdamW(learning_rate=1e-2, schedule=Constant())
    run = Run(model=model, data=Reversed(), objective=NextToken(), optimizer=optimizer, batch=2, steps=1,
              logging=Logging(log=1, evaluate=0, checkpoint=0))  # fmt: skip
    arrays = dict.fromkeys(("tokens", "segments"), ((LENGTH + 1,), np.int32))
    description = Description(arrays, ("train", "validation"), vocab=VOCAB)
    program = prepare(run, description)
    rng = np.random.default_rng(0)
    rows = rng.integers(0, VOCAB, (ROWS, LENGTH + 1)).astype(np.int32)
    segments = np.ones_like(rows)
    segments[3, 4:] = 0

    class Data:
        pass

    dataset = Data()
    dataset.description, dataset.rows = description, {"validation": Rows({"tokens": rows, "segments": segments})}
    return TrainedRun(program, program.start(), dataset, 0)


def measured(at, **fields):
    one = opened(at)
    return one, score((Recovery(batch=3, **fields),), one, "validation")


def test_everything_is_1_and_nothing_is_0():
    _, told = measured((("mlp_out", Scaled(1.0)), ("attn_out", Scaled(0.0))))
    assert told["recovered_mlp_out_score"] == told["recovered_mean_mlp_out_score"] == 1.0
    assert told["recovered_attn_out_score"] == 0.0
    assert told["kl_mlp_out_gap"] == 0.0
    assert told["kl_attn_out_gap"] > 1e-6
    assert 0 < told["recovered_score"] < 1


def test_between_layers_everything_is_1_and_nothing_is_0():
    """The last keeps everything, the first nothing; alone, and each with the other off."""
    one = opened((("mlp_out", Scaled(0.5)),), Sequential(between=((1, Scaled(0.0)), (2, Scaled(1.0)))))
    told = score((Recovery(batch=3),), one, "validation")
    assert told["recovered_between_1_score"] == 0.0
    assert told["recovered_between_2_score"] == told["recovered_resample_between_2_score"] == 1.0
    assert told["kl_between_2_gap"] == 0.0 < told["kl_between_1_gap"]
    assert 0 < told["recovered_mlp_out_score"] < 1


def test_between_layers_by_hand():
    """Codes after the first layer, against a model without them whose stream is edited there."""
    spec = Sequential(between=((1, Codebook(codes=5, k=2)),))
    one, bare = opened((), spec), opened(())
    told = score((Recovery(batch=3),), one, "validation")
    arrays = one.dataset.rows["validation"].arrays
    inputs = Inputs(jnp.asarray(arrays["tokens"][:, :-1]), None, jnp.asarray(arrays["segments"][:, :-1]))
    there = (arrays["segments"][:, 1:] > 0) & (arrays["segments"][:, :-1] > 0)
    read = arrays["segments"][:, :-1] > 0
    layers = [section["0"] for section in one.params["stack"]["sections"].values()]
    params = {**one.params, "stack": {"blocks": jax.tree.map(lambda *of: jnp.concatenate(of), *layers)}}
    plain = dataclasses.replace(bare, state={"params": params, "buffers": {}}).model

    def loss(model, edit=None):
        edits = {} if edit is None else {"resid_pre": lambda x, layer: jnp.where(layer == 1, edit(x), x)}
        out = model(inputs, tap=Tap(save="resid_pre|.*codes", edit=edits, strict=False))
        log_p = np.asarray(jax.nn.log_softmax(out.logits), np.float64)
        each = -np.take_along_axis(log_p, arrays["tokens"][:, 1:, None], axis=2)[..., 0]
        return (each * there).sum() / there.sum(), log_p, out.taps

    through, changed, saved = loss(one.model)
    off, log_p, values = loss(plain)
    zero, *_ = loss(plain, lambda x: 0 * x)
    np.testing.assert_allclose(told["recovered_score"], (zero - through) / (zero - off), rtol=1e-2)  # of 1e-4 nats
    means = np.asarray(values["resid_pre"])[1][read].mean(axis=0)
    mean, *_ = loss(plain, lambda x: jnp.broadcast_to(jnp.asarray(means)[None, None], x.shape))
    np.testing.assert_allclose(told["recovered_mean_score"], (mean - through) / (mean - off), rtol=1e-2)
    kl = (np.exp(log_p) * (log_p - changed)).sum(axis=-1)[read].mean()
    np.testing.assert_allclose(told["kl_gap"], kl, rtol=1e-4)
    codes = np.asarray(saved["between_1.codes"])[read]
    np.testing.assert_allclose(told["bits_used"], min(np.log2(10), 2 * entropy(codes)), rtol=1e-5)
    np.testing.assert_allclose(told["bits_ceiling"], np.log2(10), rtol=1e-6)


def test_a_classifier_is_ablated_by_the_mean_of_its_vectors():
    """Answers are of rows, vectors of tokens: means and the bits of codes are over vectors."""
    block = PreNorm(mixer=Attention(heads=2, mask=Bidirectional()), feed_forward=MLP(hidden=16))
    model = Classifier(VOCAB, 8, 2, dataclasses.replace(block, at=(("mlp_out", TopK(codes=12, k=3)),)))
    rng = np.random.default_rng(0)
    segments = np.ones((ROWS, LENGTH), np.int32)
    segments[3, 4:] = 0
    arrays = {"tokens": rng.integers(0, VOCAB, (ROWS, LENGTH)).astype(np.int32), "segments": segments,
              "label": rng.integers(0, 2, ROWS).astype(np.int32), "weight": np.ones(ROWS, np.float32)}  # fmt: skip
    description = Description({name: (x.shape[1:], x.dtype) for name, x in arrays.items()}, vocab=VOCAB, classes=2)
    run = Run(model=model, data=Reversed(), objective=Classification(), batch=2, steps=1)
    program = prepare(run, description)
    one = TrainedRun(program, program.start(), types.SimpleNamespace(description=description, rows={}), 0)
    one.dataset.rows["validation"] = Rows(arrays)
    scored = _Scored(Asked(one, "validation", ROWS), 3)
    inputs = Inputs(arrays["tokens"], None, segments)
    saved = one.model(inputs, gates=Gates({"mlp_out": jnp.zeros(2, bool)}), tap=Tap(save="mlp_out", strict=False)).taps
    wanted = np.asarray(saved["mlp_out"], np.float64)[:, segments > 0].mean(axis=1)
    np.testing.assert_allclose(scored.means["mlp_out"], wanted, atol=1e-5)
    told = scored.told({"mlp_out": True}, "")
    assert 0 < told["bits_used"] <= told["bits_ceiling"]


def test_no_row_is_alone_in_its_batch():
    """It would be exchanged with itself, or with a row that fills up."""
    for count, size in ((7, 3), (3, 2), (5, 4), (6, 3), (33, 32), (1, 2)):
        parts = list(_batches({"tokens": np.arange(count)}, size))
        filled = [int(part[FILLED].sum()) for part in parts]
        assert sum(filled) == count
        assert min(filled) > 1 or count == 1
        found = np.concatenate([part["tokens"][part[FILLED]] for part in parts])
        np.testing.assert_array_equal(found, np.arange(count))
        np.testing.assert_array_equal(np.concatenate([part[ROW][part[FILLED]] for part in parts]), np.arange(count))


def test_a_model_without_bottlenecks_loses_nothing():
    _, told = measured(())
    assert told == {
        "recovered_score": 1.0, "recovered_mean_score": 1.0, "recovered_resample_score": 1.0,
        "kl_gap": 0.0, "bits_used": 0.0, "bits_ceiling": 0.0,
    }  # fmt: skip


def test_losses_divergence_and_bits_by_hand():
    at = (("attn.z", PerHead(Codebook(codes=5, k=2))), ("mlp_out", TopK(codes=12, k=3, precision=8)))
    one, told = measured(at)
    arrays = one.dataset.rows["validation"].arrays
    inputs = Inputs(jnp.asarray(arrays["tokens"][:, :-1]), None, jnp.asarray(arrays["segments"][:, :-1]))
    there = (arrays["segments"][:, 1:] > 0) & (arrays["segments"][:, :-1] > 0)
    read = arrays["segments"][:, :-1] > 0
    bare = opened(())
    params = {**one.params, "stack": {"blocks": {k: v for k, v in one.params["stack"]["blocks"].items() if k != "at"}}}
    plain = dataclasses.replace(bare, state={"params": params, "buffers": {}}).model

    def logits(model, edit=None):
        out = model(inputs, tap=Tap(save="attn.z|mlp_out|.*codes|.*amplitudes", edit=edit or {}, strict=False))
        return np.asarray(jax.nn.log_softmax(out.logits), np.float64), out.taps

    def loss(log_p):
        each = -np.take_along_axis(log_p, arrays["tokens"][:, 1:, None], axis=2)[..., 0]
        return (each * there).sum() / there.sum()

    through, saved = logits(one.model)
    off, values = logits(plain)
    zero, _ = logits(plain, {"attn.z": lambda x, _: 0 * x, "mlp_out": lambda x, _: 0 * x})
    np.testing.assert_allclose(
        told["recovered_score"], (loss(zero) - loss(through)) / (loss(zero) - loss(off)), rtol=1e-4
    )
    means = {name: np.asarray(x)[:, read].mean(axis=1) for name, x in values.items()}
    mean, _ = logits(plain, {
        "attn.z": lambda x, layer: jnp.broadcast_to(jnp.asarray(means["attn.z"])[layer][None, None], x.shape),
        "mlp_out": lambda x, layer: jnp.broadcast_to(jnp.asarray(means["mlp_out"])[layer][None, None], x.shape),
    })  # fmt: skip
    np.testing.assert_allclose(
        told["recovered_mean_score"], (loss(mean) - loss(through)) / (loss(mean) - loss(off)), rtol=1e-3
    )
    kl = (np.exp(off) * (off - through)).sum(axis=-1)[read].mean()
    np.testing.assert_allclose(told["kl_gap"], kl, rtol=1e-4)
    codes = np.asarray(saved["attn.z.codes"])[:, read]  # L, M, N, k
    dense = sum(min(np.log2(10), 2 * entropy(codes[layer, :, head])) for layer, head in np.ndindex(2, 2))
    ids, sizes = (np.asarray(saved[f"mlp_out.{kind}"])[:, read] for kind in ("codes", "amplitudes"))
    assert 0 < (sizes > 0).mean() < 1  # of three not always all are active
    sparse = sum(min(np.log2(220), 3 * entropy(ids[layer][sizes[layer] > 0])) + 3 * 8 for layer in range(2))
    np.testing.assert_allclose(told["bits_used"], dense + sparse * (sizes > 0).mean(), rtol=1e-5)
    np.testing.assert_allclose(told["bits_attn.z_ceiling"], 4 * np.log2(10), rtol=1e-6)
    np.testing.assert_allclose(told["bits_mlp_out_ceiling"], 2 * (np.log2(220) + 3 * 8), rtol=1e-5)


def entropy(codes):
    """In bits."""
    share = np.bincount(codes.reshape(-1)) / codes.size
    return -(share[share > 0] * np.log2(share[share > 0])).sum()


def test_what_cannot_be_scored():
    some = opened((), block=Cycle((block_of((("mlp_out", Codebook(codes=3)),)), block_of(()))))
    with pytest.raises(UserError, match="1 of 2 layers have codebooks at mlp_out; they are read where all have"):
        score((Recovery(),), some, "validation")
