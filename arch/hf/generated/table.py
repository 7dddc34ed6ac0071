"""The twins of Strata's parts, by the name of the spec; and why others have none."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from arch.hf.family import UnfitError
from arch.hf.generated.twin import Fields, Twin
from arch.layers.masks import Bidirectional, Causal, SlidingWindow
from arch.layers.mixers.feature_maps import directions
from arch.layers.positions import ALiBi, T5Relative
from arch.layers.sparse_masks import _random_blocks


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
    if name != "mixer" and getattr(spec, "mask", None) is not None:
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
    from arch.hf.generated.teller import bias

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
    from arch.hf.generated.teller import bias

    if spec.softcap is not None:
        teller.softcaps.add(spec.softcap)
    norm = None if spec.qk_norm is None else teller.tell(spec.qk_norm, rf"{at}.[qk]_norm")
    names = ("heads", "kv_heads", "head_dim", "scale", "softcap", "memory_width")
    return {**{name: getattr(spec, name) for name in names}, "bias": bias(spec.linear), "qk_norm": norm}


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
    from arch.blocks.depth_scaled import SUBLAYERS

    scaled = list(spec.sublayers) if spec.which == "both" else [SUBLAYERS[spec.which]]
    return {**block()(spec, teller, at), "exponent": spec.exponent, "index": spec.index, "scaled": scaled}


def deep_norm_alpha(spec: Any, teller: Any) -> float:
    from arch.blocks.deep_norm import RELEASED_ALPHA

    return float((2 * teller.depth) ** 0.25 if spec.compat == "paper" else RELEASED_ALPHA)


def sequential(spec: Any, teller: Any, at: str) -> Fields:
    return {"between": [[after, teller.tell(part, f"{at}.between.{after}")] for after, part in spec.between]}


def parallel_stack(spec: Any, teller: Any, at: str) -> Fields:
    groups = spec.count(teller.depth)
    scale = (teller.depth // groups) ** -0.5 if spec.combine == "root" else 1.0
    norm = None if spec.norm is None else teller.tell(spec.norm, rf"{at}.norm.[0-9]+")
    return {"groups": groups, "scale": scale, "norm": norm}


BLOCKS: dict[str, Twin] = {
    "PreNorm": Twin("StrataPreNorm", "pre_norm", block()),
    "PostNorm": Twin("StrataPostNorm", "post_norm", block()),
    "SandwichNorm": Twin("StrataSandwichNorm", "sandwich", block()),
    "Parallel": Twin("StrataParallel", "parallel", block()),
    "BareMixer": Twin("StrataBareMixer", "bare_mixer", block()),
    "DeepNorm": Twin("StrataDeepNorm", "deep_norm", block(alpha=deep_norm_alpha)),
    "Admin": Twin("StrataAdmin", "admin", block()),
    "MixNorm": Twin(
        "StrataMixNorm", "mix_norm", block(post_layers=lambda one, teller: int(one.fraction * teller.depth))
    ),
    "LayerScale": Twin(
        "StrataLearnedScale",
        "learned_scale",
        block(initial=lambda one, _: one.initial, by_channel=lambda one, _: True),
    ),
    "SkipInit": Twin(
        "StrataLearnedScale",
        "learned_scale",
        block(initial=lambda one, _: one.initial, by_channel=lambda one, _: False),
    ),
    "ScaledNorm": Twin("StrataScaledNorm", "scaled_norm", depth_block),
    "ScaledInput": Twin("StrataScaledInput", "scaled_input", depth_block),
    "ScaledSublayer": Twin("StrataScaledSublayer", "scaled_sublayer", depth_block),
    "ScaledResidual": Twin("StrataScaledResidual", "scaled_residual", depth_block),
}

LAYERS: dict[str, Twin] = {
    "RMSNorm": Twin("StrataRMSNorm", "rms_norm"),
    "LayerNorm": Twin("StrataLayerNorm", "layer_norm"),
    "GroupNorm": Twin("StrataTokenGroupNorm", "group_norm"),
    "NoNorm": Twin("StrataNoNorm", "no_norm"),
    "DepthScaled": Twin("StrataDepthScaled", "depth_scaled"),
    "DepthScaledInput": Twin("StrataDepthScaledInput", "depth_scaled_input"),
    "MLP": Twin("StrataMLP", "mlp"),
    "GatedMLP": Twin("StrataGatedMLP", "gated_mlp"),
    "NoPosition": Twin("StrataNoPosition", "position"),
    "Rotary": Twin("StrataRotary", "rotary"),
    "Learned": Twin("StrataLearned", "learned"),
    "NormedLearned": Twin("StrataNormedLearned", "normed_learned"),
    "Sinusoidal": Twin("StrataSinusoidal", "sinusoidal"),
    "ALiBi": Twin("StrataALiBi", "alibi"),
    "T5Relative": Twin("StrataT5Relative", "t5_relative"),
    "Causal": Twin("StrataCausal", "causal_mask"),
    "SlidingWindow": Twin("StrataSlidingWindow", "sliding_window_mask"),
    "Bidirectional": Twin("StrataBidirectional", "bidirectional_mask"),
    "LocalWindow": Twin("StrataLocalWindow", "local_window_mask"),
    "Longformer": Twin("StrataLongformer", "longformer_mask"),
    "BigBird": Twin("StrataBigBird", "bigbird_mask", bigbird),
    "Strided": Twin("StrataStrided", "strided_mask"),
    "Both": Twin("StrataBoth", "both_mask"),
    "Embedding": Twin("StrataEmbedding", "embedding"),
    "NormedEmbedding": Twin("StrataNormedEmbedding", "normed_embedding"),
}

MIXERS: dict[str, Twin] = {
    "Attention": Twin("StrataAttention", "attention", attention, alone=True),
    "BiasedAttention": Twin("StrataBiasedAttention", "biased_attention", attention),
    "CrossAttention": Twin("StrataCrossAttention", "cross_attention", cross_attention),
    "LinearAttention": Twin("StrataLinearAttention", "linear_attention", linear_attention),
    "EluPlusOne": Twin("StrataEluPlusOne", "feature_elu"),
    "PositiveOrthogonal": Twin("StrataPositiveOrthogonal", "feature_performer", constants=directions_of),
    "Linformer": Twin("StrataLinformer", "linformer", caches=False),
    "DenseSynthesizer": Twin("StrataDenseSynthesizer", "dense_synthesizer", caches=False),
    "RandomSynthesizer": Twin("StrataRandomSynthesizer", "random_synthesizer", caches=False),
    "Sinkhorn": Twin("StrataSinkhorn", "sinkhorn", caches=False),
    "LSTM": Twin("StrataLSTM", "lstm"),
    "BidirectionalLSTM": Twin("StrataBidirectionalLSTM", "bidirectional_lstm", caches=False),
    "LSTMCell": Twin("StrataLSTMCell", "lstm", lstm_cell),
    "ConstantClip": Twin("StrataLSTMCell", "lstm"),
}

HEADS: dict[str, Twin] = {
    "Tied": Twin("StrataHead", "head"),
    "Untied": Twin("StrataHead", "head"),
    "ScaledTied": Twin("StrataScaledHead", "scaled_head"),
    "ClippedHead": Twin("StrataClippedHead", "clipped_head"),
    "PredictionHead": Twin("StrataPredictionHead", "prediction_head", prediction_head),
    "MeanPooling": Twin("StrataMeanPooling", "mean_pooling"),
    "FirstPooling": Twin("StrataFirstPooling", "first_pooling"),
    "LastPooling": Twin("StrataLastPooling", "last_pooling"),
    "LinearHead": Twin("StrataLinearHead", "linear_class_head"),
    "MLPHead": Twin("StrataMLPHead", "mlp_class_head"),
}

BOTTLENECKS: dict[str, Twin] = {
    "CodebookBottleneck": Twin("StrataCodebook", "codebook", codebook),
    "LearnedCodesBottleneck": Twin("StrataNearestCode", "vector_quantized", nearest_code),
    "VectorQuantizedBottleneck": Twin("StrataNearestCode", "vector_quantized", nearest_code),
    "SimVQBottleneck": Twin("StrataSimVQ", "sim_vq", nearest_code),
    "FiniteScalarBottleneck": Twin("StrataFiniteScalar", "finite_scalar"),
    "PerHeadBottleneck": Twin("StrataPerHead", "several", per_head),
    "GroupedBottleneck": Twin("StrataGrouped", "several", grouped),
    "ResidualBottleneck": Twin("StrataResidual", "residual", residual),
}

STACKS: dict[str, Twin] = {
    "Sequential": Twin("StrataSequential", "sequential", sequential),
    "ParallelStack": Twin("StrataParallelStack", "parallel_stack", parallel_stack),
    "Grouped": Twin("StrataParallelStack", "parallel_stack", parallel_stack),
}

BLOCKS = {kind: dataclasses.replace(twin, splits=True) for kind, twin in BLOCKS.items()}
TWINS: Mapping[str, Twin] = {**BLOCKS, **LAYERS, **MIXERS, **HEADS, **BOTTLENECKS, **STACKS}

_IMAGES = "reads images, and the folder is one of a model of tokens"
_LATER = "has no twin in PyTorch yet; Codebook, VectorQuantized, LearnedCodes, SimVQ and FiniteScalar have"
_CELLS = "is a recurrence with attention inside, which is not written yet"

WITHOUT: Mapping[str, str] = {
    "AxialRotary": f"has no twin in PyTorch: it {_IMAGES}",
    "Convolution": f"has no twin in PyTorch: it {_IMAGES}",
    "ConvResidual": f"has no twin in PyTorch: it {_IMAGES}",
    "DeepMLP": f"has no twin in PyTorch: it {_IMAGES}",
    "GatedBottleneck": _LATER,
    "GumbelSoftmaxBottleneck": _LATER,
    "LookupFreeBottleneck": _LATER,
    "TopKBottleneck": _LATER,
    "BatchTopKBottleneck": _LATER,
    "DenseEncoder": f"has no twin in PyTorch: it {_IMAGES}",
    "ConvEncoder": f"has no twin in PyTorch: it {_IMAGES}",
    "ConvDecoder": f"has no twin in PyTorch: it {_IMAGES}",
    "FeatureClassifier": f"has no twin in PyTorch: it {_IMAGES}",
    "PrototypeNetwork": f"has no twin in PyTorch: it {_IMAGES}",
    "GaussianProjectionBottleneck": f"has no twin in PyTorch: it {_IMAGES}",
    "SegmentsBottleneck": f"has no twin in PyTorch: it {_IMAGES}",
    "KeyValueBottleneckBottleneck": f"has no twin in PyTorch: it {_IMAGES}",
    "ValueLogitsBottleneck": f"has no twin in PyTorch: it {_IMAGES}",
    "FixedKeysBottleneck": f"has no twin in PyTorch: it {_IMAGES}",
    "EmaKeysBottleneck": f"has no twin in PyTorch: it {_IMAGES}",
    "PrototypeLayerBottleneck": f"has no twin in PyTorch: it {_IMAGES}",
    "DistanceHeadBottleneck": f"has no twin in PyTorch: it {_IMAGES}",
    "Recurrences": f"has no twin in PyTorch: it {_CELLS}",
    "AnnealedClip": "has no twin in PyTorch: its bound is a count of steps of training; set a ConstantClip",
    "Int8LSTMCell": "has no twin in PyTorch: integer arithmetic of its own",
    "Int8Head": "has no twin in PyTorch: integer arithmetic of its own",
    "AdditiveAttention": f"has no twin in PyTorch: GNMT {_CELLS}",
    "NormedAdditiveAttention": f"has no twin in PyTorch: GNMT {_CELLS}",
    "GNMT": f"has no twin in PyTorch: it {_CELLS}",
    "RecurrentEncoder": f"has no twin in PyTorch: it {_CELLS}",
    "RecurrentDecoder": f"has no twin in PyTorch: it {_CELLS}",
    "Embedder": "has no twin in PyTorch: vectors of texts have no class in Transformers; export its Encoder",
    "Matcher": "has no twin in PyTorch: Transformers has no model of two rows; export its encoder as a Classifier",
}
"""Name of a part -> why it has no twin, as the end of a sentence."""
