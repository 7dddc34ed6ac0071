"""An exported folder in Transformers against the model that it was made of: logits of a few tokens, in float32.

Needs torch and transformers; nothing of a folder is executed but code that was written here (`own_code`).
"""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import warnings
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from arch import cost
from arch.layers.attention.masks import Mask
from arch.models.base import Inputs, Model, Seq2Seq
from arch.params import Tree, merge, split
from arch.spec import UserError, walk

MOST = 1e-4
"""Of the largest logit: rounding in float32 stays below it."""

ROUNDED = 0.3
"""Of the largest logit: what rounding to 16 bits may do to a class of Transformers."""

LONGEST, FARTHEST = 32, 1024
"""Tokens of a row that is compared: the first of a model without windows, the second at most."""


@dataclasses.dataclass(frozen=True)
class Parity:
    """Largest differences of logits as a share of the largest logit.

    Attributes:
      folder: between Transformers and our network on the numbers in the folder.
      run: between Transformers and the model that was exported; more than `folder` where numbers were rounded.
      tokens: how many were compared.
    """

    folder: float
    run: float
    tokens: int


def available() -> bool:
    """Whether torch and transformers are installed."""
    return all(importlib.util.find_spec(name) is not None for name in ("torch", "transformers"))


def compare(
    folder: Path,
    own: tuple[Model, Tree],
    again: tuple[Model, Tree] | None,
    seed: int = 0,
    own_code: bool = False,
    buffers: Tree | None = None,
    most: float = MOST,
) -> Parity:
    """What Transformers makes of `folder`, beside the model that it was made of and the one that is read from it again.
    `buffers`: of both; `most`: how far the former may be, more where numbers were rounded.

    Raises:
      UserError: they differ by more than rounding, or Transformers does not open it.
    """
    model = own[0]
    vocab, length = int(model.vocab), compared(model)  # type: ignore[attr-defined]
    rng = np.random.default_rng(seed)
    low = min(3, vocab - 1)  # past the ids that a class may take for padding
    tokens, source = (rng.integers(low, vocab, (2, length), dtype=np.int32) for _ in range(2))
    given = source if isinstance(model, Seq2Seq) else None
    begin = json.loads((folder / "config.json").read_text()).get("decoder_start_token_id")
    if given is not None and isinstance(begin, int) and 0 <= begin < vocab:
        tokens[:, 0] = begin  # as rows begin: a class may hide it
    theirs = logits(folder, tokens, given, own_code)
    scale = float(np.abs(theirs).max()) or 1.0
    found = [
        float(np.abs(_ours(*one, tokens, given, buffers or {}) - theirs).max()) / scale for one in (own, again or own)
    ]
    parity = Parity(found[1], found[0], tokens.size)
    for gap, bound in ((parity.folder, MOST), (parity.run, most)):
        if not gap <= bound:
            raise UserError(f"Transformers gives other logits, by {gap:.1e} of the largest; nothing was exported "
                            "(--check=off exports all the same)")  # fmt: skip
    return parity


def compared(model: Model) -> int:
    """Length of the rows that tell a model from one with another window: more than its widest one, of `FARTHEST` at
    most."""
    spans = [part.span for _, part in walk(model) if isinstance(part, Mask) and part.span is not None]
    length = min(max([LONGEST, *(max(side or 0 for side in span) + 3 for span in spans)]), FARTHEST)
    limit = cost.abstract(model).limit
    return min(length, limit or length)


def _ours(model: Model, params: Tree, tokens: np.ndarray, source: np.ndarray | None, buffers: Tree) -> np.ndarray:
    graphdef, _, _ = split(cost.abstract(model))

    def run(params: Any) -> jax.Array:
        read = None if source is None else Inputs(tokens=jnp.asarray(source))
        logits: jax.Array = merge(graphdef, params, buffers)(Inputs(tokens=jnp.asarray(tokens), source=read)).logits
        return logits

    with jax.default_matmul_precision("highest"):  # else GPUs and TPUs round, by more than MOST
        return np.asarray(jax.jit(run)(params))


def logits(folder: Path, tokens: np.ndarray, source: np.ndarray | None = None, own_code: bool = False) -> np.ndarray:
    """What Transformers makes of `folder`, in float32. `source`: what an encoder reads; `own_code`: the folder has code
    that was written here. Raises UserError if it does not open."""
    import torch
    import transformers

    config = json.loads((folder / "config.json").read_text())
    name = config["architectures"][0]
    ids = torch.from_numpy(tokens).long()
    transformers.utils.logging.disable_progress_bar()
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        try:
            told: dict[str, Any] = {"dtype": torch.float32, "local_files_only": True}
            if own_code:
                kind = config["auto_map"]
                auto = next((one for one in kind if one not in ("AutoConfig", "AutoModel")), "AutoModel")
                model = getattr(transformers, auto).from_pretrained(folder, trust_remote_code=True, **told)
            else:
                model = getattr(transformers, name).from_pretrained(folder, **told)
            model.eval()
            if source is not None:
                read = torch.from_numpy(source).long()
                more = {} if own_code else {"use_cache": False}  # as in training
                out = model(input_ids=read, decoder_input_ids=ids, attention_mask=torch.ones_like(read), **more)
            else:
                out = model(input_ids=ids)
        except Exception as error:
            text = " ".join(str(error).split())[:300]
            raise UserError(f"{name}: Transformers does not open it ({type(error).__name__}: {text})") from error
        told_of = out.logits if "logits" in out else out.pooler_output[:, None]  # of an embedder its vectors
        found: np.ndarray = told_of.float().numpy()
    return found
