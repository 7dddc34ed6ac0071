"""Seq vs Seq (Ettin, arXiv 2507.11412): is an encoder better at reading, a decoder at writing, all else being equal?

Two models of one size, with the same parameters at the same paths, on the same text: one sees both sides and is trained
on masked tokens, one sees the left side and is trained on the next. Each is then trained on for a fifth of its updates,
with its own objective (the control) and with the other's, which changes the mask and the loss and no parameter.

Every arm gets the same questions (experiments/suites): the next token from the left alone, which is the decoder's own
and unfair to an encoder; a token from both sides, the encoder's own and unfair to a decoder; the right continuation
among four; the second half of a text by its first; and, fine-tuned alike, which tokens of a text were replaced.

Forms:

  (none)   the 150M pair, 1.7e12 tokens and then 50e9 more of each kind (data/c4/*.parquet, column text): accelerators.
  :cpu     width 64 (0.28 million parameters), verses of the World English Bible, 1,500 updates and then 300, 4 seeds
           after 3 learning rates and more where the best is at the edge; about two hours of a core.
  :half    the same at width 32 (0.10 million): is the order of the families the same? Not run to its end yet.
  :tiny    seconds; what the tests run.

Expected (pairs of seeds, against the control of equal budget, width 64): the decoder is ahead on the next token by 0.25
nats or more, and of a decoder made from an encoder by 0.1; the encoder is ahead on a token from both sides, and finds
replaced tokens with an area under the curve that is 0.05 greater, and 0.03 greater than an encoder made from a decoder.
At width 32 the order is the same. Published, 150M: MNLI 89.2 encoder, 85.6 decoder, 85.8 encoder from decoder, 86.8
decoder from encoder; generative tasks 42.9, 46.2, 43.6 and 43.6. Topic does not tell the families apart at this size,
and carries no claim.

  python launch.py train --config=experiments/paired_encoder_decoder.py:cpu
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

from experiments import (
    BPE,
    AdamW,
    Better,
    BibleVerses,
    Bytes,
    Cosine,
    FromArm,
    LocalText,
    Logging,
    MaskedLM,
    Optimizer,
    PydocTopics,
    ReplacedTokens,
    Run,
    Score,
    Sides,
    Study,
    Text,
    unknown_form,
)
from experiments.ettin_sizes import SIZES, Size
from experiments.suites.catalogue import LANGUAGE

FORMS = ("", "cpu", "half", "tiny")
QUESTION = (
    "Of two equal models, does the encoder read better and the decoder write better, and can one become the other?"
)
NEXT, CLOZE, REPLACED = "suite/next_token_loss", "suite/cloze_loss", "suite/replaced_auc_score"

PAPER: tuple[dict[str, Any], ...] = tuple(
    {"measured": what, "arm": arm, **dict(zip(SIZES, values, strict=True))}
    for what, rows in {
        "MNLI": {
            "encoder": (79.5, 83.4, 87.0, 89.2, 91.3, 91.8),
            "decoder": (77.6, 80.4, 83.9, 85.6, 88.2, 89.9),
            "encoder from decoder": (77.7, 80.9, 83.9, 85.8, 87.6, 89.0),
            "decoder from encoder": (78.8, 82.6, 85.8, 86.8, 89.4, 90.5),
        },
        "generative tasks, mean": {
            "encoder": (35.1, 36.6, 39.1, 42.9, 48.2, 50.7),
            "decoder": (36.4, 38.7, 41.8, 46.2, 53.1, 59.0),
            "encoder from decoder": (35.0, 36.0, 38.0, 43.6, 48.4, 52.5),
            "decoder from encoder": (36.7, 38.1, 42.1, 43.6, 49.1, 52.2),
        },
    }.items()
    for arm, values in rows.items()
)


def get_config(form: str = "") -> Study:
    if form not in FORMS:
        raise unknown_form(form, FORMS)
    return {"": full, "cpu": cpu, "half": half, "tiny": tiny}[form]()


def pair(size: Size, base: Run, more: int, rate: float = 0.3, theta: float = 10_000.0) -> dict[str, Run]:
    """The six arms: both members, and each trained on for `more` updates at half the learning rate.

    `base` has the data and all that the members share; `rate` is the share of tokens that masked language modelling
    hides.
    """
    thetas = {"theta_global": theta, "theta_local": theta, "dropout": 0.0}
    members = {
        "encoder": dataclasses.replace(base, model=size.encoder(**thetas), objective=MaskedLM(rate)),
        "decoder": dataclasses.replace(base, model=size.decoder(**thetas)),
    }
    half = dataclasses.replace(base.optimizer, learning_rate=base.optimizer.learning_rate / 2)

    def on(kind: str, start: str) -> Run:
        return dataclasses.replace(members[kind], start=FromArm(start), steps=more, optimizer=half)

    return {
        **members,
        "encoder, longer": on("encoder", "encoder"),
        "decoder, longer": on("decoder", "decoder"),
        "decoder from encoder": on("decoder", "encoder"),
        "encoder from decoder": on("encoder", "decoder"),
    }


def claims(least: bool = True) -> tuple[Better, ...]:
    """What is expected: by how much at least, or the order alone."""

    def better(arm: str, than: str, margin: float, metric: str) -> Better:
        return Better(arm, than=than, margin=margin if least else 0.0, metric=metric)

    return (
        better("decoder, longer", "encoder, longer", 0.25, NEXT),
        better("encoder, longer", "decoder, longer", 0.05, REPLACED),
        better("encoder, longer", "decoder, longer", 0.0, CLOZE),
        better("decoder, longer", "decoder from encoder", 0.1, NEXT),
        better("encoder, longer", "encoder from decoder", 0.03, REPLACED),
        better("encoder, longer", "encoder from decoder", 0.0, CLOZE),
        better("decoder from encoder", "encoder, longer", 0.0, NEXT),
        better("encoder from decoder", "decoder, longer", 0.0, CLOZE),
    )


def study(arms: Mapping[str, Run], claimed: tuple[Better, ...], suite: tuple[Score, ...], **sizes: Any) -> Study:
    return Study(
        question=QUESTION,
        arms=arms,
        claims=claimed,
        metric="val/loss",
        suite=suite,
        paper=PAPER,
        notes=(
            "val/loss is what each arm is tuned by, and compares no encoder with a decoder: their targets "
            "differ. Claims are on what all are asked.",
            "Arms that are trained on start from the seed of the same number; the published ones keep 0.5 of the peak "
            "learning rate and no state of the optimiser, as here.",
        ),
        **sizes,
    )


def run(data: Any, optimizer: Optimizer, batch: int, steps: int) -> Run:
    """What the members share. The model is exchanged."""
    return Run(
        model=SIZES["17M"].decoder(theta_global=10_000.0, theta_local=10_000.0),
        data=data,
        optimizer=optimizer,
        batch=batch,
        steps=steps,
        logging=Logging(log=max(steps // 30, 1), evaluate=0, checkpoint=max(steps // 3, 1), keep=1),
    )


def verses(width: int, least: bool) -> Study:
    """Text whose tokens are words and parts of words."""
    data = Text(source=Sides(BibleVerses(target="kjv"), side="source"), tokenizer=BPE(2048), length=32)
    optimizer = AdamW(learning_rate=3e-3, schedule=Cosine(warmup=0.1, final=0.1), weight_decay=0.0, b2=0.98)
    size = Size(layers=4, width=width, hidden=width * 3 // 2, heads=4, vocab=2049, radius=8)
    arms = pair(size, run(data, optimizer, batch=32, steps=1500), more=300)
    suite = (*LANGUAGE, ReplacedTokens(steps=200, learning_rates=(1e-3, 3e-3, 1e-2)))
    return study(arms, claims(least), suite, learning_rates=(1.5e-3, 3e-3, 6e-3), tuning_seeds=1, seeds=4)


def cpu() -> Study:
    """The width that the bars are for."""
    return verses(width=64, least=True)


def half() -> Study:
    """Half as wide."""
    return verses(width=32, least=False)


def tiny() -> Study:
    """Everything that `:cpu` does, in seconds."""
    data = Text(source=PydocTopics(), tokenizer=Bytes(), length=16)
    size = Size(layers=4, width=16, hidden=24, heads=2, vocab=256, radius=2)
    arms = pair(size, run(data, AdamW(), batch=4, steps=4), more=2)
    tuned = ReplacedTokens(rows=4, trained_on=8, steps=2, batch=4, learning_rates=(1e-3, 1e-2))
    suite = (*(dataclasses.replace(one, rows=4) for one in LANGUAGE), tuned)
    return study(arms, claims(), suite, learning_rates=(1e-3, 3e-2, 1.0), tuning_seeds=1, seeds=2)


def full(name: str = "150M") -> Study:
    """A size of the paper: the first phase, then the cross-objective one, rows of 1,024 tokens."""
    size, rows, length = SIZES[name], 4608, 1024
    assert size.recipe is not None
    tokens = rows * length
    data = Text(
        source=LocalText("data/c4/*.parquet", validation=0.002, test=0.002),
        tokenizer=BPE(size.vocab - 1),
        length=length,
    )
    base = run(data, size.recipe.optimizer(step_tokens=tokens), batch=rows, steps=round(1.7e12 / tokens))
    return study(pair(size, base, more=round(50e9 / tokens)), claims(), (*LANGUAGE, ReplacedTokens()), seeds=3)
