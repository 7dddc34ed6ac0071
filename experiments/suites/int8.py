"""What integer arithmetic costs a trained GNMT (arXiv 1609.08144, section 6)."""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar

import numpy as np

from arch.models.gnmt import GNMT
from arch.models.gnmt_int8 import quantized
from experiments.suites.base import Asked, Score
from experiments.suites.likelihood import cut, inputs_of, log_softmax
from train.run import Run


@dataclasses.dataclass(frozen=True)
class Int8(Score):
    """`int8_loss_gap`: nats a target that int8 weights and int16 states add, absolute; `int8_agreement_score`: share of
    targets whose most probable token stays the same. `delta`: the bound on states; None: what it was trained with."""

    kinds: ClassVar[tuple[type, ...]] = (GNMT,)

    delta: float | None = None

    def refusal(self, run: Run) -> str:
        cell = getattr(getattr(run.model, "encoder", None), "cell", None)
        if isinstance(run.model, GNMT) and self.delta is None and getattr(cell, "clip", None) is None:
            return "Int8 needs states that were bounded while training: LSTMCell(clip=...), or Int8(delta=...)"
        return super().refusal(run)

    def measure(self, asked):
        float_, best = self._told(asked, asked.opened.model)
        small = quantized(asked.run.model, asked.opened.model, self.delta)
        int8, other = self._told(asked, small)
        return {
            "int8_loss_gap": float(abs(int8.mean() - float_.mean())),
            "int8_agreement_score": float((best == other).mean()),
        }

    def _told(self, asked: Asked, network: Any) -> tuple[np.ndarray, np.ndarray]:
        """The log-probability of every target, and the most probable token there."""
        rows = asked.rows
        wanted, segments = rows["tokens"][:, 1:], rows["segments"]
        there = (segments[:, 1:] > 0) & (segments[:, 1:] == segments[:, :-1])
        log_p, best = np.zeros(wanted.shape), np.zeros(wanted.shape, np.int64)
        for part, out in asked.outputs(inputs_of(cut(rows)), network):
            each = log_softmax(out.logits)
            log_p[part] = np.take_along_axis(each, wanted[part][..., None], axis=2)[..., 0]
            best[part] = each.argmax(axis=2)
        return log_p[there], best[there]
