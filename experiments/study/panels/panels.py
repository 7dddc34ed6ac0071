"""Panels: what is looked at, layer by layer, in every model that a study has trained.

A panel is `panel(program, state, batch, learning_rate) -> {name: one value a layer}`, for the state of one replica,
its learning rate, and a batch of the validation split. A study names those of PANELS, or its own as `module:function`.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from arch.spec import Problem
from train.setup import CompiledRun
from train.step import State

Panel = Callable[[CompiledRun, State, Mapping[str, np.ndarray], float], Mapping[str, Any]]
PANELS = {"depth": "experiments.study.panels.diagnostics:depth_panel"}


def panel(name: str) -> Panel:
    """The panel called `name`. Raises ValueError for what is no such name."""
    module, colon, function = PANELS.get(name, name).partition(":")
    if not colon:
        raise ValueError(f"{name} is no panel")
    return getattr(importlib.import_module(module), function)


def panel_problems(names: Sequence[str]) -> Iterator[Problem]:
    """Names that lead to no panel."""
    for index, name in enumerate(names):
        try:
            panel(name)
        except (ImportError, AttributeError, ValueError):
            yield Problem(f"diagnostics.{index}", name, f"must be {', '.join(PANELS)}, or MODULE:FUNCTION of your own")
