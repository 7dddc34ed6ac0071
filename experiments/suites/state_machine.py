"""What a model knows of a state machine that it has only seen walks on (arXiv 2310.17230, section 3).

    TransitionValidity   share of steps between states, in rows that the model samples itself, that are edges
    StateCodes           precision and recall of the best code for each state, beside the best neuron

What activating codes does is in `state_steering`.

A state is known from its second digit on, at places 2, 4, ... of a row; `dataset.machine` says which it is.
"""

from __future__ import annotations

import dataclasses
import functools
import re
from collections.abc import Mapping
from typing import Any, ClassVar

import jax
import numpy as np

from arch.decode.generate import generate
from arch.decode.sampling import Sample
from arch.models.base import Causal, Inputs, Seq2Seq
from arch.params import merge, split
from arch.probe.firing import best_neuron, firing_of
from arch.taps import Tap
from experiments.codes.reading import sites_of
from experiments.suites.base import Asked, Score
from train.data.state_machine import Machine, StateMachine
from train.run import Run

Rows = Mapping[str, np.ndarray]


class OfMachine(Score):
    """A score of models that were trained on walks on a `StateMachine`."""

    kinds: ClassVar[tuple[type, ...]] = (Causal,)

    def refusal(self, run: Run) -> str:
        if not isinstance(run.data, StateMachine):
            return f"{type(self).__name__} needs walks on a StateMachine; {type(run.data).__name__} is none"
        if isinstance(run.model, Seq2Seq):
            return f"{type(self).__name__} scores models of one stack; an encoder-decoder has two"
        return super().refusal(run)


@dataclasses.dataclass(frozen=True)
class TransitionValidity(OfMachine):
    """`valid_transition_score` of `rows` rows, as long as those of the data, sampled from the token that begins one. A
    step from or to what is no state counts as wrong."""

    rows: int = 512

    def measure(self, asked):
        machine, new = asked.opened.dataset.machine, asked.rows["tokens"].shape[1] - 1
        begin = [[machine.base]] * len(asked.rows["tokens"])
        out = generate(asked.opened.model, begin, new, strategy=Sample(), key=jax.random.key(0))
        return {"valid_transition_score": valid_share(machine, out.tokens)}


def valid_share(machine: Machine, digits: np.ndarray) -> float:
    """Of the steps in rows [B, 2 n] without the token that begins them."""
    states = machine.read(digits)
    before, after = states[:, :-1], states[:, 1:]
    return float(np.mean((before >= 0) & (after >= 0) & machine.edges[before, after]))


@dataclasses.dataclass(frozen=True)
class StateCodes(OfMachine):
    """Means over the states: `code_precision_score` and `code_recall_score` of the code with the best F1 of the tokens
    that complete a state, among all tokens; `neuron_precision_score` of the best coordinate of the vector that the
    codebook reads, at the same recall, and `hidden_precision_score` of the best hidden unit of the feed-forward;
    `precision_margin_score` and `hidden_margin_score`, how far the code is ahead of each. Of a model without codes at
    `site`, nothing. Codes, neurons and thresholds are chosen on the rows that they are measured on.

    `layer`: of the codes, from the end if negative.
    """

    site: str = "mlp_out"
    layer: int = -1

    def measure(self, asked):
        saved = saved_on(asked, rf"{re.escape(self.site)}\.(in|codes|amplitudes)|mlp\.post")
        if f"{self.site}.codes" not in saved:
            return {}
        (site,) = sites_of(asked.opened.model, saved)
        machine, tokens = asked.opened.dataset.machine, asked.rows["tokens"]
        label = np.full(tokens[:, :-1].shape, -1)
        label[:, 2::2] = machine.read(tokens[:, 1:])[:, :-1]
        codes = site.flat(saved[f"{self.site}.codes"])
        size = site.sets * site.size
        codes = codes % size  # those of each layer from 0 on
        if site.sparse:
            codes = np.where(site.beside(saved[f"{self.site}.amplitudes"]) > 0, codes, -1)
        codes = codes.reshape(label.size, site.layers, -1)[:, self.layer]
        values = {
            "neuron": saved[f"{self.site}.in"][self.layer].reshape(label.size, -1),
            "hidden": saved["mlp.post"][self.layer].reshape(label.size, -1),
        }
        return state_codes(codes, label.reshape(-1), machine.states, size, values)


def state_codes(
    codes: np.ndarray, label: np.ndarray, states: int, size: int, values: Mapping[str, np.ndarray]
) -> dict[str, float]:
    """The numbers of `StateCodes`.

    Args:
      codes: int [M, k], of all tokens, below `size`.
      label: int [M], the state that each completes; -1: none. States that none does are left out.
      values: "neuron" and "hidden" -> [M, N].
    """
    rows = []
    for state in range(states):
        mine = label == state
        if not mine.any():
            continue
        found = firing_of(codes, mine, size)
        best = int(np.argmax(found.f1))
        recall = float(found.recall[best])
        others = [best_neuron(value, mine, recall).precision for value in values.values()]
        rows.append([float(found.precision[best]), recall, *others])
    precision, recall, *others = np.mean(rows, axis=0).tolist()
    told = {"code_precision_score": precision, "code_recall_score": recall}
    for name, other in zip(values, others, strict=True):
        margin = "precision" if name == "neuron" else name
        told |= {f"{name}_precision_score": other, f"{margin}_margin_score": precision - other}
    return told


def saved_on(asked: Asked, save: str) -> dict[str, np.ndarray]:
    """What the model saves at sites on the rows, [L, B, T, ...]."""
    tokens, parts = asked.rows["tokens"][:, :-1], split(asked.opened.model)
    found: list[dict[str, np.ndarray]] = []
    for start in range(0, len(tokens), asked.batch):
        part = tokens[start : start + asked.batch]
        taps = jax.device_get(taps_of(save, *parts, Inputs(np.pad(part, ((0, asked.batch - len(part)), (0, 0))))))
        found.append({name: value[:, : len(part)] for name, value in taps.items()})
    return {name: np.concatenate([one[name] for one in found], axis=1) for name in found[0]}


@functools.partial(jax.jit, static_argnums=(0, 1))
def taps_of(save: str, graphdef: Any, params: Any, buffers: Any, inputs: Inputs) -> Any:
    """What a model saves at the sites that `save` names."""
    return merge(graphdef, params, buffers)(inputs, tap=Tap(save=save, strict=False)).taps
