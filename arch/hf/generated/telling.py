"""Fields of the configuration that the twins of Strata's parts read, from the spec of each part."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from arch.blocks.deep_norm import RELEASED_ALPHA
from arch.blocks.depth_scaled import SUBLAYERS
from arch.hf.family import UnfitError
from arch.hf.generated.twin import Fields
from arch.layers.attention.feature_maps import directions
from arch.layers.attention.masks import Bidirectional, Causal, SlidingWindow
from arch.layers.attention.sparse_masks import _random_blocks
from arch.layers.linear import Dense
from arch.layers.positions import ALiBi, T5Relative
from arch.layers.sublayer import Mixer


def bias(linear: Any) -> bool:
    """Whether a linear map has a bias. Raises UnfitError for a kind that is no plain one."""
    if type(linear) is not Dense:
        raise UnfitError(f"linear={type(linear).__name__} has no twin in PyTorch; Dense has")
    return linear.bias


def block(**more: Callable[[Any, Any], Any]) -> Callable[[Any, Any, str], Fields]:
    """Tells a block: its norm, its sublayers in order, and `more` fields, each (spec, teller) -> value."""

    def tell(spec: Any, teller: Any, at: str) -> Fields:
        norm = teller.tell(spec.norm, rf"{at}.[a-z0-9_]*norm")
        layers = [[name, _sublayer(name, part, teller, f"{at}.{name}")] for name, part in spec.sublayers.items()]
        told = {"norm": norm, "sublayers": layers, "at": _sites(spec, layers, teller, at)}
        return {**told, **{name: value(spec, teller) for name, value in more.items()}}

    return tell


def _sites(spec: Any, layers: list[Any], teller: Any, at: str) -> list[Any]:
    """The bottlenecks of a block but for the one on the heads' outputs, which belongs to its mixer."""
    found = []
    outs = {"resid_pre", "resid_post", "attn_out", "mlp_out", *(f"{name}_out" for name in spec.sublayers)}
    outs |= {f"resid_after_{name}" for name in spec.sublayers} | {"resid_mid"}
    for site, part in spec.at:
        told = teller.tell(part, f"{at}.at.{site.replace('.', '_')}")
        mixer = next(own for name, own in layers if name == "mixer")
        if site == "attn.z" and "z" in mixer:
            mixer["z"] = told
        elif site in outs:
            found.append([site, told])
        else:
            there = ", ".join(["attn.z of Attention", *sorted(outs)])
            raise UnfitError(f"a bottleneck at {site} has no twin in PyTorch; at {there} it has")
    return found


def _sublayer(name: str, spec: Any, teller: Any, at: str) -> Fields:
    if name != "mixer" and isinstance(spec, Mixer):
        raise UnfitError(
            f"{name}={type(spec).__name__} has no twin in PyTorch: a block has one mixer with a cache there"
        )
    if getattr(spec, "heads", None):
        teller.at_heads = spec.heads
        teller.head_dim = spec.head_dim or teller.width // spec.heads
    kind = "BiasedAttention" if type(spec).__name__ == "Attention" and not standard(spec, teller) else ""
    found: Fields = teller.tell(spec, at, kind)
    return found


def standard(spec: Any, teller: Any) -> bool:
    """Whether Transformers makes the mask of an attention, and nothing is added to its scores."""
    if teller.biased or isinstance(spec.position, (ALiBi, T5Relative)) or hasattr(type(spec.position), "hf"):
        return False
    if type(spec.mask) is SlidingWindow:
        return spec.mask.window == teller.window
    return type(spec.mask) is (Causal if teller.causal else Bidirectional)


def attention(spec: Any, teller: Any, at: str) -> Fields:
    mask = teller.tell(spec.mask, at)
    if spec.softcap is not None:
        teller.softcaps.add(spec.softcap)
    if standard(spec, teller):
        teller.masks[mask["kind"]] = mask
    norm = None if spec.qk_norm is None else teller.tell(spec.qk_norm, rf"{at}.[qk]_norm")
    return {
        "heads": spec.heads,
        "kv_heads": spec.kv_heads,
        "head_dim": spec.head_dim,
        "scale": spec.scale,
        "softcap": spec.softcap,
        "bias": bias(spec.linear),
        "causal": spec.mask.causal,
        "mask": mask,
        "mask_key": mask["kind"],
        "position": teller.tell(spec.position, f"{at}.position"),
        "qk_norm": norm,
        "z": None,
    }


def cross_attention(spec: Any, teller: Any, at: str) -> Fields:
    if spec.softcap is not None:
        teller.softcaps.add(spec.softcap)
    norm = None if spec.qk_norm is None else teller.tell(spec.qk_norm, rf"{at}.[qk]_norm")
    names = ("heads", "kv_heads", "head_dim", "scale", "softcap", "memory_width")
    return {**{name: getattr(spec, name) for name in names}, "bias": bias(spec.linear), "qk_norm": norm}


def across_heads(spec: Any, teller: Any, at: str) -> Fields:
    return {"norm": teller.tell(spec.norm, rf"{at}.norm")}


def linear_attention(spec: Any, teller: Any, at: str) -> Fields:
    found: Fields = teller.fields(spec, at, "mask", "features")
    return {**found, "causal": spec.mask.causal, "features": teller.tell(spec.features, f"{at}.features")}


def directions_of(spec: Any, teller: Any, at: str) -> Mapping[str, np.ndarray]:
    """The random directions of a Performer: drawn by numpy, so the folder keeps them."""
    return {"directions": directions(spec.count, teller.head_dim, spec.seed)}


def lstm_cell(spec: Any, teller: Any, at: str) -> Fields:
    found: Fields = teller.fields(spec, at, "forget")
    return found


def codebook(spec: Any, teller: Any, at: str) -> Fields:
    _straight(spec)
    mean = spec.compat == "code"
    fields = {name: getattr(spec, name) for name in ("codes", "k", "metric")}
    return {**fields, "mean": mean, "prenorm": "affine" if mean else spec.prenorm}


def nearest_code(spec: Any, teller: Any, at: str) -> Fields:
    _straight(spec)
    return {"codes": spec.codes, "metric": spec.metric}


def lookup_free(spec: Any, teller: Any, at: str) -> Fields:
    _straight(spec)
    return {"binary": spec.binary}


def per_head(spec: Any, teller: Any, at: str) -> Fields:
    if not at.endswith(".attn_z"):
        raise UnfitError("PerHead has no twin in PyTorch but at attn.z")
    return {"each": teller.tell(spec.each, f"{at}.each"), "count": teller.at_heads}


def grouped(spec: Any, teller: Any, at: str) -> Fields:
    return {"each": teller.tell(spec.each, f"{at}.each"), "count": spec.groups}


def residual(spec: Any, teller: Any, at: str) -> Fields:
    _straight(spec)
    return {"each": teller.tell(spec.each, f"{at}.stages"), "stages": spec.stages}


def _straight(spec: Any) -> None:
    """Refuses what sends back another gradient than the code's own."""
    if type(spec.gradient).__name__ != "StraightThrough":
        raise UnfitError(f"gradient={type(spec.gradient).__name__} has no twin in PyTorch; StraightThrough has")


def prediction_head(spec: Any, teller: Any, at: str) -> Fields:
    found: Fields = teller.fields(spec, at)
    return {**found, "dense_bias": found.pop("bias")}


def bigbird(spec: Any, teller: Any, at: str) -> Fields:
    table = _random_blocks(-(-spec.length // spec.block), spec.random, spec.global_blocks, spec.seed)[:-1, :-1]
    drawn = [[int(column) for column in row.nonzero()[0]] for row in table]
    return {"block": spec.block, "global_blocks": spec.global_blocks, "drawn": drawn}


def depth_block(spec: Any, teller: Any, at: str) -> Fields:
    scaled = list(spec.sublayers) if spec.which == "both" else [SUBLAYERS[spec.which]]
    return {**block()(spec, teller, at), "exponent": spec.exponent, "index": spec.index, "scaled": scaled}


def deep_norm_alpha(spec: Any, teller: Any) -> float:
    return float((2 * teller.depth) ** 0.25 if spec.compat == "paper" else RELEASED_ALPHA)


def sequential(spec: Any, teller: Any, at: str) -> Fields:
    return {"between": [[after, teller.tell(part, f"{at}.between.{after}")] for after, part in spec.between]}


def parallel_stack(spec: Any, teller: Any, at: str) -> Fields:
    groups = spec.count(teller.depth)
    scale = (teller.depth // groups) ** -0.5 if spec.combine == "root" else 1.0
    norm = None if spec.norm is None else teller.tell(spec.norm, rf"{at}.norm.[0-9]+")
    return {"groups": groups, "scale": scale, "norm": norm}
