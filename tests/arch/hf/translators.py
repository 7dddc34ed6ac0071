"""Small networks of GNMT that are exported as generated code, by name."""

from arch.layers.attention.additive import AdditiveAttention, NormedAdditiveAttention
from arch.layers.embeddings import Embedding, Tied, Untied
from arch.layers.heads.clipped import ClippedHead
from arch.layers.linear import Dense
from arch.layers.recurrent.clip import AnnealedClip, ConstantClip
from arch.layers.recurrent.lstm_cell import LSTMCell
from arch.models.gnmt import GNMT
from arch.models.recurrent import RecurrentDecoder, RecurrentEncoder
from tests.arch.tiny import D, V

BIAS = Dense(bias=True)


def translator(cell=LSTMCell(), compat="paper", attention=AdditiveAttention(), depths=(4, 3), head=Untied(), **fields):
    source = fields.pop("encoder", {})
    both = {"width": D, "cell": cell, **fields}
    return GNMT(
        encoder=RecurrentEncoder(**{**both, "vocab": 13, "depth": depths[0], **source}),
        decoder=RecurrentDecoder(**{**both, "vocab": V, "depth": depths[1], "compat": compat, "attention": attention}),
        head=head,
    )


TRANSLATORS = {
    "translator": translator(),
    "translator one table": translator(
        LSTMCell(clip=ConstantClip(0.6), linear=BIAS), "gnmt_v2",
        NormedAdditiveAttention(units=12, linear=BIAS), (2, 4),
        ClippedHead(head=Tied(), gamma=3.0), encoder={"vocab": V, "embedding": None}, embedding=Embedding(scale=2.0),
    ),
    "translator forward": translator(
        LSTMCell(clip=AnnealedClip(steps=2)), "gnmt", NormedAdditiveAttention(), (1, 2), residual_from=None,
        encoder={"vocab": V, "embedding": None},
    ),
    "translator one way": translator(depths=(3, 1), encoder={"first": "forward"}, residual_from=2),
}  # fmt: skip
