"""Codebook Features (arXiv 2310.17230): what does it cost to make activations of a few codes, and what do codes show?

A language model of walks on a finite-state machine, states in two digits. Codebooks for each attention head, and for
each feed-forward, are put into the trained model, and all is trained on; beside them the model trained on without.

Forms:

  (none)    the paper's: 100 states of 10 edges, 4 layers of width 128, up to 20,000 codes: an accelerator.
  :wikitext WikiText-103 (your own Parquet files, data/wikitext103/*.parquet), 24 layers of width 1024 and 10,000 codes:
            accelerators. The paper starts from a pretrained model of 410M: `launch.py import`, then the arm's `start`.
  :text     two sections of Python's reference text, 4 layers of width 64, steering by topic, 3 seeds; not run yet.
  :cpu      64 states of 5 edges, 2 layers of width 24, 256 codes, 3 seeds: 46 minutes on 2 cores beside other work;
            experiments/results/README.md.
  :tiny     seconds; what the tests run.
  :smollm2  SmolLM2-135M (`launch.py import smollm2 --workdir=runs/smollm2`, read from there), rows of 64 tokens, 40
            steps, codes at 3 of 30 feed-forwards, one seed: 10 minutes on 2 cores. Test loss 3.92 nats a token against
            2.88 trained on without codes; counting reaches 5.40.

Expected (pilot's bars): attention codes cost 0.02 nats at most; codes in both places and k = 1 cost more than 0.03, and
0.6 to 0.98 of the sampled transitions are edges, more with each larger k; k = 16 costs 0.03 at most. For each state
there is a code that is more precise than the best neuron by 0.1; activating the feed-forwards' codes of another state
leaves 0.35 or less of the distance to its next token, those of one attention layer 0.7 or more. With all k codes those
of a topic, 3 times as many words are of that topic as without, and more than with one of them. Codes at a tenth of
SmolLM2's feed-forwards cost 0.1 nats at most (the paper's, at all of a network of 410M: 0.32).

  python launch.py train --config=experiments/codebook_features.py:cpu
"""

import dataclasses
from typing import Any

from arch.bottlenecks.several import Grouped
from experiments import (
    BPE,
    MLP,
    AdamW,
    AtLeast,
    AtMost,
    Attention,
    Better,
    Block,
    Bottleneck,
    Codebook,
    Constant,
    Cosine,
    Data,
    Decoder,
    FromArm,
    FromRun,
    KMeansCodes,
    LayerNorm,
    Listed,
    LocalText,
    Logging,
    Monotone,
    Muon,
    NoWorse,
    Parallel,
    PerHead,
    PreNorm,
    PydocSections,
    Run,
    Sequential,
    StateCodes,
    StateMachine,
    StateSteering,
    Study,
    Text,
    TopicSteering,
    TransitionValidity,
    UserError,
    unknown_form,
)
from experiments.codebook_tables import PAPER, STEERING, WIKITEXT
from experiments.config import render

FORMS = ("", "wikitext", "text", "cpu", "tiny")
IMPORTED = "smollm2"
"""The form that an imported model is needed for."""

FOLDER = "runs/smollm2"
QUESTION = "What does a network lose whose activations are sums of a few codes, and do codes stand for states?"
GROUPED = "MLP, 16 groups of k=8"
BASE, LONGER, ATTENTION = "base", "base, trained on", "attention, k=1"
LOSS, VALID = "val/loss", "suite/valid_transition_score"


def get_config(form: str = "") -> Study:
    if form == IMPORTED:
        return smollm2(FOLDER)
    if form not in FORMS:
        raise unknown_form(form, (*FORMS, IMPORTED))
    return {"": full, "wikitext": wikitext, "text": text, "cpu": cpu, "tiny": tiny}[form]()


def both(k: int) -> str:
    """The arm with codes at the heads and at the feed-forwards."""
    return f"attention and MLP, k={k}"


def with_codes(run: Run, steps: int, **sites: Bottleneck) -> Run:
    """`run`, trained, with bottlenecks at `attn_z` and `mlp_out`, and trained on."""
    model: Any = run.model
    names = {"attn_z": "attn.z", "mlp_out": "mlp_out"}
    block = dataclasses.replace(model.block, at=tuple((names[site], part) for site, part in sites.items()))
    return dataclasses.replace(trained_on(run, steps), model=dataclasses.replace(model, block=block))


def trained_on(run: Run, steps: int) -> Run:
    """From where `run` ended, at a third of its rate."""
    optimizer = dataclasses.replace(run.optimizer, learning_rate=run.optimizer.learning_rate / 3)
    return dataclasses.replace(run, start=FromArm(BASE), steps=steps, optimizer=optimizer)


def study(
    base: Run, steps: int, attention: Codebook, mlp: Codebook, ks: tuple[int, ...], rows: int, **sizes: Any
) -> Study:
    """The base, trained on as it is, and with codes: `attention` alone, and `mlp` in both places for each of `ks`."""
    of_k = {both(k): dataclasses.replace(mlp, k=k) for k in ks}
    least, most = both(ks[0]), both(ks[-1])
    return Study(
        question=QUESTION,
        arms={
            BASE: base,
            LONGER: trained_on(base, steps),
            ATTENTION: with_codes(base, steps, attn_z=PerHead(attention)),
            **{name: with_codes(base, steps, attn_z=PerHead(one), mlp_out=one) for name, one in of_k.items()},
        },
        claims=(
            NoWorse(ATTENTION, than=LONGER, margin=0.02, metric=LOSS),
            Better(LONGER, than=least, margin=0.03, metric=LOSS),
            NoWorse(most, than=LONGER, margin=0.03, metric=LOSS),
            Monotone(tuple(of_k), metric=VALID),
            AtLeast(BASE, VALID, 0.97),
            AtLeast(least, VALID, 0.6),
            AtMost(least, VALID, 0.98),
            AtLeast(least, "suite/precision_margin_score", 0.1),
            AtMost(least, "suite/mlp_distance_error", 0.35),
            AtLeast(least, "suite/attention_distance_error", 0.7),
            AtLeast(least, "suite/mlp_random_distance_error", 0.7),
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


def run(
    data: Data, width: int, depth: int, steps: int, batch: int, rate: float, block: type[Block], heads: int = 4
) -> Run:
    net = Decoder(
        vocab=data.describe().vocab or 0,
        width=width,
        depth=depth,
        block=block(norm=LayerNorm(), mixer=Attention(heads=heads), feed_forward=MLP()),
        stack=Sequential(loop="unroll"),
        norm=LayerNorm(),
    )
    return Run(
        model=net,
        data=data,
        optimizer=AdamW(rate, Constant(), weight_decay=0.0),
        batch=batch,
        steps=steps,
        logging=Logging(log=max(steps // 20, 1), evaluate=max(steps // 5, 1), checkpoint=0, keep=1),
    )


def full() -> Study:
    """The paper's sizes; one norm for both sublayers where GPT-NeoX has one each."""
    base = run(StateMachine(), width=128, depth=4, steps=20_000, batch=512, rate=1e-3, block=Parallel)
    base = dataclasses.replace(base, optimizer=dataclasses.replace(base.optimizer, learning_rate=3e-3))
    codes = Codebook(20_000, prenorm="layer")
    return study(base, 20_000, Codebook(2_000), codes, (1, 4, 16, 128), rows=1000)


def wikitext() -> Study:
    """The larger of the paper's language models. Its text is not packaged, and nothing is steered."""
    data = Text(LocalText("data/wikitext103/*.parquet"), BPE(32_768), length=1024)
    base = run(data, width=1024, depth=24, steps=15_000, batch=24, rate=1.5e-3, block=Parallel, heads=16)
    base = dataclasses.replace(base, precision="bfloat16")
    codes = Codebook(10_000, k=8, prenorm="layer")
    arms = {
        BASE: base,
        LONGER: trained_on(base, 15_000),
        "attention, k=8": with_codes(base, 15_000, attn_z=PerHead(codes)),
        "attention, k=64": with_codes(base, 15_000, attn_z=PerHead(dataclasses.replace(codes, k=64))),
        "MLP, k=100": with_codes(base, 15_000, mlp_out=dataclasses.replace(codes, k=100)),
        GROUPED: with_codes(base, 15_000, mlp_out=Grouped(codes)),
        "MLP, 16 groups of k=64": with_codes(base, 15_000, mlp_out=Grouped(dataclasses.replace(codes, k=64))),
    }
    claims = (Better(GROUPED, than="MLP, k=100", margin=0.2, metric=LOSS),
              Better("attention, k=64", than="attention, k=8", margin=0.1, metric=LOSS))  # fmt: skip
    return Study(QUESTION, arms, claims, metric=LOSS, seeds=1, paper=WIKITEXT)


def text() -> Study:
    """Two topics, codes named by how much more often they fire on one."""
    base = run(Text(PydocSections(), BPE(512), length=64), 64, 4, steps=600, batch=16, rate=3e-3, block=PreNorm)
    codes = Codebook(256, k=4, prenorm="layer")
    return Study(
        question="Do codes that fire on a topic make a model write of it?",
        arms={
            BASE: base,
            LONGER: trained_on(base, 400),
            "MLP, k=4": with_codes(base, 400, mlp_out=codes),
            both(4): with_codes(base, 400, attn_z=PerHead(codes), mlp_out=codes),
        },
        claims=tuple(
            claim
            for arm in ("MLP, k=4", both(4))
            for claim in (
                AtLeast(arm, "suite/topic_gain_score", 3.0),
                AtLeast(arm, "suite/topic_all_margin_score", 0.0),
                AtLeast(arm, "suite/topic_control_margin_score", 0.0),
            )
        ),
        metric=LOSS,
        suite=(TopicSteering(rows=64),),
        paper=STEERING,
        notes=(
            "Published: WikiText, 410M, per cent of the texts written that are on the topic; here it is the share of "
            "words that are of the topic.",
            "The last bar, that codes of the topic do more than others that are as frequent, is a control.",
        ),
        seeds=3,
    )


def cpu() -> Study:
    """More states than twice the width. The base is trained by Muon: 1,500 updates by AdamW, as in the pilot with 25
    states, leave four in ten of its transitions wrong."""
    data = StateMachine(states=64, edges=5, length=24, rows=400_000, held_out=256, tested=512)
    base = run(data, width=24, depth=2, steps=6000, batch=64, rate=3e-3, block=PreNorm)
    base = dataclasses.replace(base, logging=Logging(log=100, evaluate=400, checkpoint=0, keep=1))
    found = study(base, 800, Codebook(256, std=0.3), Codebook(256, prenorm="layer"), (1, 4, 16), rows=512, seeds=3)
    base = dataclasses.replace(base, optimizer=Muon(3e-2, schedule=Cosine(warmup=0.05)))
    return dataclasses.replace(found, arms={**found.arms, BASE: base})


def tiny() -> Study:
    """Everything that the other forms do, in seconds."""
    data = StateMachine(states=16, edges=2, length=6, rows=64, held_out=16, tested=16)
    base = run(data, width=8, depth=1, steps=4, batch=8, rate=3e-3, block=PreNorm)
    return study(base, 3, Codebook(6, std=0.3), Codebook(6, prenorm="layer"), (1, 2), rows=16, seeds=2)


def smollm2(folder: str, steps: int = 40, layers: tuple[int, ...] = (9, 19, 29)) -> Study:
    """The model that was imported into `folder`, trained on as it is and with codebooks at some feed-forwards; codes
    start from data. Raises UserError: nothing was imported there."""
    try:
        run = render.read(folder)
    except UserError as error:
        how = f"python launch.py import smollm2 --workdir={folder}"
        raise UserError(f"{folder}: holds no imported model ({error}); make it by `{how}`") from error
    assert isinstance(run, Run)
    text: Any = run.data
    source = dataclasses.replace(text.source, validation=0.004, test=0.004)
    base = dataclasses.replace(
        run,
        data=dataclasses.replace(text, source=source, length=64),
        optimizer=AdamW(1e-4, Constant(), weight_decay=0.0),
        batch=4,
        steps=steps,
        logging=Logging(log=5, evaluate=0, checkpoint=0, keep=1),
        start=FromRun(folder),
    )
    # Codes of vectors as they are diverge: their error is in the hundreds, of a few huge activations, and no loss holds
    # those back (4.0 nats at the first updates, 16 after 40).
    codes = Grouped(Codebook(256, k=8, prenorm="layer"))
    model = base.model
    start = KMeansCodes(FromRun(folder), rows=64)
    return Study(
        question="What do codebooks at some feed-forwards of a pretrained network cost?",
        arms={LONGER: base, GROUPED: dataclasses.replace(base, model=coded(model, layers, codes), start=start)},
        claims=(NoWorse(GROUPED, than=LONGER, margin=0.1, metric=LOSS),),
        metric=LOSS,
        paper=WIKITEXT,
        notes=(f"Codes stand at layers {', '.join(map(str, layers))}, the paper's at all.",),
        seeds=1,
    )


def coded(model: Any, layers: tuple[int, ...], part: Bottleneck) -> Any:
    """`model`, a decoder of one block, with a bottleneck at the feed-forwards of some layers."""
    block = dataclasses.replace(model.block, at=(("mlp_out", part),))
    each = tuple(block if layer in layers else model.block for layer in range(model.depth))
    return dataclasses.replace(model, block=Listed(each))
