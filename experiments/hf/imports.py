"""The verb `import`: a folder of Transformers, one that `export` wrote, or a name on the hub, as a run folder.

The run has the model, the parameters as its checkpoint of step 0, and the tokenizer; and no data, unless it is told the
configuration of a run whose data, objective and optimiser it takes.
"""

from __future__ import annotations

import dataclasses
import re
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from etils import epath

from arch.hf.folder import CONFIG
from arch.hf.reading import object_of, read
from arch.models.base import Bidirectional, Classification, Model, Seq2Seq, Tagging
from arch.params import Tree
from arch.spec import SpecError, UserError
from experiments.config import load, render
from experiments.hf import own
from train import folder as run_folder
from train.checkpoint import Checkpoints
from train.data.tokenizers import TokenizerFile
from train.data.without_rows import WithoutRows
from train.from_arrays import FromArrays
from train.objectives.base import Objective
from train.objectives.classification import Classification as ClassLabels
from train.objectives.masked_lm import MaskedLM
from train.objectives.next_token import NextToken
from train.objectives.sequence_to_sequence import SequenceToSequence
from train.objectives.token_labels import TokenLabels
from train.run import Reports, Run
from train.setup import prepare
from train.start import begin

TOKENIZER = "tokenizer.json"
LONGEST = 1024
"""Rows of what has no limit to its positions, and no data."""

OBJECTIVES: tuple[tuple[type, Objective], ...] = (
    (Seq2Seq, SequenceToSequence()),
    (Classification, ClassLabels()),
    (Tagging, TokenLabels()),
    (Bidirectional, MaskedLM()),
)
"""What a run with a model of each kind states, the first that fits; nothing is trained by it."""

PATTERNS = ("*.json", "*.safetensors")
"""What is fetched of a repository: no code and no pickles."""


@dataclasses.dataclass(frozen=True)
class Found:
    """A model that was read: its spec, its parameters and buffers, and what `config.json` says."""

    model: Model
    params: Tree
    buffers: Tree
    config: Mapping[str, Any]


def fetched(name: str, snapshot: Callable[..., str] | None = None) -> Path:
    """`name` if it is a folder here, else the snapshot of the repository of that name on the hub.

    Args:
      name: a folder, or OWNER/NAME.
      snapshot: `huggingface_hub.snapshot_download`; None: that of the package.

    Raises:
      UserError: it is neither, or the hub cannot be reached.
    """
    if Path(name).expanduser().is_dir():
        return Path(name).expanduser()
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", name):
        raise UserError(f"{name}: no such folder, and no OWNER/NAME of a repository")
    if snapshot is None:
        try:
            from huggingface_hub import snapshot_download
        except ImportError as error:
            raise UserError(f"{name}: no such folder here; pip install huggingface_hub fetches one by name") from error
        snapshot = snapshot_download
    try:
        return Path(snapshot(repo_id=name, allow_patterns=list(PATTERNS)))
    except Exception as error:
        text = " ".join(str(error).split())[:200]
        raise UserError(
            f"{name}: no such folder here, and it cannot be fetched ({type(error).__name__}: {text})"
        ) from error


def import_(
    name: str,
    to: str,
    like: str | None = None,
    note: Callable[[str], None] = print,
    snapshot: Callable[..., str] | None = None,
) -> Run:
    """Makes `to` a run folder with the model in the folder `name`, or of that name on the hub.

    Args:
      like: FILE.py[:FORM] of a run whose data, objective and optimiser are taken; its model is not. Of a folder with
        code of its own it also gives the classes that are not Strata's.

    Raises:
      UserError: in one line, for a folder that cannot be read and a `to` that is not new.
    """
    at, target = fetched(name, snapshot), Path(to)
    if run_folder.holds(target, run_folder.FILE, "run"):
        raise UserError(f"{target}: holds a run already; give a new or empty folder")
    loaded = None if like is None else load.load(like)
    found = _found(at, None if loaded is None else loaded.module, note)
    new = target.with_name(f".{target.name}.importing")
    shutil.rmtree(new, ignore_errors=True)
    try:
        new.mkdir(parents=True)
        run = _run(found, loaded, _tokenizer(at, new, note) if loaded is None else None)
        _save(run, found, new)
        run = _moved(run, target)
        render.write(new, run)
        if target.exists():
            target.rmdir()
        new.rename(target)
        run_folder.mark(target, run)  # makes it a run folder; it reads the tokenizer where it is now
    except OSError as error:
        raise UserError(f"{target}: cannot be written ({error.strerror or error}); nothing is left of it") from error
    except SpecError as error:
        raise UserError(f"{at}: {'; '.join(str(error).splitlines())}") from error
    finally:
        shutil.rmtree(new, ignore_errors=True)
    note(f"imported {name} into {target}")
    return run


def _found(at: Path, given: ModuleType | None, note: Callable[[str], None]) -> Found:
    """What the folder `at` holds."""
    if own.is_own(at):
        model, numbers = own.read(at, given)
        config = object_of(at / CONFIG)
        note(f"{config.get('architectures', ['strata'])[0]}: {type(model).__name__}, of code of its own, not executed"
             + (f"; fresh: {', '.join(numbers.fresh[:3])}" if numbers.fresh else ""))  # fmt: skip
        return Found(model, numbers.params, numbers.buffers, config)
    found = read(at)
    note(f"{found.family.architecture}: {type(found.model).__name__}"
         + (f"; left out: {', '.join(found.dropped[:3])}" if found.dropped else ""))  # fmt: skip
    return Found(found.model, found.params, {}, found.config)


def _run(found: Found, loaded: load.Loaded | None, tokenizer: TokenizerFile | None) -> Run:
    """The run that is made of the model."""
    model: Any = found.model
    if loaded is not None:
        other = loaded.spec
        if not isinstance(other, Run):
            raise UserError(f"--like={loaded.reference}: gives a {type(other).__name__}; it must give a Run")
        return dataclasses.replace(other, model=model, start=None)
    pairs, masked = isinstance(model, Seq2Seq), isinstance(model, Bidirectional)
    trunk = model.decoder if pairs else model
    limit = getattr(trunk.position, "length", None) or found.config.get("max_position_embeddings")
    length = min(limit if isinstance(limit, int) else LONGEST, LONGEST)
    # Which id masks a token nobody has said where there is no tokenizer: then it is the last one.
    data = WithoutRows(model.vocab - (masked and tokenizer is None), length, tokenizer, pairs)
    objective = next((task for kind, task in OBJECTIVES if isinstance(model, kind)), NextToken())
    return Run(model=model, data=data, objective=objective, batch=1, steps=1, reports=Reports(keep=1))


def _tokenizer(at: Path, new: Path, note: Callable[[str], None]) -> TokenizerFile | None:
    """The tokenizer in the folder `at`, copied into `new`, if it is one that can be opened here."""
    if not (at / TOKENIZER).exists():
        note(f"{at}: has no {TOKENIZER}; prompts cannot be read")
        return None
    shutil.copyfile(at / TOKENIZER, new / TOKENIZER)
    try:
        TokenizerFile(str(new / TOKENIZER)).build()
    except (UserError, SpecError) as error:
        (new / TOKENIZER).unlink()
        note(f"the tokenizer is left out, prompts cannot be read: {' '.join(str(error).split())}")
        return None
    return TokenizerFile(str(new / TOKENIZER))


def _save(run: Run, found: Found, new: Path) -> None:
    """The checkpoint of step 0, in `new`."""
    dataset = run.data.build()
    program = prepare(run, dataset.description)
    state = begin(FromArrays.of({"params": found.params, "buffers": found.buffers}), program.start(), lambda line: None)
    place = {} if isinstance(run.data, WithoutRows) else program.batches(dataset).get_state()
    with Checkpoints(epath.Path(new), run.reports.keep) as checkpoints:
        checkpoints.save(0, state, place)


def _moved(run: Run, target: Path) -> Run:
    """`run` with its tokenizer in `target`."""
    if not isinstance(run.data, WithoutRows) or run.data.tokenizer is None:
        return run
    tokenizer = TokenizerFile(str(target.absolute() / TOKENIZER))
    return dataclasses.replace(run, data=dataclasses.replace(run.data, tokenizer=tokenizer))
