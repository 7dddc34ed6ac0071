"""Codebooks and sparse autoencoders at equal bits: how much of what a trained model knows passes?

They have not been compared so: benches of sparse autoencoders hold no quantiser, and libraries of quantisers report no
recovered loss. Eight quantisers and three sparse codes stand at the output of every feed-forward of one trained, frozen
model, each with as many bits a token as the others (`at_equal_bits`; an amplitude of a sparse code has 8), and are
trained alike. The score is the share of the cross-entropy that is lost to zeros in their place and recovered with them
(`suites.recovery`).

Forms:

  (none)   the 130M decoder of the curse of depth on C4 (data/c4/*.parquet), 256 bits a token and layer: accelerators.
  :cpu     4 layers of width 64 on Python's reference text, 64 bits a token and layer, 3 seeds after 3 learning rates x
           1 seed each; not run yet.
  :tiny    seconds; what the tests run.

Nothing is published to set beside it. The claims ask whether discrete codes keep as much as sparse ones.

  python launch.py train --config=experiments/bits_and_recovery.py:cpu
"""

import dataclasses
from collections.abc import Callable, Mapping

from arch.bottlenecks.several import Grouped
from experiments import (
    BPE,
    MLP,
    AdamW,
    Attention,
    BatchTopK,
    Better,
    Bottleneck,
    Bytes,
    Codebook,
    Cosine,
    Decoder,
    FiniteScalar,
    FromArm,
    Gated,
    GumbelSoftmax,
    KMeansCodes,
    LearnedCodes,
    Logging,
    LookupFree,
    Match,
    NoWorse,
    PreNorm,
    PydocTopics,
    Recovery,
    Residual,
    Rotation,
    Run,
    SimVQ,
    Study,
    Text,
    TopK,
    VectorQuantized,
    at_equal_bits,
    unknown_form,
)
from experiments.lns_sizes import run as paper_run

FORMS = ("", "cpu", "tiny")
QUESTION = "At equal bits, do discrete codes let as much of a trained model through as sparse autoencoders do?"
BASE = "no bottleneck"
SCORE = "suite/recovered_score"
SITE = "mlp_out"
FROZEN = r"^(?!.*\.at\.)"
"""All parameters but those of the bottlenecks."""

FITTED = ("top-k codebook", "VQ-VAE", "learned codes, rotation", "residual VQ")
"""Those whose codes are vectors of the site, and start as the k-means of what the trained model has there."""

Sized = Callable[[int], Bottleneck]


def get_config(form: str = "") -> Study:
    if form not in FORMS:
        raise unknown_form(form, FORMS)
    return {"": full, "cpu": cpu, "tiny": tiny}[form]()


def kinds(codes: int, sparse: int, few: int) -> dict[str, Sized]:
    """The bottlenecks by the size that makes them comparable: groups, stages or active codes.

    Args:
      codes: of a codebook of which one code is chosen.
      sparse: of a dictionary of which several are.
      few: binary digits or levels of a group without a codebook, in bits.
    """
    levels = (4,) * (few // 2)
    return {
        "top-k codebook": lambda size: Codebook(codes=sparse, k=size, prenorm="layer"),
        "VQ-VAE": lambda size: Grouped(VectorQuantized(codes=codes, revive=0.1), size),
        "learned codes, rotation": lambda size: Grouped(LearnedCodes(codes=codes, gradient=Rotation()), size),
        "residual VQ": lambda size: Residual(VectorQuantized(codes=codes, revive=0.1), size),
        "SimVQ": lambda size: Grouped(SimVQ(codes=codes), size),
        "Gumbel-softmax": lambda size: Grouped(GumbelSoftmax(codes=codes), size),
        "FSQ": lambda size: Grouped(FiniteScalar(levels), size),
        "LFQ": lambda size: Grouped(LookupFree(few), size),
        "TopK autoencoder": lambda size: TopK(codes=sparse, k=size, precision=8),
        "BatchTopK autoencoder": lambda size: BatchTopK(codes=sparse, k=size, precision=8),
        "gated autoencoder": lambda size: Gated(codes=sparse, k=size, precision=8),
    }


def with_bottleneck(base: Run, name: str, bottleneck: Bottleneck, steps: int, learning_rate: float) -> Run:
    """`base` trained, frozen, with a bottleneck at the output of every feed-forward, which alone is trained."""
    trained = FromArm(BASE)
    block = dataclasses.replace(base.model.block, at=((SITE, bottleneck),))  # type: ignore[attr-defined]
    return dataclasses.replace(
        base,
        model=dataclasses.replace(base.model, block=block),  # type: ignore[call-arg]
        start=KMeansCodes(trained) if name in FITTED else trained,
        steps=steps,
        optimizer=dataclasses.replace(base.optimizer, learning_rate=learning_rate, freeze=(FROZEN,)),
    )


def study(
    base: Run, sized: Mapping[str, Sized], bits: float, tolerance: float, steps: int, rate: float, **more: object
) -> Study:
    """Every bottleneck at `bits` a token and layer, trained for `steps` updates on the trained base."""
    width = base.model.width  # type: ignore[attr-defined]
    found = at_equal_bits(sized, bits, (width,), tolerance)
    arms = {name: with_bottleneck(base, name, one, steps, rate) for name, one in found.items()}
    return Study(
        question=QUESTION,
        arms={BASE: base, **arms},
        claims=(
            Better("top-k codebook", than="TopK autoencoder", metric=SCORE, margin=0.01),
            NoWorse("residual VQ", than="TopK autoencoder", metric=SCORE, margin=0.02),
            NoWorse("FSQ", than="TopK autoencoder", metric=SCORE, margin=0.02),
            Better("residual VQ", than="VQ-VAE", metric=SCORE),
        ),
        match=Match("bits", 2 * tolerance),
        metric="val/loss",
        suite=(Recovery(sites=False),),
        notes=(
            "recovered: (loss with zeros - loss with the bottleneck) / (loss with zeros - loss without), of test.",
            "Bits are the ceiling, all codes equally probable; suite/bits_used is the entropy of those that were used.",
            f"{', '.join(FITTED)} start from the k-means of the site's values; the others have no such codes.",
            "Every seed has a trained model of its own, the same for all arms.",
        ),
        **more,  # type: ignore[arg-type]
    )


def cpu() -> Study:
    """64 bits a token and layer."""
    data = Text(PydocTopics(), BPE(512), length=64)
    block = PreNorm(mixer=Attention(heads=4), feed_forward=MLP(hidden=256))
    base = Run(
        model=Decoder(512, 64, 4, block),
        data=data,
        optimizer=AdamW(learning_rate=3e-3, schedule=Cosine(warmup=0.05, final=0.1)),
        batch=16,
        steps=1500,
        logging=Logging(log=100, evaluate=0, checkpoint=500, keep=1),
    )
    return study(base, kinds(256, 1024, 16), 64, 0.1, 300, 3e-3, learning_rates=(1e-3, 3e-3, 1e-2), tuning_seeds=1)


def tiny() -> Study:
    """16 bits a token and layer, in seconds."""
    base = Run(
        model=Decoder(256, 16, 2, PreNorm(mixer=Attention(heads=2), feed_forward=MLP(hidden=16))),
        data=Text(PydocTopics(), Bytes(), length=16),
        optimizer=AdamW(learning_rate=3e-3),
        batch=4,
        steps=3,
        logging=Logging(log=1, evaluate=0, checkpoint=0, keep=1),
    )
    sized = {name: make for name, make in kinds(4, 64, 2).items() if name in TINY}
    return study(base, sized, 16, 0.2, 2, 3e-3, seeds=2)


TINY = ("top-k codebook", "VQ-VAE", "residual VQ", "FSQ", "TopK autoencoder")


def full() -> Study:
    """256 bits a token and layer of the paper's 130M decoder."""
    base = paper_run("130M")
    return study(base, kinds(1024, 32_768, 16), 256, 0.1, 5_000, 1e-3, seeds=3)
