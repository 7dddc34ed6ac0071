"""What servers do to an exported folder, in small: two requests in one flat row, without masks, against each alone.

One prefill: state that a recurrence would have to keep between tokens is not tried, and refused by the rules alone.
Needs PyTorch and Transformers. Only a folder that Strata wrote is run.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

from arch.hf.parity import available
from arch.hf.serving import Verdict, verdict
from arch.spec import UserError

BACKEND = "strata_dry_run"
LENGTHS = (7, 5)
MOST = 1e-4
"""Difference that is rounding, relative to the largest number."""


def served(folder: Path) -> Verdict:
    """The verdict of the rules, and of the dry run where those have nothing against code of the folder's own
    and it can be run."""
    found = verdict(folder)
    own = "auto_map" in json.loads((folder / "config.json").read_text(encoding="utf-8"))
    if found.transformers or found.vllm or not own or not available():
        return found
    why = difference(folder)
    return dataclasses.replace(found, vllm=why, sglang=found.sglang or why) if why else found


def difference(folder: Path) -> str:
    """What two requests in one row come out as, if not as each alone; "" if they do.

    Raises UserError: the folder is not one that Strata wrote.
    """
    import torch
    from transformers import AutoModel
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    own = config.get("model_type") == "strata"
    if "auto_map" in config and not own:
        raise UserError(f"{folder}: has code that Strata did not write; it is not run")
    told: dict[str, Any] = {"trust_remote_code": True} if own else {}

    def opened(implementation: str) -> Any:
        return AutoModel.from_pretrained(
            folder.resolve(), attn_implementation=implementation, dtype=torch.float32, local_files_only=True, **told
        ).eval()

    ALL_ATTENTION_FUNCTIONS.register(BACKEND, flat_attention)
    ids = [torch.arange(3, 3 + length)[None] % config["vocab_size"] for length in LENGTHS]
    places = torch.cat([torch.arange(length) for length in LENGTHS])[None]
    with torch.no_grad():
        packed = opened(BACKEND)(input_ids=torch.cat(ids, 1), position_ids=places, use_cache=False, return_dict=False)[
            0
        ]
        alone = [opened("eager")(input_ids=one, use_cache=False, return_dict=False)[0] for one in ids]
    wanted = torch.cat(alone, dim=1)
    gap = float((packed - wanted).abs().max() / wanted.abs().max())
    return "" if gap <= MOST else f"two requests in one row come out {gap:.1%} away from each alone"


def flat_attention(
    module: Any, query: Any, key: Any, value: Any, attention_mask: Any, scaling: float | None = None, **kwargs: Any
) -> tuple[Any, None]:
    """What a server's kernel does: causal within each request and the layer's window, soft-capped; a mask of the
    model's own is dropped, as they do."""
    import torch

    groups = query.shape[1] // key.shape[1]
    key, value = key.repeat_interleave(groups, dim=1), value.repeat_interleave(groups, dim=1)
    scores = query @ key.transpose(2, 3) * (query.shape[-1] ** -0.5 if scaling is None else scaling)
    if kwargs.get("softcap") is not None:
        scores = kwargs["softcap"] * torch.tanh(scores / kwargs["softcap"])
    request = torch.repeat_interleave(torch.arange(len(LENGTHS)), torch.tensor(LENGTHS))
    place = torch.arange(len(request))
    seen = (request[:, None] == request[None]) & (place[None] <= place[:, None])
    if kwargs.get("sliding_window") is not None:
        seen &= place[None] > place[:, None] - kwargs["sliding_window"]
    weights = scores.masked_fill(~seen, torch.finfo(scores.dtype).min).softmax(-1)
    return (weights @ value).transpose(1, 2).contiguous(), None
