"""Wide Attention Is The Way Forward For Transformers? (arXiv 2210.00640): all heads in one layer, or in many?

Classifiers whose layers times heads a layer are constant (6x8, 3x16, 2x24, 1x48) at a fixed head width, for each
attention kind of the Long Range Arena. The feed-forwards are as many as the layers, so the wide model is smaller; an
arm with one feed-forward L times as wide (`1x48 matched`), which the paper lacks, takes that difference away.

Forms, and what each costs:

  (none)    all ten kinds on four tasks at the Long Range Arena's defaults (width 256, 20,000 steps of 32 rows), 3
            seeds: 480 models, for accelerators.
  :listops  width 64, head width 8, softmax, linear and Linformer attention, all layouts, 1,500 steps, 5 seeds after 3
            learning rates x 3 seeds; not run yet.
  :bytes    the same on 128 bytes of the standard library's source: of which package are they?
  :softmax  ListOps, softmax attention in the two extreme layouts, 5 seeds after 3 learning rates x 2 seeds, and those
            beyond an edge that is best: 26 models, 111 minutes on a busy core.
  :linear   the same with linear attention: 34 models, 113 minutes on a busy core.
  :cpu      both, and the mean over them. It tries all rates for both; run as its halves so far.
  :tiny     one kind, a few steps: seconds; what the tests run.

Expected: wide no worse than deep by one point of accuracy, on average (published: 0.3 points better in the mean of four
tasks and ten kinds) and for each task and kind. ListOps may need depth more than bytes do; each kind and task is
reported by itself. Inference speed: bench/wide_latency.py.

  python launch.py train --config=experiments/wide_attention.py:softmax
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from experiments import (
    BPE,
    MLP,
    AdamW,
    Attention,
    Bidirectional,
    BigBird,
    Classification,
    Classifier,
    Cosine,
    Data,
    DenseSynthesizer,
    FanIn,
    IMDbReviews,
    InverseSqrt,
    LayerNorm,
    Learned,
    LinearAttention,
    Linformer,
    ListOps,
    LocalWindow,
    Logging,
    Longformer,
    Mask,
    Match,
    Matcher,
    Mixer,
    NoPosition,
    NoWorse,
    OnAverage,
    PackageBytes,
    PositiveOrthogonal,
    PreNorm,
    RandomWindows,
    Run,
    SameDocument,
    Sequential,
    Sinkhorn,
    Strided,
    Study,
    TextClasses,
    unknown_form,
)
from experiments.study.claims.claims import Claim
from train.data.listops import TOKENS

FORMS = ("", "listops", "bytes", "softmax", "linear", "cpu", "tiny")
QUESTION = "At a constant number of heads, does one wide attention layer classify as well as many narrow ones?"
LAYOUTS = ("6x8", "3x16", "2x24", "1x48")
CHEAP = ("softmax", "linear", "linformer")
MARGIN = 0.01
BPE_VOCAB = 8192

PAPER = (
    {"what": "accuracy of wide minus deep, mean of 4 tasks and 10 attention kinds", "value": 0.003},
    {"what": "speed of wide over deep on a CPU, IMDb bytes", "value": 3.1},
    {"what": "size of wide over deep, IMDb bytes", "value": 0.5},
)
NOTES = (
    "Accuracy on the whole test split. The published effect is 0.3 points, below the noise between seeds at "
    "small sizes: the claim is that wide is no worse, with a margin of one point, on average as the paper has it, and "
    "for each kind and task by itself.",
    "The paper's per-task tables, batch size, steps and learning rate are not known; (none) takes the defaults of the "
    "Long Range Arena as they are remembered, and pairs of pieces of reviews in place of its citation pairs.",
)


def get_config(form: str = "") -> Study:
    if form not in FORMS:
        raise unknown_form(form, FORMS)
    forms: dict[str, Callable[[], Study]] = {
        "": full,
        "listops": lambda: small({"listops": (LISTOPS, 10)}, dict.fromkeys(CHEAP, (*LAYOUTS, "1x48 matched"))),
        "bytes": lambda: small({"bytes": (BYTES, 4)}, dict.fromkeys(CHEAP, (*LAYOUTS, "1x48 matched"))),
        "softmax": lambda: cpu(("softmax",)),
        "linear": lambda: cpu(("linear",)),
        "cpu": cpu,
        "tiny": tiny,
    }
    return forms[form]()


def mixers(heads: int, head_dim: int, length: int) -> dict[str, Mixer]:
    """The ten kinds for rows of `length`. What they see or keep of a row follows its length."""
    part = max(length // 16, 2)

    def softmax(mask: Mask) -> Attention:
        return Attention(heads, head_dim, position=NoPosition(), mask=mask)

    return {
        "softmax": softmax(Bidirectional()),
        "local": softmax(LocalWindow(radius=part)),
        "bigbird": softmax(BigBird(block=part, length=length)),
        "longformer": softmax(Longformer(radius=part, global_tokens=1)),
        "sparse": softmax(Strided(stride=part)),
        "linformer": Linformer(heads, head_dim, length=length, rank=min(2 * part, length)),
        "performer": LinearAttention(heads, head_dim, features=PositiveOrthogonal(4 * head_dim)),
        "linear": LinearAttention(heads, head_dim),
        "sinkhorn": Sinkhorn(heads, head_dim, length=length, block=part),
        "synthesizer": DenseSynthesizer(heads, head_dim, length=length),
    }


LISTOPS = ListOps(length=64, shortest=12, train=100_000)
BYTES = PackageBytes(length=128, windows=RandomWindows(each=12_000))
RATES = (5e-4, 1e-3, 2e-3)


def small(
    tasks: Mapping[str, tuple[Data, int]], layouts: Mapping[str, Sequence[str]], steps: int = 1500, **sizes: Any
) -> Study:
    """Width 64, head width 8; no row is seen twice. `tasks`: name -> (data, classes); `layouts`: those of each kind;
    `sizes`: what else the study is given."""
    arms = {}
    for task, (data, classes) in tasks.items():
        (length,), _ = data.describe().arrays["tokens"]
        for kind, chosen in layouts.items():
            for layout in chosen:
                depth, heads, factor = shape(layout)
                model = Classifier(
                    vocab=len(TOKENS) if isinstance(data, ListOps) else 256,
                    width=64,
                    depth=depth,
                    classes=classes,
                    block=PreNorm(
                        mixer=mixers(heads, 8, length)[kind], feed_forward=MLP(hidden=128 * factor), norm=LayerNorm()
                    ),
                    stack=Sequential(loop="unroll"),
                    position=Learned(length),
                    init=FanIn(),
                )
                arms[f"{task} {kind} {layout}"] = Run(
                    model=model,
                    data=data,
                    objective=Classification(),
                    optimizer=AdamW(schedule=Cosine(warmup=0.1, final=0.1), weight_decay=0.0, b2=0.999),
                    batch=32,
                    steps=steps,
                    logging=Logging(log=max(steps // 30, 1), evaluate=0, checkpoint=max(steps // 3, 1), keep=1),
                )
    return study(arms, **{"learning_rates": RATES, "seeds": 5, **sizes})


def cpu(kinds: tuple[str, ...] = ("softmax", "linear")) -> Study:
    """The task on which models of this size pass counting (on bytes none does), and the extreme layouts."""
    few = dict.fromkeys(kinds, ("6x8", "1x48"))
    return small({"listops": (LISTOPS, 10)}, few, learning_rates=(1e-3, 2e-3, 4e-3), tuning_seeds=2)


def tiny() -> Study:
    """Everything the other forms do, in seconds."""
    data = ListOps(length=16, shortest=4, train=200, validation=32, test=32)
    few: dict[str, Any] = {"learning_rates": (1e-4, 1e-2, 1.0), "tuning_seeds": 1, "seeds": 2}
    return small({"listops": (data, 10)}, {"linear": ("2x24", "1x48")}, steps=4, **few)


def full() -> Study:
    """Ten kinds, four tasks, four layouts, at the defaults of the Long Range Arena."""
    tasks: dict[str, tuple[type[Classifier], Data, int, int]] = {
        "listops": (Classifier, ListOps(2000, 500, train=96_000, arguments=10), len(TOKENS), 10),
        "imdb tokens": (Classifier, TextClasses(IMDbReviews(), BPE(BPE_VOCAB), length=512), BPE_VOCAB, 2),
        "imdb bytes": (Classifier, TextClasses(IMDbReviews(), length=1024), 256, 2),
        "matching": (Matcher, SameDocument(IMDbReviews(), length=512), 256, 2),
    }
    arms = {}
    for task, (model, data, vocab, classes) in tasks.items():
        (length,), _ = data.describe().arrays["tokens"]
        for kind in mixers(8, 32, length):
            for layout in LAYOUTS:
                depth, heads, _ = shape(layout)
                arms[f"{task} {kind} {layout}"] = Run(
                    model=model(
                        vocab=vocab,
                        width=256,
                        depth=depth,
                        classes=classes,
                        block=PreNorm(
                            mixer=mixers(heads, 32, length)[kind], feed_forward=MLP(hidden=1024), norm=LayerNorm()
                        ),
                        position=Learned(length),
                        init=FanIn(),
                    ),
                    data=data,
                    objective=Classification(),
                    # 0.05 / sqrt(step) after 8,000 steps of warm-up
                    optimizer=AdamW(
                        learning_rate=0.05 * 8000**-0.5, schedule=InverseSqrt(warmup=8000), weight_decay=0.1, b2=0.98
                    ),
                    batch=32,
                    steps=20_000,
                    logging=Logging(log=100, evaluate=1000, checkpoint=2000, keep=1),
                )
    return study(arms)


def shape(layout: str) -> tuple[int, int, int]:
    """Layers, heads a layer, and how many times as wide its feed-forward is: 6 if matched to 6x8, else 1."""
    depth, heads = map(int, layout.split()[0].split("x"))
    return depth, heads, 6 // depth if "matched" in layout else 1


def study(arms: Mapping[str, Run], **sizes: Any) -> Study:
    """The arms, and the claim that the widest is no worse than the deepest: for each task and kind, and on average."""
    claims: list[Claim] = []
    for name in arms:
        task, _, layout = name.rpartition(" ")
        if layout == "1x48":
            deepest = next(arm for arm in arms if arm.startswith(f"{task} "))
            claims.append(NoWorse(name, than=deepest, margin=MARGIN))
    if len(claims) > 1:
        claims.insert(0, OnAverage(tuple(claims)))
    return Study(
        question=QUESTION,
        arms=dict(arms),
        claims=tuple(claims),
        match=Match("heads_total", 1e-6),
        metric="val/accuracy",
        lower_is_better=False,
        paper=PAPER,
        notes=NOTES,
        **sizes,
    )
