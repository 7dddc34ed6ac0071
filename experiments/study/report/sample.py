"""A sample of text from the best arm of a study, where its run has a prompt."""

from __future__ import annotations

import math

import jax

from arch.decode.sampling import Sample
from arch.models.base import Causal, Seq2Seq
from experiments.study.claims.measured import metric_values
from experiments.study.engine import seed_group
from experiments.study.from_arm import parents
from experiments.study.results import Results
from experiments.study.study import Study
from experiments.study.work.cells import Cells
from train.ensemble import Ensemble
from train.trained import open_run

TOKENS = 200


def sample(study: Study, results: Results, cells: Cells) -> tuple[str, str] | None:
    """The best arm, and how its first seed continues the prompt of its run; None where there is nothing to show.

    Nothing is shown for arms without a prompt, models that do not go on token by token, and cells that were trained
    elsewhere, whose checkpoints are not here.
    """
    means = {}
    for name in study.arms:
        values = [value for value in metric_values(results, name).values() if math.isfinite(value)]
        means[name] = math.fsum(values) / len(values) if values else math.inf
    sign = 1 if results.lower_is_better else -1
    best = min(means, key=lambda name: sign * means[name] if math.isfinite(means[name]) else math.inf)
    if parents(study.arms[best]):
        return None
    run, (arm,) = study.arms[best], [arm for arm in results.arms if arm.name == best]
    prompt, group = run.logging.prompt, seed_group(study, arm, range(study.looks[0]))
    folder = cells.group_folder(group)
    if prompt is None or not isinstance(run.model, Causal) or isinstance(run.model, Seq2Seq):
        return None
    if not folder.exists():
        return None
    opened = open_run(run, folder, ensemble=Ensemble(group.rows))
    (text,) = opened.continuations([prompt], TOKENS, Sample(0.8, top_p=0.95), jax.random.key(0))
    return best, text
