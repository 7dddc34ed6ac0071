"""A study small enough for tests: two arms of the toy run."""

import dataclasses

from experiments.study.claims.claims import Better
from experiments.study.study import Study
from tests.train import toys
from train.run import Logging


def study(**fields) -> Study:
    base = toys.run(logging=Logging(log=1, evaluate=3, checkpoint=2, keep=1))
    arms = {f"depth={depth}": dataclasses.replace(base, model=toys.model(depth=depth)) for depth in (1, 2)}
    return Study(**{
        "question": "Does a toy need depth?",
        "arms": arms,
        "claims": (Better("depth=2", than="depth=1"),),
        "learning_rates": (3e-3, 3e-2, 3e-1),
        "tuning_seeds": 1,
        "seeds": 2,
        **fields,
    })  # fmt: skip
