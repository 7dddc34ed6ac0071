"""Google's Neural Machine Translation System (GNMT, arXiv 1609.08144): do deep LSTM stacks need residual connections?

And what its other parts give: the decoding rule (length normalisation and coverage), reward after maximum likelihood,
and integer arithmetic in inference.

Forms:

  (none)   8 + 8 layers of 1024 on wmt14_translate/de-en (prepared elsewhere): accelerators. Published, newstest2014:
           English to German 24.61 BLEU with 32 thousand pieces, to French 38.95; reward 24.67 -> 24.60, 38.95 -> 39.92.
  :cpu     layers of 64 on pairs of help pages, German to English, 1,200 updates, 3 seeds after 3 learning rates; the
           reward arm goes on for 100; not run yet.
  :tiny    seconds; what the tests run.

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

FORMS = ("", "cpu", "tiny")
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
    return {"": full, "cpu": cpu, "tiny": tiny}[form]()


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


def study(base: Run, deep: int, shallow: int, more: int, samples: int, suite: tuple[Score, ...], **sizes: Any) -> Study:
    """Deep stacks with and without residuals, a shallow one, and that trained on: by likelihood, and by reward."""
    vocab, width = base.model.decoder.vocab, base.model.decoder.width  # type: ignore[attr-defined]

    def of(depth: int, residual_from: int | None = 3) -> Run:
        return dataclasses.replace(base, model=model(vocab, width, depth, residual_from, base.steps))

    small, tall = f"{shallow}+{shallow}", f"{deep}+{deep}"
    half = dataclasses.replace(base.optimizer, learning_rate=base.optimizer.learning_rate / 4)
    # The bound stays where it ended: `more` updates do not begin it again.
    on = dataclasses.replace(of(shallow), start=FromArm(small), steps=more, optimizer=half)
    reward = PolicyGradient(samples=samples, end=1)
    return Study(
        question=QUESTION,
        arms={
            tall: of(deep),
            f"{tall}, no residuals": of(deep, None),
            small: of(shallow),
            f"{small}, longer": on,
            f"{small}, reward": dataclasses.replace(on, objective=reward),
        },
        claims=(
            Better(tall, than=f"{tall}, no residuals", margin=0.15),
            NoWorse(tall, than=small, margin=0.02),
            *(
                (
                    Better(f"{small}, reward", than=f"{small}, longer", margin=0.01, metric="suite/plain_gleu_score"),
                    AtMost(small, "suite/int8_loss_gap", 0.02),
                )
                if suite
                else ()
            ),
        ),
        metric="val/loss",
        suite=suite,
        paper=PAPER,
        notes=(
            "The loss of the reward arm is not that of the others: it is judged by what it writes.",
            "plain: beam of 8; tuned: alpha 0.6, beta 0.2, pruned at 3.0.",
        ),
        **sizes,
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


def cpu() -> Study:
    """Short paragraphs of help pages, and stacks as deep as the paper's."""
    data = ParallelText(LibreOfficeHelp("de", "en", longest=90), WordPieces(1024), source_length=32, length=32)
    base = run(model(1024, 64, 8), data, batch=32, steps=1200, learning_rate=1e-2)
    suite = (*(dataclasses.replace(one, rows=128) for one in DECODING), Int8(rows=128))
    rates = (5e-3, 1e-2, 2e-2)
    return study(base, 8, 2, more=100, samples=8, suite=suite, learning_rates=rates, tuning_seeds=1, seeds=3)


def tiny() -> Study:
    """The arms and the first claims of `:cpu`, on rows that are to be reversed, in seconds."""
    base = run(model(16, 8, 3), Reversed(length=6, rows=32), batch=4, steps=3, learning_rate=1e-2)
    return study(base, 3, 1, more=2, samples=2, suite=(), learning_rates=(1e-3, 1e-2, 1.0), tuning_seeds=1, seeds=2)


def full() -> Study:
    """The paper's stacks."""
    data = ParallelText(TfdsPairs("wmt14_translate/de-en", "en", "de"), WordPieces(32_000))
    base = run(model(32_000, 1024, 8), data, batch=128, steps=340_000, learning_rate=2e-4)
    return study(base, 8, 2, more=100_000, samples=15, suite=(*DECODING, Int8()), seeds=3)
