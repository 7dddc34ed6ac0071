"""Return of the Encoder (arXiv 2501.16273): does an encoder-decoder translate better than a decoder of equal cost?

A decoder alone carries the source through all of its layers; a pair reads it once, with two thirds of them. At equal
parameters a pair has about half the training FLOPs of a row, so that the decoder is ahead at equal steps: all arms
spend equal training FLOPs here. The depths of the pair are split three ways, matched by width. On a fifth of the pairs
the same pair is trained for half the updates, by itself, and by what the decoder, trained on all of them, says after
prefixes that the pair writes (alpha = 0.9, forward KL, temperature 0.9, the 128 most probable tokens: released code).

Forms:

  (none)   the 330M shape (experiments/pair_sizes.py) against 31 layers of the same block: accelerators.
  :cpu     0.4 million parameters on help pages, German to English, 500 updates of the pairs, 3 seeds after 3 learning
           rates; 98 minutes of a core. The pair is ahead by 0.51 nats, and no arm passes counting: nothing concluded.
  :find    a long source and a short target: a word and six verses, to the first words of that which has it
           (`FindVerse`, 156 tokens to 6); 4+2 layers against the decoder alone; not run yet.
  :tiny    seconds; what the tests run.

Published, 330M, pair and decoder: SQuAD 0.69 and 0.57, XSum 0.27 and 0.24 (judged scores 0.94, 0.90; 0.20, 0.19); two
thirds of the layers in the encoder is the best split. At small scale the better family was not known before: what comes
out is reported, whichever way it falls. Latency and speed: bench/encoder_decoder.py.

The teacher here is the decoder of equal cost, where the paper has one of 3.8 billion parameters.

  python launch.py train --config=experiments/return_of_the_encoder.py:cpu
"""

import dataclasses
from typing import Any

from arch.decode.sampling import Sample
from arch.models.encoder_decoder import reading
from experiments import (
    MLP,
    AdamW,
    Attention,
    Better,
    Bidirectional,
    Concatenated,
    Cosine,
    CrossAttention,
    Decoder,
    Distill,
    EncoderDecoder,
    Fewer,
    FindVerse,
    FromArm,
    LibreOfficeHelp,
    Logging,
    ParallelText,
    PrefixConcatenated,
    PreNorm,
    Pretrained,
    Reversed,
    Run,
    SequenceToSequence,
    StudentPrefixes,
    Study,
    TfdsPairs,
    Tied,
    Trunk,
    WordPieces,
    match,
    unknown_form,
)
from experiments.pair_sizes import SIZES
from experiments.study.match import at_equal_flops

FORMS = ("", "cpu", "find", "tiny")
QUESTION = "At equal parameters and training FLOPs, does an encoder-decoder translate better than a decoder alone?"
PAPER = (
    {"measured": "SQuAD 2.0, overlap and judge", "encoder-decoder": "0.69, 0.94", "decoder": "0.57, 0.90"},
    {"measured": "IELTS", "encoder-decoder": "0.32, 0.46", "decoder": "0.31, 0.40"},
    {"measured": "CodeXGLUE", "encoder-decoder": "0.93, 0.74", "decoder": "0.93, 0.63"},
    {"measured": "XSum", "encoder-decoder": "0.27, 0.20", "decoder": "0.24, 0.19"},
)


def get_config(form: str = "") -> Study:
    if form not in FORMS:
        raise unknown_form(form, FORMS)
    return {"": full, "cpu": cpu, "find": find, "tiny": tiny}[form]()


def pair(vocab: int, width: int, depth: tuple[int, int], heads: int, hidden: int) -> EncoderDecoder:
    """Pre-norm blocks, one table for source, target and head."""
    feed_forward = MLP(hidden=hidden)
    encoding = PreNorm(mixer=Attention(heads=heads, mask=Bidirectional()), feed_forward=feed_forward)
    decoding = reading(PreNorm(mixer=Attention(heads=heads), feed_forward=feed_forward), CrossAttention(heads=heads))
    return EncoderDecoder(
        encoder=Trunk(vocab, width, depth[0], encoding, embedding=None),
        decoder=Trunk(vocab, width, depth[1], decoding),
        head=Tied(),
    )


def decoder(vocab: int, width: int, depth: int, heads: int, hidden: int) -> Decoder:
    """The same blocks without an encoder."""
    block = PreNorm(mixer=Attention(heads=heads), feed_forward=MLP(hidden=hidden))
    return Decoder(vocab, width, depth, block, head=Tied())


def study(pairs: dict[str, Run], alone: Decoder, prefix: bool, end: int | None = 1, **sizes: Any) -> Study:
    """`pairs`, the first of which has two thirds of its layers in the encoder, the decoder at their FLOPs (`prefix`:
    and one whose source sees both sides), and the first on a fifth of the data. `end`: the token that ends a target;
    None: none does."""
    first, *others = pairs.values()
    objectives = {"decoder": Concatenated(), **({"decoder, prefix": PrefixConcatenated()} if prefix else {})}
    decoders = {name: dataclasses.replace(first, model=alone, objective=one) for name, one in objectives.items()}
    splits = dict(zip(list(pairs)[1:], others, strict=True))
    arms = {next(iter(pairs)): first, **at_equal_flops(first, {**splits, **decoders})}
    name, *rest = arms
    fifth = {f"{name}, {what}": one for what, one in on_a_fifth(first, alone, end).items()}
    plain, distilled = fifth
    claims = (
        *(Better(name, than=other) for other in ("decoder", *(one for one in rest if one != "decoder"))),
        Better(distilled, than=plain, margin=0.05),
    )
    half = (
        "Those on a fifth of the pairs have half the updates of the first, and distillation costs more than that: the "
        "student writes, the teacher reads."
    )
    return judged({**arms, **fifth}, claims, (half,), **sizes)


def judged(arms: dict[str, Run], claims: tuple[Better, ...], notes: tuple[str, ...] = (), **sizes: Any) -> Study:
    """The study of arms that spend what the first does, but for what `notes` say."""
    return Study(
        question=QUESTION,
        arms=arms,
        claims=claims,
        metric="val/loss",
        paper=PAPER,
        notes=(
            "The loss is that of the target's tokens in every arm, nats a token.",
            "Steps differ, so that all arms spend the training FLOPs of the first.",
            *notes,
        ),
        **sizes,
    )


def on_a_fifth(base: Run, teacher: Decoder, end: int | None) -> dict[str, Run]:
    """The pair on a fifth of its data, for half the updates: by itself, and taught by the arm "decoder"."""
    plain = dataclasses.replace(base, data=Fewer(base.data, 0.2), steps=max(base.steps // 2, 1))
    prefixes = StudentPrefixes(Sample(temperature=0.9, top_k=128), end=end)
    taught = Distill(Pretrained(teacher, FromArm("decoder")), reads=Concatenated(), prefixes=prefixes, alpha=0.9)
    return {"a fifth": plain, "distilled on a fifth": dataclasses.replace(plain, objective=taught)}


def run(network: Any, data: Any, batch: int, steps: int, learning_rate: float = 3e-3) -> Run:
    return Run(
        model=network,
        data=data,
        objective=SequenceToSequence(),
        optimizer=AdamW(learning_rate=learning_rate, schedule=Cosine(warmup=0.1, final=0.1), weight_decay=0.0, b2=0.98),
        batch=batch,
        steps=steps,
        logging=Logging(log=max(steps // 20, 1), evaluate=0, checkpoint=max(steps // 3, 1), keep=1),
    )


def splits(base: Run, depths: tuple[tuple[int, int], ...], tolerance: float = 0.03) -> dict[str, Run]:
    """The pair with its layers split so, matched in parameters by width; "4+2"."""
    found = match(base, depth=depths, hold="params", unit=4, tolerance=tolerance)
    return {name.removeprefix("depth="): one for name, one in found.items()}


def cpu() -> Study:
    """6 layers, split three ways, against 7 of a decoder alone: cross-attention is worth about one."""
    data = ParallelText(LibreOfficeHelp("de", "en", longest=90), WordPieces(1024), source_length=32, length=32)
    base = run(pair(1024, 64, (4, 2), heads=4, hidden=256), data, batch=48, steps=500)
    pairs = splits(base, ((4, 2), (3, 3), (2, 4)))
    alone = decoder(1024, 64, 7, heads=4, hidden=240)
    return study(pairs, alone, False, learning_rates=(3e-3, 6e-3, 1.2e-2), tuning_seeds=1, seeds=3)


def find() -> Study:
    """156 tokens to 6: what a decoder alone carries through all of its layers, a pair reads once."""
    data = ParallelText(FindVerse(times=4), WordPieces(2048), source_length=192, length=12)
    base = run(pair(2048, 64, (4, 2), heads=4, hidden=256), data, batch=32, steps=500)
    alone = dataclasses.replace(base, model=decoder(2048, 64, 7, heads=4, hidden=240), objective=Concatenated())
    arms = {"4+2": base, **at_equal_flops(base, {"decoder": alone})}
    claims = (Better("4+2", than="decoder", margin=0.03),)
    return judged(arms, claims, learning_rates=(3e-3, 6e-3, 1.2e-2), tuning_seeds=1, seeds=3)


def tiny() -> Study:
    """Rows that are to be reversed, in seconds."""
    base = run(pair(16, 16, (2, 1), heads=2, hidden=32), Reversed(length=6), batch=4, steps=4)
    pairs = splits(base, ((2, 1), (1, 2)), tolerance=0.05)
    alone = decoder(16, 16, 4, heads=2, hidden=32)
    return study(pairs, alone, False, end=None, learning_rates=(1e-3, 1e-2, 1.0), tuning_seeds=1, seeds=2)


def full() -> Study:
    """The released shape, 20 + 10 layers, and 31 layers of its blocks alone."""
    pairs = TfdsPairs("wmt14_translate/de-en", "de", "en")
    data = ParallelText(pairs, WordPieces(32_128), source_length=256, length=256)
    size = SIZES["mu-330M"].model()
    trunk = size.decoder
    assert isinstance(trunk.block, PreNorm)
    block = dataclasses.replace(trunk.block, extra=(), order=())
    base = run(size, data, batch=128, steps=100_000, learning_rate=1e-4)
    return study({"20+10": base}, Decoder(trunk.vocab, trunk.width, 31, block, head=size.head), True, seeds=3)
