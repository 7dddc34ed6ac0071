"""Google's Neural Machine Translation System (GNMT, arXiv 1609.08144): do deep LSTM stacks need residual connections?

And what its other parts give: the decoding rule (length normalisation and coverage), reward after maximum likelihood,
and integer arithmetic in inference.

Forms:

  (none)   8 + 8 layers of 1024 on wmt14_translate/de-en (prepared elsewhere): accelerators. Published, newstest2014:
           English to German 24.61 BLEU with 32 thousand pieces, to French 38.95; reward 24.67 -> 24.60, 38.95 -> 39.92.
  :cpu     depth, decoding and integers: layers of 64 on pairs of help pages, German to English, 1,200 updates, 3 seeds
           after 3 learning rates and more where the best is at the edge; 130 minutes of a core.
  :reward  2 + 2 such layers trained on for 100 updates, by likelihood and by reward; not run yet.
  :tiny    both in seconds; what the tests run.

Expected at small scale: with residual connections 8 + 8 layers are ahead of those without by 0.15 nats or more; the
tuned decoding rule writes longer and better than the plain one; the reward rises by 0.01 GLEU where likelihood alone
does not; int8 costs 0.02 nats at most. BLEU after the reward is not promised: the paper lost 0.07 to German.

  python launch.py train --config=experiments/gnmt.py:cpu
"""

import dataclasses
from typing import Any

from arch.layers.init.uniform import Uniform
from experiments import (
    GNMT,
    AdamW,
    AnnealedClip,
    AtMost,
    Beam,
    Better,
    Claim,
    ClippedHead,
    Cosine,
    Coverage,
    FromArm,
    Int8,
    LibreOfficeHelp,
    Logging,
    LSTMCell,
    NoWorse,
    ParallelText,
    PolicyGradient,
    RecurrentDecoder,
    RecurrentEncoder,
    Reversed,
    Run,
    Score,
    SequenceToSequence,
    Study,
    TfdsPairs,
    Translation,
    WordPieces,
    unknown_form,
)

FORMS = ("", "cpu", "reward", "tiny")
QUESTION = "Do deep recurrent translators need residual connections, and what do reward and integers change?"
PAPER = (
    {"measured": "newstest2014 BLEU, to French", "maximum likelihood": 38.95, "with reward": 39.92},
    {"measured": "newstest2014 BLEU, to German", "maximum likelihood": 24.67, "with reward": 24.60},
    {"measured": "BLEU in integers, to French", "float": 31.20, "int8": 31.21},
)
DECODING = (
    Translation(strategy=Beam(8), called="plain"),
    Translation(strategy=Beam(8, 0.6, Coverage(0.2), prune=3.0), called="tuned"),
)


def get_config(form: str = "") -> Study:
    if form not in FORMS:
        raise unknown_form(form, FORMS)
    return {"": full, "cpu": cpu, "reward": reward, "tiny": tiny}[form]()


def model(vocab: int, width: int, depth: int, residual_from: int | None = 3, clip_steps: int = 1) -> GNMT:
    """`depth` layers on each side, bounded while training: 8 at first, 1 after `clip_steps` updates.

    The paper draws all weights from +-0.04 at width 1024. Other widths have as large products at the start: with 0.04
    at width 64, 2 + 2 layers stay near the loss of counted tokens for 600 updates (5.21 nats; 4.33 with 0.16).
    """
    fields: dict[str, Any] = {
        "vocab": vocab,
        "width": width,
        "depth": depth,
        "residual_from": residual_from,
        "init": Uniform(0.04 * (1024 / width) ** 0.5),
        "cell": LSTMCell(clip=AnnealedClip(steps=clip_steps)),
    }
    encoder = RecurrentEncoder(embedding=None, **fields)
    return GNMT(encoder=encoder, decoder=RecurrentDecoder(**fields), head=ClippedHead())


def of(base: Run, depth: int, residual_from: int | None = 3) -> Run:
    """`base` with stacks of this depth."""
    vocab, width = base.model.decoder.vocab, base.model.decoder.width  # type: ignore[attr-defined]
    return dataclasses.replace(base, model=model(vocab, width, depth, residual_from, base.steps))


def depths(base: Run, deep: int, shallow: int) -> dict[str, Run]:
    """Deep stacks with and without residuals, and a shallow one."""
    small, tall = f"{shallow}+{shallow}", f"{deep}+{deep}"
    return {tall: of(base, deep), f"{tall}, no residuals": of(base, deep, None), small: of(base, shallow)}


def refined(base: Run, depth: int, more: int, samples: int) -> dict[str, Run]:
    """A stack, and that trained on: by likelihood, and by reward."""
    name, first = f"{depth}+{depth}", of(base, depth)
    half = dataclasses.replace(base.optimizer, learning_rate=base.optimizer.learning_rate / 4)
    # The bound stays where it ended: `more` updates do not begin it again.
    on = dataclasses.replace(first, start=FromArm(name), steps=more, optimizer=half)
    by_reward = dataclasses.replace(on, objective=PolicyGradient(samples=samples, end=1))
    return {name: first, f"{name}, longer": on, f"{name}, reward": by_reward}


def of_depth(deep: int, shallow: int, suite: bool) -> tuple[Claim, ...]:
    """What is claimed of `depths`."""
    small, tall = f"{shallow}+{shallow}", f"{deep}+{deep}"
    integers = (AtMost(small, "suite/int8_loss_gap", 0.02),) if suite else ()
    return (
        Better(tall, than=f"{tall}, no residuals", margin=0.15),
        NoWorse(tall, than=small, margin=0.02),
        *integers,
    )


def of_reward(depth: int) -> Claim:
    """What is claimed of `refined`."""
    name = f"{depth}+{depth}"
    return Better(f"{name}, reward", than=f"{name}, longer", margin=0.01, metric="suite/plain_gleu_score")


def study(arms: dict[str, Run], claims: tuple[Claim, ...], suite: tuple[Score, ...] = (), **sizes: Any) -> Study:
    """What all forms share."""
    loss = "The loss of the reward arm is not that of the others: it is judged by what it writes."
    beams = "plain: beam of 8; tuned: alpha 0.6, beta 0.2, pruned at 3.0."
    notes = (*((loss,) if any("reward" in name for name in arms) else ()), *((beams,) if suite else ()))
    return Study(
        question=QUESTION, arms=arms, claims=claims, metric="val/loss", suite=suite, paper=PAPER, notes=notes, **sizes
    )


def run(network: GNMT, data: Any, batch: int, steps: int, learning_rate: float) -> Run:
    return Run(
        model=network,
        data=data,
        objective=SequenceToSequence(),
        optimizer=AdamW(
            learning_rate=learning_rate, schedule=Cosine(warmup=0.05, final=0.1), weight_decay=0.0, clip=5.0
        ),
        batch=batch,
        steps=steps,
        logging=Logging(log=max(steps // 20, 1), evaluate=0, checkpoint=max(steps // 3, 1), keep=1),
    )


def of_help_pages() -> Run:
    """Short paragraphs of help pages, and stacks as deep as the paper's."""
    data = ParallelText(LibreOfficeHelp("de", "en", longest=90), WordPieces(1024), source_length=32, length=32)
    return run(model(1024, 64, 8), data, batch=32, steps=1200, learning_rate=1e-2)


SUITE = (*(dataclasses.replace(one, rows=128) for one in DECODING), Int8(rows=128))
SIZES: dict[str, Any] = {"suite": SUITE, "learning_rates": (5e-3, 1e-2, 2e-2), "tuning_seeds": 1, "seeds": 3}


def cpu() -> Study:
    """Depth, decoding and integers."""
    return study(depths(of_help_pages(), 8, 2), of_depth(8, 2, suite=True), **SIZES)


def reward() -> Study:
    """The reward after maximum likelihood."""
    return study(refined(of_help_pages(), 2, more=100, samples=8), (of_reward(2),), **SIZES)


def tiny() -> Study:
    """All arms and the first claims, on rows that are to be reversed, in seconds."""
    base = run(model(16, 8, 3), Reversed(length=6, rows=32), batch=4, steps=3, learning_rate=1e-2)
    arms = depths(base, 3, 1) | refined(base, 1, more=2, samples=2)
    return study(arms, of_depth(3, 1, suite=False), learning_rates=(1e-3, 1e-2, 1.0), tuning_seeds=1, seeds=2)


def full() -> Study:
    """The paper's stacks, all of it."""
    data = ParallelText(TfdsPairs("wmt14_translate/de-en", "en", "de"), WordPieces(32_000))
    base = run(model(32_000, 1024, 8), data, batch=128, steps=340_000, learning_rate=2e-4)
    arms = depths(base, 8, 2) | refined(base, 2, more=100_000, samples=15)
    return study(arms, (*of_depth(8, 2, suite=True), of_reward(2)), suite=(*DECODING, Int8()), seeds=3)
