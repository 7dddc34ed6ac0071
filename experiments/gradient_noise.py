"""Adding Gradient Noise Improves Learning for Very Deep Networks (arXiv 1511.06807).

Deep plain perceptrons trained by SGD with and without Gaussian noise of variance eta / (1 + t)^0.55 on the clipped
gradient. From a start where no gradient gets through, the noise walks the weights to where one does; from a good
start it changes nothing.

Forms, and what each costs:

  (none)   the paper's MNIST network, 20 layers of 50, by TFDS: four initialisations, two learning rates, clipping or
           none, 20 seeds. The paper does not say for how long it trains; here it is 50 epochs.
  :cpu     scikit-learn's 8 x 8 digits, 5 seeds: 21 minutes on a busy core. From zero weights 10 layers, because 20
           need 1e5 updates until the walk makes them critical (`walk_std`: 0.2 at width 50).
  :tiny    a few steps: seconds; what the tests run.

Expected (published, MNIST, best and mean test accuracy of 40 runs): Simple Init 89.9 and 43.1 without noise, 96.7 and
52.7 with it; He 97.4 and 91.7 without, 97.2 and 91.7 with it; zero 11.4 and 10.1 without, 94.5 and 49.7 with it.

  python launch.py train --config=experiments/gradient_noise.py:cpu
"""

from experiments import (
    SGD,
    AtLeast,
    AtMost,
    Better,
    Classification,
    Constant,
    Data,
    DeepMLP,
    Digits,
    Equivalent,
    GradientNoise,
    He,
    Initializer,
    Logging,
    Normal,
    Run,
    Study,
    SussilloAbbott,
    Tfds,
    TfdsImages,
    Zeros,
    unknown_form,
)
from experiments.study.claims.claims import Claim
from train.optim.noise import walk_std

FORMS = ("", "cpu", "tiny")
QUESTION = "Does noise on the gradient train deep networks that do not train without it?"
ETA = 0.01
ACCURACY = "val/accuracy"

# Best and mean test accuracy in percent of 40 runs, without and with noise.
PUBLISHED = {
    ("simple", "none"): ((89.9, 43.1), (96.7, 52.7)),
    ("simple", "100"): ((90.0, 46.3), (96.7, 52.3)),
    ("simple", "10"): ((95.7, 51.6), (97.0, 53.6)),
    ("sussillo-abbott", "10"): ((97.4, 92.1), (97.5, 92.2)),
    ("he", "10"): ((97.4, 91.7), (97.2, 91.7)),
    ("zero", "10"): ((11.4, 10.1), (94.5, 49.7)),
}
PAPER = tuple(
    {"init": init, "clip": clip, "eta": eta, "best accuracy": best, "mean accuracy": mean}
    for (init, clip), row in PUBLISHED.items()
    for eta, (best, mean) in zip((0.0, ETA), row, strict=True)
)


def get_config(form: str = "") -> Study:
    if form not in FORMS:
        raise unknown_form(form, FORMS)
    return {"": full, "cpu": cpu, "tiny": tiny}[form]()


def full() -> Study:
    """The paper's table on MNIST."""
    inits: dict[str, tuple[Initializer, tuple[float | None, ...]]] = {
        "simple": (Normal(0.1), (None, 100.0, 10.0)),
        "sussillo-abbott": (SussilloAbbott(), (10.0,)),
        "he": (He(), (10.0,)),
        "zero": (Zeros(), (10.0,)),
    }
    data = TfdsImages(Tfds("mnist", validation="test"), (28, 28, 1))
    arms: dict[str, Run] = {}
    for init, (start, clips) in inits.items():
        for clip in clips:
            for rate in (0.1, 0.01):
                name = f"{init}, clip {clip:g}, lr {rate:g}" if clip else f"{init}, no clip, lr {rate:g}"
                arms |= pair(name, start, 20, rate, steps=30_000, batch=100, data=data, image=(28, 28, 1), clip=clip)
    claims: list[Claim] = [
        Better("simple, no clip, lr 0.1, noise", than="simple, no clip, lr 0.1"),
        Better("zero, clip 10, lr 0.1, noise", than="zero, clip 10, lr 0.1"),
        Equivalent("he, clip 10, lr 0.1, noise", to="he, clip 10, lr 0.1", margin=0.02),
        Equivalent("sussillo-abbott, clip 10, lr 0.1, noise", to="sussillo-abbott, clip 10, lr 0.1", margin=0.02),
    ]
    return study(arms, tuple(claims), seeds=20)


def cpu() -> Study:
    """Digits; the bars are those that a few thousand updates can show."""
    arms = {
        **pair("simple", Normal(0.1), 20, 0.1, steps=12_000),
        **pair("zero", Zeros(), 10, 0.2, steps=6_000),
        **pair("he", He(), 20, 0.1, steps=4_000),
    }
    claims: list[Claim] = [
        Better("simple, noise", than="simple"),
        Better("zero, noise", than="zero"),
        Equivalent("he, noise", to="he", margin=0.02),
        AtLeast("simple, noise", ACCURACY, 0.85, every_seed=False),
        AtMost("simple", ACCURACY, 0.2),
        AtLeast("zero, noise", ACCURACY, 0.9, every_seed=False),
        AtMost("zero", ACCURACY, 0.2),
    ]
    notes = (walked("simple", 0.1, 0.1, 12_000), walked("zero", 0.0, 0.2, 6_000))
    return study(arms, tuple(claims), notes, seeds=5)


def tiny() -> Study:
    """Everything the other forms do, in seconds."""
    arms = pair("zero", Zeros(), 3, 0.2, steps=6)
    return study(arms, (AtMost("zero", ACCURACY, 0.3),), (walked("zero", 0.0, 0.2, 6),), seeds=2)


def pair(
    name: str,
    init: Initializer,
    depth: int,
    learning_rate: float,
    steps: int,
    batch: int = 32,
    data: Data = Digits(),
    image: tuple[int, int, int] = (8, 8, 1),
    clip: float | None = 10.0,
) -> dict[str, Run]:
    """The same network without noise, under `name`, and with it, under "NAME, noise"."""
    noises = {name: None, f"{name}, noise": GradientNoise(ETA)}
    return {
        arm: Run(
            model=DeepMLP(image=image, hidden=50, depth=depth, init=init, loop="unroll"),
            data=data,
            objective=Classification(),
            optimizer=SGD(learning_rate=learning_rate, schedule=Constant(), momentum=0.0, clip=clip, noise=noise),
            batch=batch,
            steps=steps,
            logging=Logging(log=-(-steps // 20), evaluate=-(-steps // 6), checkpoint=-(-steps // 2), keep=1),
        )
        for arm, noise in noises.items()
    }


def walked(name: str, start: float, learning_rate: float, steps: int) -> str:
    """A line on how far noise alone carries the weights, against where a network of width 50 is critical."""
    end, critical = float(walk_std(start, learning_rate, ETA, steps)), (2 / 50) ** 0.5
    return f"{name}: noise alone takes the weights' deviation from {start:g} to {end:.3f}; {critical:g} is critical."


def study(arms: dict[str, Run], claims: tuple[Claim, ...], notes: tuple[str, ...] = (), seeds: int = 3) -> Study:
    """Arms at their own learning rates, judged by accuracy."""
    return Study(
        question=QUESTION,
        arms=arms,
        claims=claims,
        seeds=seeds,
        metric=ACCURACY,
        lower_is_better=False,
        paper=PAPER,
        notes=notes,
    )
