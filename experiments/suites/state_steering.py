"""Behaving as if in another state of a state machine, by activating its codes (arXiv 2310.17230, section 3)."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from arch.cost import abstract
from arch.models.base import Inputs
from arch.params import merge, split
from arch.spec import Problem, at_least
from arch.taps import Tap
from experiments.codes.reading import counts_shape, not_alone, quantizer_of
from experiments.suites.base import Asked
from experiments.suites.state_machine import OfMachine, saved_on

APART = 0.1
"""Jensen-Shannon distance between the next tokens of two states, at least, for one to be turned into the other."""

NEAR = 3
"""Codes next to one in frequency, on either side, of which its control is drawn; at the ends more on one."""


@dataclasses.dataclass(frozen=True)
class StateSteering(OfMachine):
    """At one place of each row, drawn from those that complete a state, codes become those of another state: the k
    that fire most often on it. Jensen-Shannon distance (the square root of the divergence, in nats) of the next token
    to what the machine says of the other state, over that of the row as it was: 1 is no effect, 0 all.

    `mlp_distance_error` with codes at `mlp` in all layers, `attention_distance_error` with those at `attention` in the
    one layer where they do most; `mlp_divergence_error` and `attention_divergence_error` are the same of divergences,
    `..._random_distance_error` with random codes of equal frequency in their place. `draws` pairs a row. What a model
    has no codes for is left out.
    """

    mlp: str = "mlp_out"
    attention: str = "attn.z"
    draws: int = 2

    def problems(self) -> Iterator[Problem]:
        yield from super().problems()
        yield from at_least(self, 1, "draws")

    def refusal(self, run):
        sites = (not_alone(abstract(run.model), site) for site in (self.mlp, self.attention))
        return super().refusal(run) or next(filter(None, sites), "")

    def measure(self, asked):
        pattern = "|".join(site.replace(".", r"\.") + r"\.codes" for site in (self.mlp, self.attention))
        saved = {name.removesuffix(".codes"): value for name, value in saved_on(asked, pattern).items()}
        if not saved:
            return {}
        found = _Pairs(asked, saved, self.draws)
        told = {}
        for name, site in (("mlp", self.mlp), ("attention", self.attention)):
            if site not in saved:
                continue
            layers = np.arange(len(saved[site]))
            sets = [layers >= 0] if name == "mlp" else [layers == layer for layer in layers]
            named = [found.left(site, on) for on in sets]
            control = [found.left(site, on, control=True)[0] for on in sets]
            told[f"{name}_distance_error"], told[f"{name}_divergence_error"] = np.min(named, axis=0).tolist()
            told[f"{name}_random_distance_error"] = float(np.min(control))
        return told


class _Pairs:
    """Places of rows with a state to turn into, and the codes that each state has."""

    def __init__(self, asked: Asked, codes: Mapping[str, np.ndarray], draws: int):
        machine, model = asked.opened.dataset.machine, asked.opened.model
        tokens = np.tile(asked.rows["tokens"], (draws, 1))
        states = machine.read(asked.rows["tokens"][:, 1:])[:, :-1]
        self.parts, self.tokens, self.truth = split(model), tokens[:, :-1], machine.next_digit
        rng = np.random.default_rng(0)
        which = rng.integers(0, states.shape[1], len(tokens))
        self.places = (2 * which + 2).astype(np.int32)
        apart = distance(self.truth[:, None], self.truth[None]) >= APART
        occurs = np.isin(np.arange(machine.states), states)
        now = np.tile(states, (draws, 1))[np.arange(len(tokens)), which]
        allowed = apart[now] & occurs
        self.target = (rng.random(allowed.shape) * allowed).argmax(axis=1)
        self.usable = allowed.any(axis=1)
        self.named, self.control = {}, {}
        for site, value in codes.items():
            size = counts_shape(quantizer_of(model, site))[-1]
            profile, counts = profiles(value, states, machine.states, size)
            self.named[site] = profile[:, self.target]
            self.control[site] = beside(self.named[site], counts, rng)
        self.before = self._next(dict.fromkeys(codes, np.zeros(1, bool)))

    def left(self, site: str, on: np.ndarray, control: bool = False) -> tuple[float, float]:
        """Mean ratios of distances and of divergences with the codes of `site` activated in the layers `on` [L]."""
        off = {name: np.zeros(1, bool) for name in self.named}
        after, truth = self._next({**off, site: on}, control), self.truth[self.target]
        ratio = (distance(after, truth) / distance(self.before, truth))[self.usable]
        return float(ratio.mean()), float(np.square(ratio).mean())

    def _next(self, on: Mapping[str, np.ndarray], control: bool = False) -> np.ndarray:
        """Distribution [B, V] of the token after each place."""
        chosen = self.control if control else self.named
        gates = {site: np.broadcast_to(on[site], len(value)) for site, value in chosen.items()}
        return np.asarray(_steered(*self.parts, self.tokens, self.places, chosen, gates), np.float64)


def profiles(codes: np.ndarray, states: np.ndarray, count: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    """The codes of each state, and how often each code fires at all.

    Args:
      codes: int [L, B, T, (G,) k], those of all tokens.
      states: int [B, n], completed at places 2, 4, ...

    Returns:
      int32 [L, count, (G,) k], the k codes that fire most often on each state; one that has fewer has its first one
      again. int [L, (G,) size].
    """
    k, inner = codes.shape[-1], codes.shape[3:-1]
    flat = codes.reshape(*codes.shape[:3], -1, k)
    at = flat[:, :, 2::2][:, :, : states.shape[1]].reshape(len(flat), states.size, flat.shape[3], k)
    found = np.zeros((len(flat), count, flat.shape[3], k), np.int32)
    counts = np.zeros((len(flat), flat.shape[3], size), np.int64)
    for layer, group in np.ndindex(len(flat), flat.shape[3]):
        counts[layer, group] = np.bincount(flat[layer, :, :, group].reshape(-1), minlength=size)
        both = np.repeat(states.reshape(-1), k) * size + at[layer, :, group].reshape(-1)
        fires = np.bincount(both, minlength=count * size).reshape(count, size)
        order = np.argsort(-fires, axis=1, kind="stable")[:, :k]
        there = np.take_along_axis(fires, order, axis=1) > 0
        found[layer, :, group] = np.where(there, order, order[:, :1])
    return found.reshape(len(flat), count, *inner, k), counts.reshape(len(flat), *inner, size)


def beside(codes: np.ndarray, counts: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """For each code another at random of the 2 * `NEAR` that come nearest to it in the order of frequencies.

    `codes`: int [L, M, (G,) k]. `counts`: int [L, (G,) C]. A code that fires alone stays.
    """
    found = codes.copy().reshape(*codes.shape[:2], -1, codes.shape[-1])
    flat = counts.reshape(len(counts), -1, counts.shape[-1])
    for layer, group in np.ndindex(flat.shape[:2]):
        alive = int((flat[layer, group] > 0).sum())
        order = np.argsort(-flat[layer, group], kind="stable")
        rank = np.argsort(order)
        if alive < 2:
            continue
        mine = rank[found[layer, :, group]]
        low = np.clip(mine - NEAR, 0, max(alive - 1 - 2 * NEAR, 0))
        places = min(2 * NEAR + 1, alive)
        drawn = low + rng.integers(0, places - 1, mine.shape)
        found[layer, :, group] = order[drawn + (drawn >= mine)]
    return found.reshape(codes.shape)


def distance(p: np.ndarray, q: np.ndarray) -> np.ndarray:
    """Jensen-Shannon distance of distributions [..., V], the square root of the divergence in nats."""
    mean = (p + q) / 2

    def to_mean(one: np.ndarray) -> np.ndarray:
        ratio = np.where(one > 0, one, 1.0) / np.where(one > 0, mean, 1.0)
        return np.asarray(np.sum(one * np.log(ratio), axis=-1))

    return np.sqrt(np.maximum(to_mean(p) + to_mean(q), 0.0) / 2)


@functools.partial(jax.jit, static_argnums=0)
def _steered(graphdef: Any, params: Any, buffers: Any, tokens: Any, places: Any, codes: Any, on: Any) -> jax.Array:
    """Distribution [B, V] after the token at `places` [B] of each row, where site -> codes [L, B, (G,) k] stand in the
    layers `on` [L]."""
    here = jnp.arange(tokens.shape[1])[None] == places[:, None]

    def activated(site: str) -> Any:
        def edit(x: jax.Array, layer: Any) -> jax.Array:
            at = 0 if layer is None else layer
            new = jnp.asarray(codes[site])[at][:, None]
            take = here.reshape(*here.shape, *(1,) * (x.ndim - 2)) & jnp.asarray(on[site])[at]
            return jnp.where(take, new.astype(x.dtype), x)

        return edit

    tap = Tap(edit={f"{site}.codes": activated(site) for site in codes})
    out = merge(graphdef, params, buffers)(Inputs(tokens), tap=tap)
    return jax.nn.softmax(out.logits[jnp.arange(len(tokens)), places].astype(jnp.float32), axis=-1)
