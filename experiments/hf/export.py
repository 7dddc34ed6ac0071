"""The verb `export`: a trained run as a folder that Transformers opens."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from arch.hf import folder as folders
from arch.hf.dry_run import served
from arch.hf.family import Facts
from arch.hf.parity import MOST, ROUNDED, Parity, available, compare
from arch.hf.reading import read
from arch.hf.serving import verdict
from arch.hf.tiers import TIERS, Plan, Tier, plan
from arch.models.base import Causal, Seq2Seq
from arch.spec import UserError
from experiments.config import render
from experiments.hf import own, tokenizer
from experiments.hf.arm import is_study, open_arm
from experiments.hf.card import Told, card, last_metrics, reached
from experiments.hf.origins import TEMPLATE
from experiments.study.results import Results
from train.data.bars import bars
from train.data.base import Progress
from train.data.paths import expanded
from train.run import Run
from train.trained import TrainedRun, open_run

CARD = "README.md"


@dataclasses.dataclass(frozen=True)
class Options:
    """How a run is exported.

    Attributes:
      dtype: of the numbers.
      check: whether logits are compared with Transformers, where torch and transformers are installed.
      shard: bytes of a file of weights, at most.
      arm, replica: of a study, which arm and which of its seeds, counted from 0.
      trust: whether code is executed that another user's configuration names.
      tiers: ways of writing that are tried in order.
    """

    dtype: str = "float32"
    check: bool = True
    shard: int = folders.SHARD
    arm: str | None = None
    replica: int = 0
    trust: bool = False
    tiers: tuple[Tier, ...] = TIERS


def export(folder: str, to: str, options: Options = Options(), note: Callable[[str], None] = print) -> Path:
    """Writes the newest checkpoint of the run in `folder` into the new folder `to`; returns that.

    Raises:
      UserError: there is no such run, nothing that its model could be written as, other logits in Transformers, or `to`
        cannot be written. Nothing is left of it then.
    """
    at = expanded(folder)
    if is_study(at):
        opened, below, results = open_arm(at, options.arm, options.replica, trust=options.trust)
        return export_opened(opened, below, Path(to), options, note, results)
    if options.arm is not None:
        raise UserError(f"--arm={options.arm}: {folder} is no folder of a study")
    run = render.read(folder, trust=options.trust)
    if not isinstance(run, Run):
        raise UserError(f"{folder}: holds a {type(run).__name__}; export takes the folder of a run")
    return export_opened(open_run(run, folder), Path(folder), Path(to), options, note)


def export_opened(
    opened: TrainedRun,
    folder: Path,
    to: Path,
    options: Options = Options(),
    note: Callable[[str], None] = print,
    results: Results | None = None,
    progress: Progress | None = None,
) -> Path:
    """`export` of a run that is open. `results`: of the study that it is an arm of. `progress`: called with what is
    written; None: bars, in a terminal."""
    run, dataset = opened.program.run, opened.dataset
    known = facts(run, dataset)
    found = plan(run.model, opened.params, known, options.tiers, opened.state["buffers"])
    note(f"{found.tier}: {found.reason}")
    # A standard class is read back by its family; of code of its own the configuration says what it is of.
    beside = {own.FILE: own.text(run)} if found.files else {}
    measured: list[Parity] = []
    told = Told(
        name=to.name,
        run=run,
        step=opened.step,
        metrics=last_metrics(folder, opened.step) if results is None else reached(results, options.arm, run.seed),
        verdicts=() if results is None else results.verdicts,
        study="" if results is None else f"Arm {options.arm} of {results.name}: {results.question}",
        tier=found.tier,
        reason=found.reason,
        architecture=found.config["architectures"][0],
        dtype=options.dtype,
    )

    def check(new: Path) -> None:
        parity = None
        if options.check and available():
            parity = _parity(new, run, opened, found, options.dtype)
            measured.append(parity)
        (new / CARD).write_text(card(dataclasses.replace(told, parity=parity)), encoding="utf-8")

    with bars(progress) as told_of:
        folders.write(
            found,
            to,
            dtype=options.dtype,
            files={**tokenizer.files(run, dataset, known.context, known.mask), **template(folder), **beside},
            generation=generation(run, known),
            shard=options.shard,
            progress=told_of,
            check=check,
        )
    if measured:
        note(f"logits differ from Transformers by {measured[0].folder:.1e} of the largest, "
             f"from those of the run by {measured[0].run:.1e}")  # fmt: skip
    else:
        note("logits were not compared with Transformers" + ("" if options.check else " (--check=off)")
             + ("" if available() else ": torch and transformers are not installed"))  # fmt: skip
    note((served if options.check else verdict)(to).line)
    note(f"exported {folder}, step {opened.step:,}, to {to}")
    return to


def template(folder: Path) -> Mapping[str, str]:
    """The chat template that an imported run came with."""
    file = folder / TEMPLATE
    return {TEMPLATE: file.read_text(encoding="utf-8")} if file.exists() else {}


def facts(run: Run, dataset: Any) -> Facts:
    """What a configuration states beside the network."""
    words = getattr(dataset, "tokenizer", None)
    arrays = dataset.description.arrays
    length = getattr(run.data, "length", None) or (arrays["tokens"][0][0] if "tokens" in arrays else 2048)
    mask = run.objective.mask_token(dataset.description) or dataset.description.mask
    special = {} if words is None else {"bos": words.bos, "eos": words.eos}
    return Facts(context=int(length), mask=mask, **special)


def generation(run: Run, known: Facts) -> Mapping[str, Any] | None:
    """The contents of `generation_config.json`; None for a model that generates nothing."""
    if not isinstance(run.model, Causal):
        return None
    told: dict[str, Any] = {"bos_token_id": known.bos, "eos_token_id": known.eos, "pad_token_id": known.eos}
    if isinstance(run.model, Seq2Seq):
        told["decoder_start_token_id"] = known.bos
    return {name: value for name, value in told.items() if value is not None}


def _parity(new: Path, run: Run, opened: TrainedRun, found: Plan, dtype: str) -> Parity:
    own, fewer = (run.model, opened.params), dtype != "float32"
    if found.files:  # code of its own, which no family reads back: our network on numbers rounded alike
        rounded, buffers = (jax.tree.map(lambda leaf: _rounded(leaf, dtype), tree)
                            for tree in (opened.params, opened.state["buffers"]))  # fmt: skip
        most = math.inf if fewer else MOST  # a code that is chosen is another by any rounding
        return compare(new, own, (run.model, rounded), own_code=True, buffers=buffers, most=most)
    again = read(new)
    return compare(new, own, (again.model, again.params), most=ROUNDED if fewer else MOST)


def _rounded(leaf: Any, dtype: str) -> np.ndarray:
    array = np.asarray(leaf)
    return array.astype(dtype).astype(np.float32) if jax.numpy.issubdtype(array.dtype, np.floating) else array
