"""Pre-registration: what a study asks and how it will answer is written down before its first cell is trained.

`study.json` of its folder keeps claims, margins, which is primary, arms, grid and seeds, with a hash of all. What is
changed later does not stop a study; it is listed in the report, with the number of cells that were there by then.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from experiments.config.stored import to_json
from experiments.study.study import Study
from experiments.study.work.cells import write
from train.record.identity import digest

FILE = "study.json"


def plan(study: Study) -> dict[str, Any]:
    """What is registered. Arms are digests of their configuration."""
    return {
        "question": study.question,
        "arms": {name: digest(to_json(run))[:16] for name, run in study.arms.items()},
        "claims": [repr(claim) for claim in study.claims],
        "primary": repr(study.primary),
        "match": repr(study.match),
        "learning_rates": list(study.learning_rates),
        "tuning_seeds": study.tuning_seeds,
        "seeds": repr(study.seeds),
        "metric": study.metric,
        "lower_is_better": study.lower,
    }


def register(folder: Path, study: Study, cells: int) -> dict[str, Any]:
    """Registers `study`, or finds how it differs from what is registered.

    Args:
      folder: of the study.
      study: as it is now.
      cells: how many are in its folder of cells, also those of another grid: whoever edits may have seen them.

    Returns:
      hash, cells (there when it was registered) and edits: each with field, was, now and cells.
    """
    path, now = Path(folder) / FILE, plan(study)
    kept = json.loads(path.read_text()) if path.exists() else {}
    if "plan" not in kept:
        kept |= {"question": study.question, "plan": now, "hash": digest(now), "cells": cells, "edits": [], "now": now}
    for field in [field for field in now if now[field] != kept["now"].get(field)]:
        kept["edits"].append({"field": field, "was": kept["now"].get(field), "now": now[field], "cells": cells})
    kept["now"] = now
    write(path, json.dumps({**kept, "format": 2}, indent=1) + "\n")
    return {name: kept[name] for name in ("hash", "cells", "edits")}


def lines(registration: Mapping[str, Any]) -> Iterator[str]:
    """What a reader has to know, in sentences."""
    if not registration:
        return
    when = f"when {registration['cells']} cells were there" if registration["cells"] else "before the first cell"
    yield f"Claims, arms, grid and seeds were registered {when}, as {registration['hash'][:12]}."
    for edit in registration["edits"]:
        yield f"Edited when {edit['cells']} cells were there: {_change(edit)}."


def _change(edit: Mapping[str, Any]) -> str:
    was, now = edit["was"], edit["now"]
    if isinstance(was, dict) and isinstance(now, dict):
        parts = [f"{name} {'added' if name not in was else 'taken out' if name not in now else 'changed'}"
                 for name in dict.fromkeys((*was, *now)) if was.get(name) != now.get(name)]  # fmt: skip
        return f"{edit['field']}: {', '.join(parts)}"
    if isinstance(was, list) and isinstance(now, list) and edit["field"] == "claims":
        out, new = [c for c in was if c not in now], [c for c in now if c not in was]
        parts = [*(f"without {claim}" for claim in out), *(f"with {claim}" for claim in new)]
        return f"claims: {', '.join(parts) or 'another order'}"
    return f"{edit['field']}: {was} before, now {now}"
