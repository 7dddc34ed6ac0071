"""The run that the foreign parts are put into: a decoder of two small layers on rows that count up.

It knows of none of them; the cases change it by overrides, as a command line does.
"""

from arch.blocks import PreNorm
from arch.layers.attention.softmax import Attention
from arch.layers.feed_forward import MLP
from arch.models.decoder import Decoder
from tests.train.toys import VOCAB, Toy
from train.optim import AdamW, Constant
from train.run import Logging, Run
from train.sharding.mesh import Mesh


def get_config(form: str = "") -> Run:
    return Run(
        model=Decoder(
            vocab=VOCAB, width=16, depth=2, block=PreNorm(mixer=Attention(heads=2), feed_forward=MLP(hidden=32))
        ),
        data=Toy(rows=32, held_out=10),
        optimizer=AdamW(learning_rate=1e-2, schedule=Constant(), eps=1e-3),
        batch=8,
        steps=4,
        mesh=Mesh(data=1),
        logging=Logging(log=1, evaluate=0, checkpoint=0),
    )
