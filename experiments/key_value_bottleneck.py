"""Discrete Key-Value Bottleneck (arXiv 2207.11240): does it keep what was learned of earlier classes?

Classes come in phases of two; no model knows when a phase ends, and no row of an earlier phase is seen again. All
stand on one frozen encoder. The bottleneck's keys follow unlabelled data in a run of their own ("keys") and are fixed
from then on; its values are all that is trained on the phases. Beside it a linear probe of the same features, training
of everything, and the probe on all classes at once, which is the ceiling.

Forms:

  (none)    CIFAR-10 by TFDS, an encoder trained as an autoencoder on CIFAR-100 and frozen, 256 heads of 4,096 pairs as
            in the paper: an accelerator.
  :fashion  Fashion-MNIST (Debian's dataset-fashion-mnist, 31 MB), 10,000 images, a convolutional encoder trained as an
            autoencoder on the images without labels and frozen, 64 heads of 256 pairs: about an hour on 2 cores; not
            run yet.
  :cpu      scikit-learn's digits, a frozen random layer of 256 units, 3 seeds: 10 minutes on 2 busy cores.
  :tiny     seconds; what the tests run.

Expected (digits, bars): the bottleneck ends at 0.92 or more on all classes, at 0.93 on those of the first phase, ahead
of the probe by 0.1 and of training everything by 0.4; keys from all classes are ahead of those from the first phase by
0.04, and 64 heads of one by 0.04. The paper's claim is less forgetting over many encoders; its table was not read.

  python launch.py train --config=experiments/key_value_bottleneck.py:cpu
"""

import dataclasses
from typing import Any

from experiments import (
    SGD,
    AdamW,
    AtLeast,
    Better,
    Classification,
    Constant,
    ConvEncoder,
    Data,
    DenseEncoder,
    Digits,
    FanIn,
    FashionMNIST,
    FeatureClassifier,
    FixedKeys,
    FromArm,
    ImageEncoder,
    KeyValueBottleneck,
    LinearHead,
    Logging,
    Optimizer,
    Ordered,
    PrototypeNetwork,
    Run,
    Study,
    Tfds,
    TfdsImages,
    ValueLogits,
    WeightedClassification,
    WithClassSets,
    unknown_form,
)
from experiments.suites.class_incremental import ClassIncremental
from train.data.order import ClassIncremental as InPhases

FORMS = ("", "fashion", "cpu", "tiny")
QUESTION = "Does a bottleneck of fixed keys and trained values keep what earlier classes taught?"
PHASES = 5
ACCURACY = "val/accuracy"
ONE = "bottleneck, one head"
PROBE, ALL, CEILING = "linear probe", "everything trained", "linear probe, all classes at once"


def get_config(form: str = "") -> Study:
    if form not in FORMS:
        raise unknown_form(form, FORMS)
    return {"": full, "fashion": fashion, "cpu": cpu, "tiny": tiny}[form]()


@dataclasses.dataclass(frozen=True)
class Recipe:
    """What the arms of a form share.

    Attributes:
      data: ten classes, with a test split.
      image: of the data.
      encoder: what all stand on.
      steps: of a phase; `keys` of the run that learns keys.
      pretraining: steps in which the encoder is trained as an autoencoder; 0: it stays as it was drawn.
      pretrained_on: on which data; None: the images of `data`.
      pretrained_classes: how many classes those have.
      value_rate: learning rate of the values, for one head; it is multiplied by their number, since each value gets
        1/C of the gradient.
    """

    data: Data
    image: tuple[int, int, int]
    encoder: ImageEncoder
    steps: int
    keys: int
    batch: int = 64
    pretraining: int = 0
    pretrained_on: Data | None = None
    pretrained_classes: int = 10
    value_rate: float = 3.0

    def run(self, steps: int, optimizer: Optimizer, phases: bool = True, **model: Any) -> Run:
        """A classifier on the encoder. In `phases`, or on all classes at once."""
        sets = WithClassSets(self.data)
        pieces = max(steps // PHASES, 1)
        return Run(
            model=FeatureClassifier(image=self.image, classes=10, encoder=self.encoder, **model),
            data=Ordered(sets, InPhases(2, self.steps * self.batch)) if phases else sets,
            objective=Classification(),
            optimizer=optimizer,
            batch=self.batch,
            steps=steps,
            logging=Logging(log=pieces, evaluate=pieces, checkpoint=0, keep=1),
            start=FromArm("encoder", take=("^encoder",)) if self.pretraining else None,
        )

    def arms(self, name: str, bottleneck: KeyValueBottleneck, first: bool = False) -> dict[str, Run]:
        """The run that learns keys, from all classes or from the `first` phase alone, and that which learns values."""
        rate = self.value_rate * bottleneck.heads
        told: dict[str, Any] = {"bottleneck": bottleneck, "head": ValueLogits()}
        keys = self.run(min(self.keys, self.steps) if first else self.keys, values(rate), first, **told)
        fixed = dataclasses.replace(bottleneck, keys=FixedKeys())
        run = self.run(PHASES * self.steps, values(rate), bottleneck=fixed, head=ValueLogits())
        taken = ("^encoder", r"\.projection\.", r"\.keys\.table$")
        return {f"keys of {name}": keys, name: dataclasses.replace(run, start=FromArm(f"keys of {name}", take=taken))}

    def pretrained(self) -> dict[str, Run]:
        """The autoencoder. Its classifier has no weight in the loss: no label reaches the encoder."""
        if not self.pretraining:
            return {}
        assert isinstance(self.encoder, ConvEncoder)
        told: dict[str, Any] = {"prototypes": None, "head": LinearHead(), "init": FanIn(2**0.5)}
        net = PrototypeNetwork(self.image, self.pretrained_classes, self.encoder, **told)
        run = self.run(self.pretraining, AdamW(1e-3, weight_decay=0.0), phases=False)
        data = run.data if self.pretrained_on is None else self.pretrained_on
        run = dataclasses.replace(run, model=net, data=data, objective=WeightedClassification(0.0), start=None)
        return {"encoder": run}


def values(rate: float) -> SGD:
    """Of rows that are hit no more nothing moves: neither momentum nor decay."""
    return SGD(rate, Constant(), momentum=0.0, clip=None, freeze=("^encoder",))


def study(recipe: Recipe, bottleneck: KeyValueBottleneck, one: KeyValueBottleneck | None, seeds: int) -> Study:
    """Every arm at its own learning rate; `one` is a bottleneck of a single head, for comparison."""
    steps = PHASES * recipe.steps
    probe = recipe.run(steps, values(0.1))
    arms = {
        **recipe.pretrained(),
        **recipe.arms("bottleneck", bottleneck),
        **recipe.arms("bottleneck, keys of phase 1", bottleneck, first=True),
        **({} if one is None else recipe.arms(ONE, one)),
        PROBE: probe,
        ALL: recipe.run(steps, AdamW(1e-3, Constant(), weight_decay=0.0)),
        CEILING: dataclasses.replace(probe, data=WithClassSets(recipe.data)),
    }
    return Study(
        question=QUESTION,
        arms=arms,
        claims=(
            Better("bottleneck", than=PROBE, margin=0.1, metric=ACCURACY),
            Better("bottleneck", than=ALL, margin=0.4, metric=ACCURACY),
            Better("bottleneck", than="bottleneck, keys of phase 1", margin=0.04, metric=ACCURACY),
            *(() if one is None else (Better("bottleneck", than=ONE, margin=0.04, metric=ACCURACY),)),
            Better("bottleneck", than=PROBE, metric="suite/forgetting_error"),
            AtLeast("bottleneck", ACCURACY, 0.92),
            AtLeast("bottleneck", "phase1/accuracy", 0.93),
        ),
        seeds=seeds,
        metric=ACCURACY,
        suite=(ClassIncremental(PHASES),),
        notes=(
            "Keys are learned on the training images of all classes without labels, except where an arm says phase 1; "
            "the values that are trained beside them in those runs are thrown away.",
            "Sets phase1 to phase5 are test images of two classes each. The arms that learn keys, and the one on all "
            "classes at once, see no phases: their matrices are their accuracies along the way.",
            "The bars are those of a pilot on the same data (digits).",
        ),
    )


def full() -> Study:
    """The paper's sizes on CIFAR-10."""
    cifar10 = TfdsImages(Tfds("cifar10", validation="train[90%:]", train="train[:90%]", test="test"), (32, 32, 3))
    cifar100 = TfdsImages(Tfds("cifar100", validation="train[90%:]", train="train[:90%]", test="test"), (32, 32, 3))
    recipe = Recipe(
        cifar10,
        (32, 32, 3),
        ConvEncoder((128, 256, 256)),
        steps=5_000,
        keys=3_520,
        batch=256,
        pretraining=40_000,
        pretrained_on=cifar100,
        pretrained_classes=100,
    )
    return study(recipe, KeyValueBottleneck(256, 4096, 14), None, seeds=3)


def fashion() -> Study:
    """Fashion-MNIST with an encoder that was trained without labels."""
    recipe = Recipe(
        FashionMNIST(held_out=2_000, trained=10_000, tested=5_000),
        (28, 28, 1),
        ConvEncoder((32, 32, 32)),
        steps=600,
        keys=600,
        pretraining=1_500,
    )
    return study(recipe, KeyValueBottleneck(64, 256, 8), KeyValueBottleneck(1, 1024, 16), seeds=3)


def cpu() -> Study:
    """The pilot's sizes; 200 updates a phase where it had 400."""
    recipe = Recipe(Digits(held_out=200, test=500), (8, 8, 1), DenseEncoder(256), steps=200, keys=200)
    return study(recipe, KeyValueBottleneck(64, 256, 8), KeyValueBottleneck(1, 1024, 16), seeds=3)


def tiny() -> Study:
    """Everything that the other forms do, in seconds."""
    recipe = Recipe(
        Digits(held_out=1000, test=300), (8, 8, 1), ConvEncoder((4, 4)), steps=4, keys=4, batch=16, pretraining=4
    )
    return study(recipe, KeyValueBottleneck(4, 16, 4), KeyValueBottleneck(1, 16, 4), seeds=2)
