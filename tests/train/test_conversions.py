"""Between the families: a decoder's run begins an encoder-decoder's or an encoder's, and no parameter is touched."""

import dataclasses

import jax
import numpy as np
import pytest

from arch.blocks import PreNorm
from arch.layers.attention.cross import CrossAttention
from arch.layers.attention.masks import Bidirectional
from arch.layers.attention.softmax import Attention
from arch.layers.embeddings import Untied
from arch.layers.feed_forward import MLP
from arch.layers.init.initializers import Normal, ZeroOutput
from arch.models.decoder import Decoder
from arch.models.encoder import Encoder
from arch.models.encoder_decoder import EncoderDecoder, reading
from arch.models.trunk import Trunk
from train.data.reversal import Reversed
from train.loop import train
from train.objectives.masked_lm import MaskedLM
from train.objectives.sequence_to_sequence import SequenceToSequence
from train.optim.optimizers import AdamW
from train.optim.schedules import Constant
from train.run import Logging, Run
from train.sharding.mesh import Mesh
from train.starts.start import FromRun

V = 16
PLAIN = PreNorm(mixer=Attention(heads=2), feed_forward=MLP(hidden=24))
SEEING = PreNorm(mixer=Attention(heads=2, mask=Bidirectional()), feed_forward=MLP(hidden=24))
DECODER = Run(
    model=Decoder(V, 16, 2, PLAIN),
    data=Reversed(length=8, vocab=V),
    optimizer=AdamW(learning_rate=1e-2, schedule=Constant()),
    batch=8,
    steps=4,
    mesh=Mesh(data=1),
    logging=Logging(log=1, evaluate=0, checkpoint=0),
)


class Masked(MaskedLM):
    """Token 0, which begins a target, as the mask, so that both families have one vocabulary."""

    def extra_tokens(self, description):
        return 0

    def mask_token(self, description):
        return 0


UPCYCLED = (("^(?!head)", "decoder."),)
"""Names of a decoder's arrays -> those of the pair's decoder."""


@pytest.fixture(scope="module")
def decoder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("decoder") / "run"
    return str(folder), train(DECODER, folder)


def leaves(tree):
    found, _ = jax.tree_util.tree_flatten_with_path(jax.device_get(tree))
    return {".".join(key.key for key in path): leaf for path, leaf in found}


def still(run, folder):
    """The run after a step that changes nothing."""
    return train(dataclasses.replace(run, steps=1, optimizer=AdamW(learning_rate=0.0, schedule=Constant())), folder)


def test_an_upcycled_decoder_begins_where_the_decoder_ended(decoder, tmp_path, capsys):
    """What cross-attention writes starts at zero (`ZeroOutput`), so that the source changes nothing at first."""
    folder, before = decoder
    pair = EncoderDecoder(
        encoder=Trunk(V, 16, 1, SEEING),
        decoder=Trunk(V, 16, 2, reading(PLAIN, CrossAttention(heads=2)), init=ZeroOutput(Normal())),
        head=Untied(),
    )
    start = FromRun(folder, rename=UPCYCLED)
    run = dataclasses.replace(DECODER, model=pair, objective=SequenceToSequence(), start=start, seed=7)
    after = still(run, tmp_path / "pair")
    assert after.metrics["val/loss"] == pytest.approx(before.metrics["val/loss"], abs=1e-6)
    found = leaves(after.params)
    for path, value in leaves(before.params).items():
        np.testing.assert_array_equal(found[path if path.startswith("head") else f"decoder.{path}"], value)
    fresh = {path for path in found if path.startswith("encoder.") or ".cross" in path}
    assert len(fresh) + len(leaves(before.params)) == len(found)
    assert "decoder.stack.blocks.cross.o.kernel" in capsys.readouterr().out

    learning = dataclasses.replace(run, steps=12)
    assert train(learning, tmp_path / "learns").metrics["val/loss"] < before.metrics["val/loss"]


def test_frozen_halves_stay(decoder, tmp_path):
    """The decoder as it came, everything else learns."""
    folder, before = decoder
    pair = EncoderDecoder(
        encoder=Trunk(V, 16, 1, SEEING),
        decoder=Trunk(V, 16, 2, reading(PLAIN, CrossAttention(heads=2))),
        head=Untied(),
    )
    frozen = dataclasses.replace(DECODER.optimizer, freeze=(r"^decoder\.(?!.*\.cross)", "^head"))
    run = dataclasses.replace(
        DECODER, model=pair, objective=SequenceToSequence(), start=FromRun(folder, rename=UPCYCLED), optimizer=frozen
    )
    found, old = leaves(train(run, tmp_path / "pair").params), leaves(before.params)
    for path, value in old.items():
        np.testing.assert_array_equal(found[path if path.startswith("head") else f"decoder.{path}"], value)
    assert (found["decoder.stack.blocks.cross.q.kernel"] != 0).any()


def test_a_decoder_becomes_an_encoder_and_back(decoder, tmp_path, capsys):
    """The mask and the objective are exchanged, and not one number."""
    folder, before = decoder
    encoder = dataclasses.replace(
        DECODER, model=Encoder(V, 16, 2, SEEING), start=FromRun(folder), objective=Masked(), seed=5
    )
    there = still(encoder, tmp_path / "encoder")
    back = still(dataclasses.replace(DECODER, start=FromRun(str(tmp_path / "encoder")), seed=6), tmp_path / "back")
    assert capsys.readouterr().out.count("none is fresh") == 2
    for path, value in leaves(before.params).items():
        np.testing.assert_array_equal(leaves(there.params)[path], value)
        np.testing.assert_array_equal(leaves(back.params)[path], value)
    assert back.metrics["val/loss"] == before.metrics["val/loss"]
    assert there.metrics["val/loss"] != before.metrics["val/loss"]
