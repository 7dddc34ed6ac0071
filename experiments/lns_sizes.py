"""The sizes and recipes of "The Curse of Depth in Large Language Models" (arXiv 2502.05795), as one table.

Shapes are those of the released configurations (9M to 7B), recipes those of the released scripts and of the paper's
text. The two differ in the learning rate at 350M: 1e-3 in the text ("350M"), 5e-4 in the script ("350M_script").

Common to all: Llama's parts (RoPE, RMSNorm, SwiGLU, no biases, untied head), 32,000 tokens, 512 rows of 256 tokens an
update, a document a row, cut off and padded, Adam (0.9, 0.999) without weight decay and without clipping, a cosine to a
tenth of the peak. The paper kept parameters and Adam's state in bfloat16; here they are float32 and the computation is
bfloat16.
"""

from __future__ import annotations

import dataclasses

from arch.blocks import PreNorm
from arch.layers.attention.softmax import Attention
from arch.layers.feed_forward import GatedMLP
from arch.models.decoder import Decoder
from arch.spec import UserError
from arch.stacks import Sequential
from train.data.sources import LocalText
from train.data.text import Text
from train.data.tokenizers import BPE
from train.optim.optimizers import AdamW
from train.optim.schedules import Cosine
from train.run import Logging, Run
from train.sharding.mesh import Mesh

VOCAB = 32_000


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How a size was trained: the peak, updates, updates of warmup, tokens as the paper states them."""

    learning_rate: float
    updates: int
    warmup: int
    tokens: float


@dataclasses.dataclass(frozen=True)
class Size:
    """A shape, and its recipe where the paper gives one."""

    layers: int
    width: int
    hidden: int
    heads: int
    recipe: Recipe | None = None

    def model(self) -> Decoder:
        """The pre-norm model of this shape."""
        block = PreNorm(mixer=Attention(heads=self.heads), feed_forward=GatedMLP(hidden=self.hidden))
        stack = Sequential(remat="dots_no_batch")
        return Decoder(vocab=VOCAB, width=self.width, depth=self.layers, block=block, stack=stack)


SIZES = {
    "9M": Size(4, 128, 352, 4),
    "20M": Size(4, 256, 688, 4),
    "60M": Size(8, 512, 1376, 8),
    "130M": Size(12, 768, 2048, 12, Recipe(1e-3, 20_000, 2_000, 2.2e9)),
    "250M": Size(24, 768, 2560, 16, Recipe(1e-3, 40_000, 4_000, 3.9e9)),
    "350M": Size(24, 1024, 2736, 16, Recipe(1e-3, 60_000, 6_000, 6.0e9)),
    "350M_script": Size(24, 1024, 2736, 16, Recipe(5e-4, 60_000, 6_000, 6.0e9)),
    "1B": Size(24, 2048, 5461, 32, Recipe(5e-4, 100_000, 1_000, 8.9e9)),
    "7B": Size(32, 4096, 11008, 32),
}


def run(name: str) -> Run:
    """The pre-norm run of a size, on your own Parquet files of C4 (data/c4/*.parquet, column text).

    Raises UserError for a size without a recipe.
    """
    size = SIZES[name]
    if size.recipe is None:
        known = ", ".join(other for other in SIZES if SIZES[other].recipe)
        raise UserError(f"{name}: the paper gives no recipe for this size; it does for {known}")
    recipe = size.recipe
    return Run(
        model=size.model(),
        data=Text(
            source=LocalText("data/c4/*.parquet", validation=0.002, test=0.002),
            tokenizer=BPE(VOCAB),
            length=256,
            pack=False,
        ),
        optimizer=AdamW(
            learning_rate=recipe.learning_rate,
            schedule=Cosine(warmup=recipe.warmup / recipe.updates, final=0.1),
            clip=None,
            weight_decay=0.0,
            b2=0.999,
        ),
        batch=512,
        accumulate=4,
        steps=recipe.updates,
        precision="bfloat16",
        mesh=Mesh(data=-1),
        logging=Logging(log=50, evaluate=1000, checkpoint=1000),
    )
