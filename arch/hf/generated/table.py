"""The twins of Strata's parts, by the name of the spec; and why others have none."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from arch.hf.generated import recurrent
from arch.hf.generated.telling import (
    across_heads,
    attention,
    bigbird,
    block,
    codebook,
    cross_attention,
    deep_norm_alpha,
    depth_block,
    directions_of,
    grouped,
    linear_attention,
    lookup_free,
    lstm_cell,
    nearest_code,
    parallel_stack,
    per_head,
    prediction_head,
    residual,
    sequential,
)
from arch.hf.generated.twin import Twin

BLOCKS: dict[str, Twin] = {
    "PreNorm": Twin("StrataPreNorm", "pre_norm", block()),
    "PostNorm": Twin("StrataPostNorm", "post_norm", block()),
    "SandwichNorm": Twin("StrataSandwichNorm", "sandwich", block()),
    "ReorderedNorm": Twin("StrataReorderedNorm", "reordered_norm", block()),
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
    "AcrossHeads": Twin("StrataAcrossHeads", "across_heads", across_heads),
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
    "LSTMCell": Twin("StrataLSTMCell", "lstm_cell", lstm_cell),
    "ConstantClip": Twin("StrataConstantClip", "clip"),
    "AnnealedClip": Twin("StrataAnnealedClip", "annealed_clip"),
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
    "LookupFreeBottleneck": Twin("StrataLookupFree", "lookup_free", lookup_free),
    "GumbelSoftmaxBottleneck": Twin("StrataGumbelSoftmax", "gumbel_softmax"),
    "TopKBottleneck": Twin("StrataTopK", "top_k"),
    "BatchTopKBottleneck": Twin("StrataBatchTopK", "batch_top_k"),
    "GatedBottleneck": Twin("StrataGatedSparse", "gated_sparse"),
    "PerHeadBottleneck": Twin("StrataPerHead", "several", per_head),
    "GroupedBottleneck": Twin("StrataGrouped", "several", grouped),
    "ResidualBottleneck": Twin("StrataResidual", "residual", residual),
}

_ENERGY = {"v": "energy", "gain": "length"}

TRANSLATORS: dict[str, Twin] = {
    "GNMT": Twin("StrataGNMTModel", "gnmt", recurrent.translator),
    "RecurrentEncoder": Twin("StrataRecurrentEncoder", "recurrent_encoder", recurrent.encoder),
    "RecurrentDecoder": Twin("StrataRecurrentDecoder", "recurrent_decoder", recurrent.decoder),
    "AdditiveAttention": Twin("StrataAdditiveAttention", "additive_attention", arrays=_ENERGY),
    "NormedAdditiveAttention": Twin("StrataNormedAdditiveAttention", "normed_additive_attention", arrays=_ENERGY),
}

STACKS: dict[str, Twin] = {
    "Sequential": Twin("StrataSequential", "sequential", sequential),
    "ParallelStack": Twin("StrataParallelStack", "parallel_stack", parallel_stack),
    "Grouped": Twin("StrataParallelStack", "parallel_stack", parallel_stack),
}

BLOCKS = {kind: dataclasses.replace(twin, splits=True) for kind, twin in BLOCKS.items()}
TWINS: Mapping[str, Twin] = {**BLOCKS, **LAYERS, **MIXERS, **HEADS, **BOTTLENECKS, **STACKS, **TRANSLATORS}

_IMAGES = "reads images, and the folder is one of a model of tokens"
_ROUNDED = ", whose roundings fall otherwise in another library; export the network that was quantised"

WITHOUT: Mapping[str, str] = {
    "AxialRotary": f"has no twin in PyTorch: it {_IMAGES}",
    "Convolution": f"has no twin in PyTorch: it {_IMAGES}",
    "ConvResidual": f"has no twin in PyTorch: it {_IMAGES}",
    "DeepMLP": f"has no twin in PyTorch: it {_IMAGES}",
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
    "Recurrences": "has no twin in PyTorch: it is what RecurrentEncoder and RecurrentDecoder share, which have one",
    "Int8LSTMCell": f"has no twin in PyTorch: integer arithmetic of its own{_ROUNDED}",
    "Int8Head": f"has no twin in PyTorch: integer arithmetic of its own{_ROUNDED}",
    "Matcher": "has no twin in PyTorch: Transformers has no model of two rows; export its encoder as a Classifier",
}
"""Name of a part -> why it has no twin, as the end of a sentence."""
