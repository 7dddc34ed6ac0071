"""Make Deep Networks Shallow Again (arXiv 2309.08414): the same residual modules one after another, or side by side.

Sequential y = (I + F_L) o ... o (I + F_1) x against parallel y = x + sum_k F_k(x), at equal parameters and from equal
initial weights, over the determination ratio Q = K M / P (training rows, outputs, parameters).

Forms, and what each costs:

  (none)   MNIST and CIFAR-10 by TFDS, 4 to 32 modules of 8 to 64 filters, 5 seeds; meant for accelerators. The paper
           trained 6,912 combinations; its exact grid is not known.
  :cpu     8 modules of 2, 4, 8 and 16 filters on scikit-learn's 8 x 8 digits, 8 seeds: 14 minutes on one core.
  :tiny    two modules, a few steps: seconds; what the tests run.

Expected: sequential reaches the lower training loss, on average over sizes as in Table 2 and at each of them; on
validation the two are near each other, and parallel is clearly ahead where parameters outnumber constraints on CIFAR-10
(published: 2.03 against 1.32 at Q < 1). Weights start as LeCun's: from He's, 8 modules multiply the signal so much that
the sequential network loses its lead.

  python launch.py train --config=experiments/shallow_again.py:cpu
"""

from arch import cost
from experiments import (
    AdamW,
    Better,
    Classification,
    Constant,
    ConvResidual,
    Data,
    Digits,
    Equivalent,
    FanIn,
    Logging,
    OnAverage,
    ParallelStack,
    RatioBelow,
    Run,
    Sequential,
    Study,
    Tfds,
    TfdsImages,
    unknown_form,
)
from experiments.study.claims.claims import Claim

FORMS = ("", "cpu", "tiny")
QUESTION = "Do residual modules learn as well side by side as one after another?"
LAYOUTS = {"sequential": Sequential(), "parallel": ParallelStack()}

# Table 2: mean cross-entropy of training and validation, by Q.
BUCKETS = ("[0, 1)", "[1, 3)", "[3, 10)", "[10, inf)")
PUBLISHED = {
    ("MNIST", "sequential"): ((0.00013, 0.05201), (0.01702, 0.12449), (0.03620, 0.11743), (0.11246, 0.13550)),
    ("MNIST", "parallel"): ((0.00009, 0.07551), (0.02679, 0.11468), (0.05238, 0.11467), (0.13310, 0.14900)),
    ("CIFAR-10", "sequential"): ((0.25326, 2.03107), (0.72510, 1.31691), (1.07333, 1.34721), (1.58608, 1.65354)),
    ("CIFAR-10", "parallel"): ((0.52658, 1.32386), (0.88701, 1.24884), (1.17085, 1.34227), (1.63449, 1.68879)),
}
PAPER = tuple(
    {"data": data, "layout": layout, "Q": bucket, "train/loss": train, "val/loss": validation}
    for (data, layout), row in PUBLISHED.items()
    for bucket, (train, validation) in zip(BUCKETS, row, strict=True)
)


def get_config(form: str = "") -> Study:
    if form not in FORMS:
        raise unknown_form(form, FORMS)
    return {"": full, "cpu": cpu, "tiny": tiny}[form]()


def full() -> Study:
    """MNIST and CIFAR-10, from far fewer parameters than constraints to more."""
    sets = {
        "MNIST": (TfdsImages(Tfds("mnist", validation="test"), (28, 28, 1)), 60_000),
        "CIFAR-10": (TfdsImages(Tfds("cifar10", validation="test"), (32, 32, 3)), 50_000),
    }
    arms: dict[str, Run] = {}
    notes: list[str] = []
    claims: list[Claim] = []
    for name, (data, rows) in sets.items():
        for depth, width in ((4, 8), (8, 16), (16, 32), (32, 64)):
            pair = layouts(f"{name} {depth} x {width}", data, data.shape, width, depth, steps=15_000, batch=128)
            arms |= pair
            sequential, parallel = pair
            notes.append(ratio(f"{name} {depth} x {width}", pair[sequential], rows))
            claims.append(trains_lower(sequential, parallel))
    claims = [
        OnAverage(tuple(claims)),
        *claims,
        Better("CIFAR-10 32 x 64 parallel", than="CIFAR-10 32 x 64 sequential"),
    ]
    return study(arms, tuple(claims), tuple(notes), seeds=5)


def cpu() -> Study:
    """8 x 8 digits; the bars are those that this scale can show."""
    arms: dict[str, Run] = {}
    notes: list[str] = []
    lower: list[Claim] = []
    near: list[Claim] = []
    for width in (2, 4, 8, 16):
        pair = layouts(f"{width} filters", Digits(), (8, 8, 1), width, depth=8, steps=600, batch=64)
        arms |= pair
        sequential, parallel = pair
        notes.append(ratio(f"{width} filters", pair[sequential], Digits().trained))
        lower.append(trains_lower(sequential, parallel))
        near += [
            Equivalent(parallel, to=sequential, margin=0.015, metric="val/accuracy"),
            Equivalent(parallel, to=sequential, margin=0.03),
        ]
    notes.append("That parallel wins on validation is seen on CIFAR-10 at Q < 1 and is not asked of the digits.")
    return study(arms, (OnAverage(tuple(lower)), *lower, *near), tuple(notes), seeds=8)


def tiny() -> Study:
    """Everything the other forms do, in seconds."""
    arms = layouts("2 filters", Digits(), (8, 8, 1), width=2, depth=2, steps=6, batch=16)
    sequential, parallel = arms
    notes = (ratio("2 filters", arms[sequential], Digits().trained),)
    return study(arms, (Equivalent(parallel, to=sequential, margin=1.0),), notes, seeds=2)


def trains_lower(sequential: str, parallel: str) -> Claim:
    return RatioBelow(sequential, than=parallel, metric="train/loss", at_most=1.0, every_seed=False)


def layouts(
    name: str, data: Data, image: tuple[int, int, int], width: int, depth: int, steps: int, batch: int
) -> dict[str, Run]:
    """The same modules in both layouts: "NAME sequential" and "NAME parallel"."""
    return {
        f"{name} {layout}": Run(
            model=ConvResidual(image=image, width=width, depth=depth, stack=stack, init=FanIn()),
            data=data,
            objective=Classification(),
            optimizer=AdamW(learning_rate=1e-3, schedule=Constant(), clip=None, weight_decay=0.0, b2=0.999),
            batch=batch,
            steps=steps,
            logging=Logging(log=-(-steps // 100), evaluate=-(-steps // 6), checkpoint=-(-steps // 2), keep=1),
        )
        for layout, stack in LAYOUTS.items()
    }


def ratio(name: str, run: Run, rows: int) -> str:
    """A line on Q, with the dense head, which can hold most of the parameters, and without."""
    model = run.model
    assert isinstance(model, ConvResidual)
    count = cost.parameters(model)
    with_head, without = (model.determination(rows, parameters) for parameters in (count.total, count.body))
    return f"{name}: {count.total:,} parameters, Q = {with_head:.2f}; {without:.2f} without the weights of the head."


def study(arms: dict[str, Run], claims: tuple[Claim, ...], notes: tuple[str, ...], seeds: int) -> Study:
    """Arms that share seeds, and with them initial weights and batches."""
    common = "train/loss is the mean over the last tenth of the steps, whose batches both layouts share within a seed."
    return Study(
        question=QUESTION,
        arms=arms,
        claims=claims,
        seeds=seeds,
        metric="val/loss",
        paper=PAPER,
        notes=(*notes, common),
    )
