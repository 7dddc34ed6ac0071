"""Models of the letters a to z and a space, for adapters that read text."""

import jax
import numpy as np

from arch.models.base import Inputs
from tests.train import toys
from train.setup import prepare
from train.trained import TrainedRun


class Letters:
    """Ids 2 to 27 are letters, 28 is a space; "th" is one token, 29, so that a border may fall into one."""

    vocab, bos, eos, mask, separator, fingerprint = toys.VOCAB, 0, 1, None, None, "letters"

    def encode(self, text):
        found = []
        for letter in text:
            if letter == "h" and found and found[-1] == 21:
                found[-1] = 29
            else:
                found.append(28 if letter == " " else ord(letter) - 95)
        return found

    def encode_batch(self, texts):
        return [np.array(self.encode(text), np.int64) for text in texts]

    def decode(self, ids):
        return "".join({28: " ", 29: "th"}.get(i, chr(i + 95)) for i in ids if i > 1)


def opened(model, params=None, **fields):
    """`model`, fresh or with `params`, as if it had been trained on such text."""
    run = toys.run(model=model, **fields)
    dataset = run.data.build()
    dataset.tokenizer = Letters()
    program = prepare(run, dataset.description)
    if params is None:
        params = jax.tree.map(lambda x: x * 8.0 if x.ndim > 1 else x, program.start()["params"])
    return TrainedRun(program, {"params": params, "buffers": {}}, dataset, 0)


def read(model, tokens):
    """The output of `model` on one row, on the host."""
    return model(Inputs(np.array([tokens], np.int32)))
