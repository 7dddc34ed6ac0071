"""Does LayerNorm Scaling make deep layers work? "The Curse of Depth in Large Language Models" (arXiv 2502.05795).

Pre-norm lets the variance of the residual stream grow with depth until deep blocks hardly change it; dividing each norm
by the root of its layer's index is to stop that. Every row of the paper's tables of norms, scalings, positions and
initialisations is an arm (`arms`).

Forms:

  (none)   130M, 2.2 billion tokens of C4 an arm (data/c4/*.parquet, column text): accelerators. Expected: LayerNorm
           Scaling 25.76 perplexity, pre-norm 26.73; the bar is 0.3 perplexity. `:250M`, `:350M`,
           `:350M_script` and `:1B` likewise.
  :cpu     16 layers of width 32 on Python's reference text, 3 arms x 8 seeds after 4 learning rates x 3 seeds each; two
           and a half hours on 2 cores. Measured: each arm at its best rate, nothing is decided, and the variance of the
           last layer is 0.80 of pre-norm's (experiments/results); the bar was 0.35.
  :brief   the same arms for a third of the steps and half the seeds.
  :tiny    seconds; what the tests run.

  python launch.py train --config=experiments/curse_of_depth.py:cpu
"""

import dataclasses
from typing import Any

from arch.layers.init.embedding import RELEASED_STD
from experiments import (
    AdamW,
    Admin,
    Attention,
    Better,
    Block,
    Bytes,
    Cosine,
    Decoder,
    DeepNorm,
    DeepNormInit,
    DepthScaledInit,
    EmbeddingInit,
    GatedMLP,
    GroupNorm,
    HigherRate,
    LayerScale,
    Logging,
    MixNorm,
    Normal,
    NormedEmbedding,
    PostNorm,
    PreNorm,
    PydocTopics,
    RatioBelow,
    Run,
    SandwichNorm,
    ScaledInit,
    ScaledInput,
    ScaledNorm,
    ScaledResidual,
    ScaledSublayer,
    SkipInit,
    Study,
    Text,
    unknown_form,
)
from experiments.lns_sizes import run

FORMS = ("", "cpu", "brief", "tiny")
LARGE = ("250M", "350M", "350M_script", "1B")
QUESTION = "Does LayerNorm Scaling keep the variance of the residual stream down, and does it make a better model?"


def get_config(form: str = "") -> Study:
    if form in ("", *LARGE):
        return paper(form or "130M")
    if form not in FORMS:
        raise unknown_form(form, (*FORMS, *LARGE))
    return {"cpu": cpu, "brief": lambda: cpu(steps=250, seeds=4), "tiny": tiny}[form]()


def arms(base: Decoder) -> dict[str, Decoder]:
    """Every row of the paper's tables, and what else was proposed, as a variant of the pre-norm model `base`."""

    def block(kind: type[Block], **fields: Any) -> Decoder:
        own = {field.name: getattr(base.block, field.name) for field in dataclasses.fields(Block)}
        return dataclasses.replace(base, block=kind(**{**own, **fields}))

    def init(rule: Any, model: Decoder = base) -> Decoder:
        return dataclasses.replace(model, init=rule)

    lns = block(ScaledNorm)
    return {
        "pre_ln": base,
        "lns": lns,
        "post_ln": block(PostNorm),
        "deep_norm": init(DeepNormInit(), block(DeepNorm)),
        "deep_norm_released": init(DeepNormInit(compat="lns_code"), block(DeepNorm, compat="lns_code")),
        "mix_ln": block(MixNorm, fraction=0.25),
        "sandwich_ln": block(SandwichNorm),
        "peri_ln": dataclasses.replace(block(SandwichNorm), embedding=NormedEmbedding()),
        "group_ln": block(PreNorm, norm=GroupNorm()),
        "admin": block(Admin),
        "layer_scale": block(LayerScale),
        "skip_init": block(SkipInit),
        "scaled_init": init(ScaledInit(base.init)),
        "depth_scaled_init": init(DepthScaledInit(base.init)),
        "lns_scaled_init": init(ScaledInit(base.init), lns),
        "lns_before_norm": block(ScaledInput),
        "lns_after_sublayer": block(ScaledSublayer),
        "lns_after_residual": block(ScaledResidual),
        "lns_attention_only": block(ScaledNorm, which="attention"),
        "lns_feed_forward_only": block(ScaledNorm, which="feed_forward"),
        "pre_ln_released_embedding": init(EmbeddingInit(base.init, RELEASED_STD)),
        "lns_released_embedding": init(EmbeddingInit(base.init, RELEASED_STD), lns),
    }


def runs(base: Run, *names: str) -> dict[str, Run]:
    """`base` with the model of each arm called `names`; without names, of all."""
    assert isinstance(base.model, Decoder)
    models = arms(base.model)
    return {name: dataclasses.replace(base, model=models[name]) for name in names or models}


def paper(size: str) -> Study:
    """A size of the paper, all of its arms. The bar on perplexity is 0.3 at 130M, in nats of the loss."""
    return Study(
        question=QUESTION,
        arms=runs(run(size)),
        claims=(
            Better("lns", than="pre_ln", margin=0.0113),  # log(26.73 / 26.43)
            Better("lns", than="lns_scaled_init"),
            RatioBelow("lns", "pre_ln", "diagnostics/residual_variance[-1]", at_most=0.35),
        ),
        metric="val/loss",
        diagnostics=("depth",),
        memory=64.0,
        paper=PAPER,
        notes=(
            "Perplexities of the paper are exp(val/loss) on C4 with the T5 tokenizer; compare differences, not levels.",
            "deep_norm_released follows the code that the paper's DeepNorm row came from, deep_norm follows DeepNet.",
            "admin starts from unit variances, without a profiling pass; group_ln has 8 groups, layer_scale starts at "
            "1e-5: the paper does not say what it used.",
            f"The released code drew embeddings with std {RELEASED_STD:.3f} until January 2026; the paper's runs had "
            "0.02.",
        ),
    )


def cpu(steps: int = 800, seeds: int = 8) -> Study:
    """Injections into the residual stream as large as those of the 130M model: std .098 = .02 sqrt(768 / 32).

    Scaling wants a higher learning rate than pre-norm has, so that at one rate for all the sign of the difference is
    that of the rate: every arm has its own.
    """
    base = Run(
        model=Decoder(
            vocab=256,
            width=32,
            depth=16,
            block=PreNorm(mixer=Attention(heads=2), feed_forward=GatedMLP(hidden=88)),
            init=EmbeddingInit(Normal(0.098), 0.02),
        ),
        data=Text(source=PydocTopics(), tokenizer=Bytes(), length=64),
        optimizer=AdamW(schedule=Cosine(warmup=0.1, final=0.1), clip=None, weight_decay=0.0, b2=0.999),
        batch=16,
        steps=steps,
        logging=Logging(log=20, evaluate=0, checkpoint=200, keep=1),
    )
    return study(runs(base, "pre_ln", "lns", "scaled_init"), rates=(3e-3, 6e-3, 1e-2, 2e-2), seeds=seeds)


def tiny() -> Study:
    """What `:cpu` does, with two of its arms, in seconds."""
    base = Run(
        model=Decoder(
            vocab=256,
            width=16,
            depth=5,
            block=PreNorm(mixer=Attention(heads=2), feed_forward=GatedMLP(hidden=32)),
        ),
        data=Text(source=PydocTopics(), tokenizer=Bytes(), length=16),
        optimizer=AdamW(clip=None, weight_decay=0.0),
        batch=4,
        steps=4,
        logging=Logging(log=2, evaluate=2, checkpoint=2, keep=1),
    )
    return study(runs(base, "pre_ln", "lns"), rates=(1e-3, 3e-2, 3.0), seeds=2)


def study(arms: dict[str, Run], rates: tuple[float, ...], seeds: int) -> Study:
    """The small study: the paper's headline first, then what it rests on; the variance, which holds at any scale, has
    bars."""
    last, growth = "diagnostics/residual_variance[-1]", "diagnostics/residual_variance[3->-1]"
    rivals = tuple(Better("lns", than=name) for name in arms if name not in ("lns", "pre_ln"))
    return Study(
        question=QUESTION,
        arms=arms,
        claims=(
            Better("lns", than="pre_ln"),
            HigherRate("lns", than="pre_ln"),
            *rivals,
            RatioBelow("lns", "pre_ln", last, at_most=0.35),
            RatioBelow("lns", "pre_ln", growth, at_most=0.5),
        ),
        learning_rates=rates,
        seeds=seeds,
        metric="val/loss",
        diagnostics=("depth",),
        paper=PAPER,
        notes=(
            "Each arm has the best learning rate of its own; the paper has one rate a size for all arms.",
            "Even at 7B the paper's curve is behind pre-norm's for the first 13,000 updates.",
            "Scaled initialisation is the strongest cheap rival, here as in the paper's tables; the paper advises "
            "against adding it to LayerNorm Scaling.",
            "Text is bytes of paragraphs that stand in one split only.",
        ),
    )


def _ppl(arm: str, *values: float) -> dict[str, Any]:
    return {"measured": "C4 perplexity", "arm": arm, **dict(zip(("130M", "250M", "350M", "1B"), values, strict=False))}


PAPER: tuple[dict[str, Any], ...] = (
    _ppl("post_ln", 26.95, 1409.79, 1368.33, 1390.75),
    _ppl("deep_norm_released", 27.17, 22.77, 1362.59, 1409.08),
    _ppl("mix_ln", 26.07, 21.39, 1363.21, 1414.78),
    _ppl("pre_ln", 26.73, 21.92, 19.58, 17.02),
    _ppl("lns", 25.76, 20.35, 18.20, 15.71),
    _ppl("layer_scale", 27.93, 23.45),
    _ppl("skip_init", 27.41, 22.29),
    _ppl("depth_scaled_init", 26.95, 21.50),
    _ppl("scaled_init", 26.04, 20.98),
    _ppl("lns_scaled_init", 25.80, 20.79),
    _ppl("admin", 27.91),
    _ppl("group_ln", 28.01),
    _ppl("sandwich_ln", 26.51),
    _ppl("lns_before_norm", 26.97),
    _ppl("lns_after_sublayer", 26.53),
    _ppl("lns_after_residual", 1358.11),
    _ppl("lns_attention_only", 26.89),
    _ppl("lns_feed_forward_only", 26.43),
    {"measured": "mean accuracy of 7 tasks, fine-tuned", "arm": "pre_ln", "250M": 36.93, "1B": 43.01},
    {"measured": "mean accuracy of 7 tasks, fine-tuned", "arm": "lns", "250M": 43.14, "1B": 44.87},
    {"measured": "OLMo loss, 20B tokens", "arm": "scaled_init", "1B": 2.96},
    {"measured": "OLMo loss, 20B tokens", "arm": "OLMo's own", "7B": 2.69},
    {"measured": "OLMo loss, 20B tokens", "arm": "lns", "1B": 2.85, "7B": 2.50},
    {"measured": "Qwen2.5-0.5B perplexity, 6B tokens", "arm": "pre_ln", "0.5B": 20.62},
    {"measured": "Qwen2.5-0.5B perplexity, 6B tokens", "arm": "lns", "0.5B": 19.57},
    {"measured": "ViT-S, ImageNet-1K accuracy", "arm": "pre_ln", "ViT-S": 67.91},
    {"measured": "ViT-S, ImageNet-1K accuracy", "arm": "lns", "ViT-S": 66.43},
    {"measured": "ViT-S, ImageNet-1K accuracy", "arm": "lns_after_sublayer", "ViT-S": 68.75},
    {"measured": "variance of the last layer, 10k updates", "arm": "pre_ln", "130M": "about 175"},
    {"measured": "variance of the last layer, 10k updates", "arm": "lns", "130M": "under 25"},
)
"""Published numbers (arXiv 2502.05795). Perplexities near 1400 are runs that diverged to the unigram plateau."""
