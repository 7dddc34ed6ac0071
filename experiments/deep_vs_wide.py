"""Deep against wide: at equal parameters, does depth or width learn English better?

Llama-like decoders of 1, 2, 4 and 8 layers whose widths are matched in parameters, each at its own best learning rate,
over seeds that share their data. The question is that of "The Depth-to-Width Interplay in Self-Attention" (arXiv
2006.12467) and of "Scaling Laws for Neural Language Models" (arXiv 2001.08361: shape matters little next to size).

Forms:

  (none)   25 million parameters in the layers, web text of your own (data/fineweb/*.parquet), 1 to 24 layers.
  :demo    140 thousand parameters, bytes of the Wikipedia leads, 1 layer, 4 layers, and 1 without positions, 3 seeds
           each: minutes on 2 cores. Expected: one layer beats four by more than 0.1 bits per byte, positions are worth
           more than 0.3.
  :flops   the same layouts as :demo, matched in training FLOPs instead.
  :tiny    2 layouts, seconds; what the tests run.

  python launch.py train --config=experiments/deep_vs_wide.py:demo
"""

import dataclasses

from experiments import (
    BPE,
    AdamW,
    Attention,
    Better,
    Bytes,
    Cosine,
    Decoder,
    GatedMLP,
    Hold,
    LocalText,
    Logging,
    Match,
    Muon,
    NoPosition,
    NoWorse,
    PreNorm,
    Run,
    Sequential,
    Study,
    Text,
    WikiLeads,
    match,
    unknown_form,
)

FORMS = ("", "demo", "flops", "tiny")
QUESTION = "At equal {what}, do more layers or wider ones predict English better?"
WHAT = {"params": "parameters", "params_body": "parameters in the layers", "train_flops": "training FLOPs"}


def get_config(form: str = "") -> Study:
    if form not in FORMS:
        raise unknown_form(form, FORMS)
    return {"": full, "demo": demo, "flops": lambda: demo("train_flops", tolerance=0.03), "tiny": tiny}[form]()


def full() -> Study:
    """Shapes of 25 million parameters outside embeddings and output head, at 20 tokens a parameter."""
    base = Run(
        model=Decoder(
            vocab=32_768,
            width=512,
            depth=8,
            block=PreNorm(mixer=Attention(heads=8), feed_forward=GatedMLP(hidden=1376)),
            stack=Sequential(remat="dots_no_batch"),
        ),
        data=Text(
            source=LocalText("data/fineweb/*.parquet", validation=0.005, test=0.005), tokenizer=BPE(32_768), length=1024
        ),
        optimizer=AdamW(schedule=Cosine(warmup=0.05, final=0.1), weight_decay=0.1),
        batch=256,
        accumulate=4,
        steps=2000,
        precision="bfloat16",
        logging=Logging(log=20, evaluate=500, checkpoint=500, keep=1),
    )
    return study(base, (1, 2, 4, 8, 16, 24), "params_body", (3e-4, 1e-3, 3e-3), seeds=5)


def demo(hold: Hold = "params", tolerance: float = 0.005) -> Study:
    """Bytes of the Wikipedia leads: 9 models of 140 thousand parameters, in minutes, at rates that were swept once."""
    base = Run(
        model=Decoder(
            vocab=256,
            width=64,
            depth=2,
            block=PreNorm(mixer=Attention(heads=4), feed_forward=GatedMLP(hidden=192)),
        ),
        data=Text(source=WikiLeads(validation=0.01, test=0.01), tokenizer=Bytes(), length=128),
        optimizer=Muon(learning_rate=3e-2, schedule=Cosine(warmup=0.1, final=0.05)),
        batch=16,
        steps=160,
        logging=Logging(log=10, evaluate=0, checkpoint=0, keep=1, prompt="The "),
    )
    arms = match(base, depth=(1, 4), hold=hold, tolerance=tolerance)
    wide = arms["depth=1"]
    assert isinstance(wide.model, Decoder)
    assert isinstance(wide.model.block, PreNorm)
    assert isinstance(wide.model.block.mixer, Attention)
    mixer = dataclasses.replace(wide.model.block.mixer, position=NoPosition())
    blind = dataclasses.replace(wide.model, block=dataclasses.replace(wide.model.block, mixer=mixer))
    return Study(
        question=QUESTION.format(what=WHAT[hold]),
        arms={**arms, "depth=1 no positions": dataclasses.replace(wide, model=blind)},
        claims=(
            Better("depth=1", than="depth=4"),
            Better("depth=1", than="depth=1 no positions", margin=0.3),
        ),
        match=Match(hold, tolerance),
        seeds=3,
        notes=(
            "This is early in training, 330 thousand tokens: wide models learn faster at first, and deeper ones come "
            "nearer with more (experiments/LOG.md).",
            "The learning rate stands in the arms: 3e-2 was better than 2e-2 for 1, 2 and 4 layers. What that choice "
            "may have cost is in no interval.",
        ),
    )


def tiny() -> Study:
    """Everything the other forms do, in seconds."""
    base = Run(
        model=Decoder(
            vocab=256,
            width=32,
            depth=2,
            block=PreNorm(mixer=Attention(heads=2), feed_forward=GatedMLP(hidden=88)),
        ),
        data=Text(source=WikiLeads(validation=0.002, test=0.002), tokenizer=Bytes(), length=32),
        batch=4,
        steps=6,
        logging=Logging(log=2, evaluate=3, checkpoint=2, keep=1),
    )
    return study(base, (1, 2), "params", (1e-3, 3e-2, 1.0), seeds=2, tolerance=0.05)


def study(
    base: Run, depths: tuple[int, ...], hold: Hold, rates: tuple[float, ...], *, seeds: int = 3, tolerance: float = 0.02
) -> Study:
    """`base` at these depths, all equal in `hold`."""
    arms = match(base, depth=depths, hold=hold, tolerance=tolerance)
    shallow, *_, deep = arms
    return Study(
        question=QUESTION.format(what=WHAT[hold]),
        arms=arms,
        claims=(
            Better(deep, than=shallow),
            NoWorse(shallow, than=deep, margin=0.02),
        ),
        match=Match(hold, tolerance),
        learning_rates=rates,
        seeds=seeds,
        diagnostics=("depth",),
        notes=("Bits per byte of the whole test split; a margin of 0.02 is about one percent.",),
    )
