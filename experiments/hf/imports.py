"""The verb `import`: a model from elsewhere (`origins`) as a run folder.

The run has the model, the parameters as its checkpoint of step 0, the tokenizer and the chat template; and no data,
unless text to evaluate it on is known, or it is given the configuration of a run whose data, objective and optimiser it
takes.
"""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from etils import epath

from arch.hf.folder import CONFIG
from arch.hf.reading import object_of
from arch.models.base import Bidirectional, Classification, Model, Seq2Seq, Tagging, TextEmbedding
from arch.params import Tree
from arch.spec import SpecError, UserError
from experiments.config import load, render
from experiments.hf import own
from experiments.hf.origins import TOKENIZER, Origin, origin
from train.data.corpus import Source
from train.data.text import Text
from train.data.tokenizers import TokenizerFile
from train.data.without_rows import WithoutRows
from train.objectives.base import Objective
from train.objectives.classification import Classification as ClassLabels
from train.objectives.contrastive import Contrastive
from train.objectives.masked_lm import MaskedLM
from train.objectives.next_token import NextToken
from train.objectives.sequence_to_sequence import SequenceToSequence
from train.objectives.token_labels import TokenLabels
from train.record import folder as run_folder
from train.record.checkpoint import Checkpoints
from train.run import Logging, Run
from train.setup import prepare
from train.starts.from_arrays import FromArrays
from train.starts.start import begin

LONGEST = 1024
"""Rows, at most, of what is given no data."""

OBJECTIVES: tuple[tuple[type, Objective], ...] = (
    (Seq2Seq, SequenceToSequence()),
    (Classification, ClassLabels()),
    (Tagging, TokenLabels()),
    (TextEmbedding, Contrastive()),
    (Bidirectional, MaskedLM()),
)
"""What a run with a model of each kind states, the first that fits; nothing is trained by it."""


@dataclasses.dataclass(frozen=True)
class Found:
    """A model that was read: its spec, its parameters and buffers, and what `config.json` says."""

    model: Model
    params: Tree
    buffers: Tree
    config: Mapping[str, Any]


def import_(
    name: str,
    to: str,
    like: str | None = None,
    note: Callable[[str], None] = print,
    snapshot: Callable[..., str] | None = None,
) -> Run:
    """Makes `to` a run folder with the model that `name` stands for (`origins.origin`).

    Args:
      like: FILE.py[:FORM] of a run whose data, objective and optimiser are taken; its model is not. Of a folder with
        code of its own it also gives the classes that are not Strata's.

    Raises:
      UserError: in one line, for what cannot be read and a `to` that is not new.
    """
    target = Path(to)
    if run_folder.holds(target, run_folder.FILE, "run"):
        raise UserError(f"{target}: holds a run already; give a new or empty folder")
    at = origin(name, snapshot)
    loaded = None if like is None else load.load(like)
    found = _found(at, None if loaded is None else loaded.module, note)
    new = target.with_name(f".{target.name}.importing")
    shutil.rmtree(new, ignore_errors=True)
    try:
        new.mkdir(parents=True)
        run = _run(found, loaded, _tokenizer(at, new, note) if loaded is None else None, at.source)
        _save(run, found, new)
        run = _moved(run, new, target)
        render.write(new, run)
        if target.exists():
            target.rmdir()
        new.rename(target)
        run_folder.mark(target, run)  # makes it a run folder; it reads the tokenizer where it is now
    except OSError as error:
        raise UserError(f"{target}: cannot be written ({error.strerror or error}); nothing is left of it") from error
    except SpecError as error:
        raise UserError(f"{at.path}: {'; '.join(str(error).splitlines())}") from error
    finally:
        shutil.rmtree(new, ignore_errors=True)
    note(f"imported {name} into {target}")
    return run


def _found(at: Origin, given: ModuleType | None, note: Callable[[str], None]) -> Found:
    """What `at` holds."""
    if at.path.is_dir() and own.is_own(at.path):
        model, numbers = own.read(at.path, given)
        config = object_of(at.path / CONFIG)
        note(f"{config.get('architectures', ['strata'])[0]}: {type(model).__name__}, of code of its own, not executed"
             + (f"; fresh: {', '.join(numbers.fresh[:3])}" if numbers.fresh else ""))  # fmt: skip
        return Found(model, numbers.params, numbers.buffers, config)
    found = at.read()
    note(f"{found.family.architecture}: {type(found.model).__name__}"
         + (f"; left out: {', '.join(found.dropped[:3])}" if found.dropped else ""))  # fmt: skip
    return Found(found.model, found.params, {}, found.config)


def _run(found: Found, loaded: load.Loaded | None, tokenizer: TokenizerFile | None, source: Source | None) -> Run:
    """The run that is made of the model."""
    model: Any = found.model
    if loaded is not None:
        other = loaded.spec
        if not isinstance(other, Run):
            raise UserError(f"--like={loaded.reference}: gives a {type(other).__name__}; it must give a Run")
        return dataclasses.replace(other, model=model, start=None)
    pairs, masked = isinstance(model, Seq2Seq), isinstance(model, Bidirectional)
    trunk = model.decoder if pairs else model
    limit = getattr(getattr(trunk, "position", None), "length", None) or found.config.get("max_position_embeddings")
    length = min(limit if isinstance(limit, int) else LONGEST, LONGEST)
    # Which id masks a token nobody has said where there is no tokenizer: then it is the last one.
    data: Any = WithoutRows(model.vocab - (masked and tokenizer is None), length, tokenizer, pairs)
    if source is not None and tokenizer is not None and not pairs:
        data = Text(source, tokenizer, length)
    objective = next((task for kind, task in OBJECTIVES if isinstance(model, kind)), NextToken())
    return Run(model=model, data=data, objective=objective, batch=1, steps=1, logging=Logging(keep=1))


def _tokenizer(at: Origin, new: Path, note: Callable[[str], None]) -> TokenizerFile | None:
    """Its tokenizer, written into `new`, if it is one that can be opened here; and its chat template."""
    try:
        found = at.texts(new)
        if found is None:
            note(f"{at.path}: has no tokenizer; prompts cannot be read")
        else:
            found.build()
    except (UserError, SpecError) as error:
        (new / TOKENIZER).unlink(missing_ok=True)
        note(f"the tokenizer is left out, prompts cannot be read: {' '.join(str(error).split())}")
        return None
    return found


def _save(run: Run, found: Found, new: Path) -> None:
    """The checkpoint of step 0, in `new`."""
    dataset = run.data.build()
    program = prepare(run, dataset.description)
    state = begin(FromArrays.of({"params": found.params, "buffers": found.buffers}), program.start(), lambda line: None)
    place = {} if isinstance(run.data, WithoutRows) else program.batches(dataset).get_state()
    with Checkpoints(epath.Path(new), run.logging.keep) as checkpoints:
        checkpoints.save(0, state, place)


def _moved(run: Run, new: Path, target: Path) -> Run:
    """`run` with the tokenizer that is in `new` in `target`."""
    data: Any = run.data
    if not (new / TOKENIZER).exists():
        return run
    tokenizer = dataclasses.replace(data.tokenizer, path=str(target.absolute() / TOKENIZER))
    return dataclasses.replace(run, data=dataclasses.replace(data, tokenizer=tokenizer))
