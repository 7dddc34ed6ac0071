"""What the prototypes of a `PrototypeNetwork` stand for: their decoded pictures beside the images of the data."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any, ClassVar, NamedTuple

import jax
import numpy as np

from arch.models.base import Classification, Inputs
from arch.params import merge, split
from arch.taps import Tap
from experiments.suites.base import Asked, Score
from experiments.suites.exhibits import Exhibit, Pictures, rounded


class _Found(NamedTuple):
    """The pictures [m, H, W, C], distance [m] and label [m] of the nearest training image of each, and the class [m]
    with the most negative weight."""

    pictures: np.ndarray
    distance: np.ndarray
    label: np.ndarray
    weighs: np.ndarray


@dataclasses.dataclass(frozen=True)
class PrototypeExplanation(Score):
    """Of models with prototypes; of others nothing. All training images are compared with, `rows` are encoded.

    `pixel_distance_error`: the mean distance of a decoded prototype from its nearest training image.
    `agreement_score`: the share of prototypes whose nearest image is of the class with the most negative weight.
    `covered_score`: how many classes those nearest images are of.
    `nearest_prototype_error`: the mean squared distance of a code from its nearest prototype.
    """

    kinds: ClassVar[tuple[type, ...]] = (Classification,)

    def measure(self, asked: Asked) -> dict[str, float]:
        network: Any = asked.opened.model
        if not hasattr(network, "prototypes"):
            return {}
        found = _explained(asked)
        distances = _tapped(network, asked.rows["image"], "distances")
        return {
            "pixel_distance_error": float(found.distance.mean()),
            "agreement_score": float((found.label == found.weighs).mean()),
            "covered_score": float(len(set(found.label.tolist()))),
            "nearest_prototype_error": float(distances.min(axis=1).mean()),
        }

    def show(self, asked: Asked) -> Iterator[Exhibit]:
        if hasattr(asked.opened.model, "prototypes"):
            found = _explained(asked)
            names = [f"{own} ({near})" for own, near in zip(found.weighs, found.label, strict=True)]
            caption = (
                "What the decoder makes of each prototype; below it the class of its most negative weight and, in "
                "brackets, the class of the training image that is nearest to the picture."
            )
            yield Pictures("decoded prototypes", names, rounded(found.pictures.mean(axis=-1)), caption)


def _explained(asked: Asked) -> _Found:
    network: Any = asked.opened.model
    rows = asked.opened.dataset.rows["train"]
    batch = rows.gather(np.arange(len(rows)))
    pictures = np.asarray(jax.jit(_pictures, static_argnums=0)(*split(network)))
    flat, images = pictures.reshape(len(pictures), -1), batch["image"].reshape(len(rows), -1)
    distances = np.stack([np.sum((images - one) ** 2, axis=1) for one in flat])
    at = distances.argmin(axis=1)
    weights = np.asarray(network.head.kernel[...])
    return _Found(pictures, np.sqrt(distances.min(axis=1)), batch["label"][at], weights.argmin(axis=1))


def _pictures(graphdef: Any, params: Any, buffers: Any) -> jax.Array:
    found: jax.Array = merge(graphdef, params, buffers).pictures()
    return found


def _tapped(network: Any, images: np.ndarray, site: str) -> np.ndarray:
    graphdef, params, buffers = split(network)
    run = jax.jit(lambda params, images: merge(graphdef, params, buffers)(Inputs(images=images), tap=Tap(site)).taps)
    return np.asarray(run(params, images)[site])
