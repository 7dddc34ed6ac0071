"""Fine-tuned scores: what a model's trunk is worth to a task that it is trained for, a little and all families alike.

The trunk is taken as it is and everything is trained: the same fresh head, rows, batches and steps for every family,
and for each model the best of a few learning rates by its loss on validation rows. Replaced-token detection has the
label of a token depend on both sides of it, so that it tells encoders from decoders, where the genre of a text does not
(Ettin, arXiv 2507.11412, trains them on the tasks of GLUE). Pairs of texts are what most of those tasks read.
"""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar, get_args

import jax
import numpy as np

from arch.layers.heads.class_heads import ClassHead, LinearHead, MLPHead
from arch.layers.heads.pooling import LastPooling, MeanPooling
from arch.models.base import Bidirectional, Causal, Inputs, Model, Seq2Seq
from arch.models.classifier import Matcher
from arch.models.tagger import tagger_of
from arch.models.trunk import Trunk
from arch.spec import Problem, UserError, above, at_least, between, one_of
from experiments.suites.base import Asked, Score
from experiments.suites.ranks import auc, average_precision
from experiments.suites.retrieval import Pooled
from train import loop
from train.data.base import Dataset
from train.data.built import Built
from train.data.fewer import Spread
from train.data.halves import HalvesDataset
from train.data.replaced import ReplacedDataset, no_text
from train.ensemble import Ensemble, pick
from train.objectives.base import Objective
from train.objectives.classification import Classification
from train.objectives.token_labels import TokenLabels
from train.optim import AdamW, Linear
from train.run import Logging, Run
from train.setup import prepare
from train.starts.from_arrays import FromArrays
from train.trained import TrainedRun

TRUNK = r"^(?!head\.)"
"""The parameters and buffers of a trunk: all but those of the head."""


@dataclasses.dataclass(frozen=True)
class FineTuned(Score):
    """A measure of a model after some training.

    Attributes:
      trained_on: rows of the training split, evenly spaced in it.
      steps, batch: updates, and rows of each.
      learning_rates: tried, as one program; the best by the loss on `rows` of validation, evenly spaced, is measured.
      seed: of the head, the order of the rows and dropout.
    """

    kinds: ClassVar[tuple[type, ...]] = (Causal, Bidirectional)

    trained_on: int = 4096
    steps: int = 400
    batch: int = 32
    learning_rates: tuple[float, ...] = (1e-4, 3e-4, 1e-3, 3e-3)
    seed: int = 0

    def problems(self) -> Iterator[Problem]:
        yield from super().problems()
        yield from at_least(self, 1, "trained_on", "steps", "batch")
        yield from at_least(self, 0, "seed")
        if not self.learning_rates or not all(rate > 0 for rate in self.learning_rates):
            yield Problem("learning_rates", self.learning_rates, "must be some numbers above 0")

    def refusal(self, run: Run) -> str:
        if isinstance(run.model, Seq2Seq) or not isinstance(run.model, Trunk):
            return f"{type(self).__name__} fine-tunes an encoder or a decoder; {type(run.model).__name__} is neither"
        why = no_text(run.data.describe())
        return super().refusal(run) or (f"the data of {type(self).__name__} {why}" if why else "")

    def tuned(self, asked: Asked, model: Model, objective: Objective, dataset: Dataset) -> TrainedRun:
        """`model` with the trunk of the model that is scored, trained on `dataset`.

        Raises:
          UserError: no learning rate ends with a finite loss, or there are several processes.
        """
        if jax.process_count() > 1:
            raise UserError(f"{type(self).__name__} trains in one process; score this model in a process by itself")
        cut = {"train": Spread(dataset.rows["train"], self.trained_on),
               "validation": Spread(dataset.rows["validation"], self.rows)}  # fmt: skip
        data = Dataset(cut, dataset.description, f"{dataset.fingerprint} {self.trained_on} {self.rows}")
        whole = asked.run
        run = Run(
            model,
            Built(data),
            objective,
            AdamW(self.learning_rates[0], Linear(warmup=0.1), weight_decay=0.01),
            self.batch,
            self.steps,
            seed=self.seed,
            precision=whole.precision,
            mesh=dataclasses.replace(whole.mesh, replica=1),
            logging=Logging(log=0, evaluate=0, checkpoint=0),
            start=FromArrays.of(asked.opened.state, TRUNK, "the scored model"),
        )
        ensemble = Ensemble(tuple({"optimizer.learning_rate": rate} for rate in self.learning_rates))
        with tempfile.TemporaryDirectory() as folder:
            done = loop.train(run, Path(folder) / "run", ensemble=ensemble)
        losses = np.array(done.metrics["val/loss"])
        losses[list(done.stopped)] = np.inf
        losses = np.where(np.isfinite(losses), losses, np.inf)
        best = int(np.argmin(losses))
        if losses[best] == np.inf:
            raise UserError(f"{type(self).__name__}: no learning rate of {self.learning_rates} trains to a finite loss")
        program = prepare(ensemble.lone(run, best), data.description)
        return TrainedRun(program, jax.device_get(pick(done.state, best)), dataset, self.steps)


@dataclasses.dataclass(frozen=True)
class ReplacedTokens(FineTuned):
    """Which tokens of a row were replaced by others: the area under the ROC curve, `replaced_auc_score` (chance is
    0.5), and the average precision, `replaced_precision_score` (chance is the share that was replaced).

    `rate`: of the tokens that are replaced (`train.data.replaced`). `head`: from a token's hidden state to logits.
    """

    rate: float = 0.15
    head: ClassHead = LinearHead()

    def problems(self) -> Iterator[Problem]:
        yield from super().problems()
        yield from above(self, 0, "rate")
        yield from between(self, 0, 1, "rate")

    def measure(self, asked):
        dataset = ReplacedDataset(asked.opened.dataset, self.rate, self.seed)
        model: Any = asked.run.model
        opened = self.tuned(asked, tagger_of(model, head=self.head), TokenLabels(), dataset)
        after = Asked(opened, asked.split, self.rows, asked.batch)
        rows, found = after.rows, np.zeros(after.rows["labels"].shape)
        for part, out in after.outputs(Inputs(rows["tokens"], rows.get("positions"), rows["segments"])):
            found[part] = margin(out.logits)
        counts = rows["weights"] > 0
        scores, positive = found[counts], rows["labels"][counts] == 1
        return {"replaced_auc_score": auc(scores, positive),
                "replaced_precision_score": average_precision(scores, positive)}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class SameText(FineTuned):
    """Whether two pieces belong to one text (`train.data.halves`): `same_text_accuracy` and `same_text_auc_score`;
    chance is 0.5 for both.

    Both pieces go through the model one by one. `pooled` "family": the mean over the tokens of an encoder, the last
    token of a decoder. `head`: from both vectors, their product and their difference to logits.
    """

    pooled: Pooled = "family"
    head: ClassHead = MLPHead()

    def problems(self) -> Iterator[Problem]:
        yield from super().problems()
        yield from one_of(self, "pooled", get_args(Pooled))

    def matcher(self, model: Trunk) -> Matcher:
        """The model of pairs whose trunk is that of `model`."""
        last = self.pooled == "last" or (self.pooled == "family" and isinstance(model, Causal))
        trunk = {field.name: getattr(model, field.name) for field in dataclasses.fields(Trunk)}
        return Matcher(**trunk, pooling=LastPooling() if last else MeanPooling(), head=self.head)

    def measure(self, asked):
        return self.told(asked, HalvesDataset(asked.opened.dataset, self.seed), "same_text")

    def told(self, asked: Asked, dataset: Dataset, name: str) -> dict[str, float]:
        """Accuracy and area of a model of pairs trained on `dataset`, called by `name`."""
        model: Any = asked.run.model
        opened = self.tuned(asked, self.matcher(model), Classification(), dataset)
        after = Asked(opened, asked.split, self.rows, asked.batch)
        rows, found = after.rows, np.zeros(len(after.rows["label"]))
        second = Inputs(rows["tokens2"], None, rows["segments2"])
        for part, out in after.outputs(Inputs(rows["tokens"], None, rows["segments"], second=second)):
            found[part] = margin(out.logits)
        same = rows["label"] == 1
        return {f"{name}_accuracy": float(((found > 0) == same).mean()), f"{name}_auc_score": auc(found, same)}


def margin(logits: Any) -> np.ndarray:
    """How far the logit of label 1 is above that of label 0, of two classes [..., 2]."""
    return np.asarray(logits[..., 1], np.float64) - np.asarray(logits[..., 0], np.float64)
