"""Codebook Features (arXiv 2310.17230): what does it cost to make activations of a few codes, and what do codes show?

A language model of walks on a finite-state machine, states in two digits. Codebooks for each attention head, and for
each feed-forward, are put into the trained model, and all is trained on; beside them the model trained on without.

Forms:

  (none)    the paper's: 100 states of 10 edges, 4 layers of width 128, up to 20,000 codes: an accelerator.
  :cpu      64 states of 5 edges, 2 layers of width 24, 256 codes, 3 seeds; not run yet.
  :tiny     seconds; what the tests run.

Expected (pilot's bars): attention codes cost 0.02 nats at most; codes in both places and k = 1 cost more than 0.03, and
0.6 to 0.98 of the sampled transitions are edges, more with each larger k; k = 16 costs 0.03 at most. For each state
there is a code that is more precise than the best neuron by 0.1; activating the feed-forwards' codes of another state
leaves 0.35 or less of the distance to its next token, those of one attention layer 0.7 or more.

  python launch.py train --config=experiments/codebook_features.py:cpu
"""

import dataclasses
from typing import Any

from arch.blocks import Parallel, PreNorm
from arch.blocks.base import Block
from arch.bottlenecks.codebook import Codebook
from arch.bottlenecks.several import PerHead
from arch.layers.attention import Attention
from arch.layers.feed_forward import MLP
from arch.layers.norms import LayerNorm
from arch.models.decoder import Decoder
from arch.stacks.sequential import Sequential
from experiments.config.load import unknown_form
from experiments.study.claims import AtLeast, AtMost, Better, Monotone, NoWorse
from experiments.study.from_arm import FromArm
from experiments.study.study import Study
from experiments.suites.state_machine import StateCodes, StateSteering, TransitionValidity
from train.data.state_machine import StateMachine
from train.optim.optimizers import AdamW
from train.optim.schedules import Constant
from train.run import Reports, Run

FORMS = ("", "cpu", "tiny")
QUESTION = "What does a network lose whose activations are sums of a few codes, and do codes stand for states?"
BASE, LONGER, ATTENTION = "base", "base, trained on", "attention, k=1"
LOSS, VALID = "val/loss", "suite/valid_transition_score"
PAPER = (
    {"arm": "no codebook", "loss": 1.179, "token accuracy": 46.36, "state accuracy": 96.77},
    {"arm": "attention, k=1, 2k codes", "loss": 1.18, "token accuracy": 46.33, "state accuracy": 96.39},
    {"arm": "both, k=1, 10k codes", "loss": 1.269, "token accuracy": 45.27, "state accuracy": 63.65},
    {"arm": "both, k=1, 20k codes", "loss": 1.254, "token accuracy": 45.56, "state accuracy": 63.81},
    {"arm": "both, k=4, 20k codes", "loss": 1.192, "token accuracy": 46.20, "state accuracy": 80.69},
    {"arm": "both, k=16, 20k codes", "loss": 1.183, "token accuracy": 46.32, "state accuracy": 91.53},
    {"arm": "both, k=128, 20k codes", "loss": 1.178, "token accuracy": 46.38, "state accuracy": 95.82},
)


def get_config(form: str = "") -> Study:
    if form not in FORMS:
        raise unknown_form(form, FORMS)
    return {"": full, "cpu": cpu, "tiny": tiny}[form]()


def both(k: int) -> str:
    """The arm with codes at the heads and at the feed-forwards."""
    return f"attention and MLP, k={k}"


def with_codes(run: Run, attention: Codebook, mlp: Codebook | None, steps: int) -> Run:
    """`run`, trained, with codebooks and trained on for `steps`, at a third of the rate."""
    model: Any = run.model
    sites = (("attn.z", PerHead(attention)), *(() if mlp is None else (("mlp_out", mlp),)))
    return dataclasses.replace(
        trained_on(run, steps), model=dataclasses.replace(model, block=dataclasses.replace(model.block, at=sites))
    )


def trained_on(run: Run, steps: int) -> Run:
    optimizer = dataclasses.replace(run.optimizer, learning_rate=run.optimizer.learning_rate / 3)
    return dataclasses.replace(run, start=FromArm(BASE), steps=steps, optimizer=optimizer)


def study(
    base: Run, steps: int, attention: Codebook, mlp: Codebook, ks: tuple[int, ...], rows: int, **sizes: Any
) -> Study:
    """The base, trained on as it is, and with codes: `attention` alone, and `mlp` in both places for each of `ks`."""
    of_k = {both(k): dataclasses.replace(mlp, k=k) for k in ks}
    one, most = both(ks[0]), both(ks[-1])
    return Study(
        question=QUESTION,
        arms={
            BASE: base,
            LONGER: trained_on(base, steps),
            ATTENTION: with_codes(base, attention, None, steps),
            **{name: with_codes(base, codes, codes, steps) for name, codes in of_k.items()},
        },
        claims=(
            NoWorse(ATTENTION, than=LONGER, margin=0.02, metric=LOSS),
            Better(LONGER, than=one, margin=0.03, metric=LOSS),
            NoWorse(most, than=LONGER, margin=0.03, metric=LOSS),
            Monotone(tuple(of_k), metric=VALID),
            AtLeast(BASE, VALID, 0.97),
            AtLeast(one, VALID, 0.6),
            AtMost(one, VALID, 0.98),
            AtLeast(one, "suite/precision_margin_score", 0.1),
            AtMost(one, "suite/mlp_distance_error", 0.35),
            AtLeast(one, "suite/attention_distance_error", 0.7),
            AtLeast(one, "suite/mlp_random_distance_error", 0.7),
        ),
        metric=LOSS,
        suite=(TransitionValidity(rows=rows), StateCodes(rows=rows), StateSteering(rows=rows)),
        paper=PAPER,
        notes=(
            "The bars are those of a pilot, but for that of random codes, which is a control.",
            "Codes of both places stand behind a LayerNorm without parameters, as in the released code but for the "
            "parameters: without one, random codes collapse to one or two at the feed-forwards.",
            "Published state accuracy is the share of valid transitions in sampled rollouts.",
        ),
        **sizes,
    )


def run(data: StateMachine, width: int, depth: int, steps: int, batch: int, rate: float, block: type[Block]) -> Run:
    net = Decoder(
        vocab=round(data.states**0.5) + 1,
        width=width,
        depth=depth,
        block=block(norm=LayerNorm(), mixer=Attention(heads=4), feed_forward=MLP()),
        stack=Sequential(loop="unroll"),
        norm=LayerNorm(),
    )
    return Run(
        model=net,
        data=data,
        optimizer=AdamW(rate, Constant(), weight_decay=0.0),
        batch=batch,
        steps=steps,
        reports=Reports(log=max(steps // 20, 1), evaluate=max(steps // 5, 1), checkpoint=0, keep=1),
    )


def full() -> Study:
    """The paper's sizes; one norm for both sublayers where GPT-NeoX has one each."""
    base = run(StateMachine(), width=128, depth=4, steps=20_000, batch=512, rate=1e-3, block=Parallel)
    base = dataclasses.replace(base, optimizer=dataclasses.replace(base.optimizer, learning_rate=3e-3))
    codes = Codebook(20_000, prenorm="layer")
    return study(base, 20_000, Codebook(2_000), codes, (1, 4, 16, 128), rows=1000)


def cpu() -> Study:
    """More states than twice the width."""
    data = StateMachine(states=64, edges=5, length=24, rows=200_000, held_out=256, tested=512)
    base = run(data, width=24, depth=2, steps=1500, batch=64, rate=3e-3, block=PreNorm)
    attention = Codebook(256, std=0.3)
    return study(base, 800, attention, Codebook(256, prenorm="layer"), (1, 4, 16), rows=512, seeds=3)


def tiny() -> Study:
    """Everything that the other forms do, in seconds."""
    data = StateMachine(states=16, edges=2, length=6, rows=64, held_out=16, tested=16)
    base = run(data, width=8, depth=2, steps=4, batch=8, rate=3e-3, block=PreNorm)
    return study(base, 3, Codebook(6, std=0.3), Codebook(6, prenorm="layer"), (1, 2), rows=16, seeds=2)
