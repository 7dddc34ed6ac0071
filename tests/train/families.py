"""The families of models, each with data and an objective of its own, as fields of the toy run."""

import dataclasses
from typing import Any

from arch.blocks import PreNorm
from arch.layers.attention.cross import CrossAttention
from arch.layers.attention.masks import Bidirectional
from arch.layers.attention.softmax import Attention
from arch.layers.feed_forward import MLP
from arch.models.decoder import Decoder
from arch.models.encoder import Encoder
from arch.models.encoder_decoder import EncoderDecoder, reading
from arch.models.trunk import Trunk
from tests.train import toys
from train.data.reversal import Reversed
from train.objectives.masked_lm import MaskedLM
from train.objectives.next_token import NextToken
from train.objectives.sequence_to_sequence import SequenceToSequence

V, D = toys.VOCAB, 16
WRITING = PreNorm(mixer=Attention(heads=2), feed_forward=MLP(hidden=24), dropout=0.1)
SEEING = dataclasses.replace(WRITING, mixer=Attention(heads=2, mask=Bidirectional()))

FAMILIES: dict[str, dict[str, Any]] = {
    "decoder": {"model": Decoder(V, D, 2, WRITING), "objective": NextToken()},
    "encoder": {"model": Encoder(V + 1, D, 2, SEEING), "objective": MaskedLM(rate=0.3)},
    "encoder-decoder": {
        "model": EncoderDecoder(
            encoder=Trunk(V, D, 1, SEEING, embedding=None),
            decoder=Trunk(V, D, 2, reading(WRITING, CrossAttention(heads=2))),
        ),
        "objective": SequenceToSequence(),
        "data": Reversed(length=8, vocab=V, rows=60, held_out=13),
    },
}
"""Name -> model, objective and, where it is not the toy's, data. What is random in them: dropout, and which tokens are
hidden."""


def without_dropout(name: str) -> dict[str, Any]:
    """The same with nothing random in the model, whose draws differ with the devices that share it."""
    told = FAMILIES[name]

    def still(trunk: Any) -> Any:
        return dataclasses.replace(trunk, block=dataclasses.replace(trunk.block, dropout=0.0))

    model = told["model"]
    if isinstance(model, EncoderDecoder):
        model = dataclasses.replace(model, encoder=still(model.encoder), decoder=still(model.decoder))
    else:
        model = still(model)
    return {**told, "model": model}
