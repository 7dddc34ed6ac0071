"""The foreign mechanisms by name: what puts each into the base run, what it costs, and where it can be looked into."""

from __future__ import annotations

from tests.extension.harness import PARTS, ROWS, SPREAD, Case
from tests.extension.parts.frozen import FREEZE
from tests.train.toys import LENGTH, VOCAB

B, T, D, F, C = 8, LENGTH, 16, 32, 8


def product(rows: int, inputs: int, outputs: int) -> int:
    """FLOPs of `rows` vectors through a matrix."""
    return 2 * rows * inputs * outputs


def attention(tokens: int) -> int:
    """FLOPs of attention of the width: four projections, scores and values."""
    return 4 * product(tokens, D, D) + 2 * product(tokens, D, tokens)


def mlp(tokens: int, hidden: int = F, matrices: int = 2) -> int:
    return matrices * product(tokens, D, hidden)


BODY, HEAD = 2 * (attention(T) + mlp(T)), product(T, D, VOCAB)
"""Of the base run."""

LOCAL = "PreNorm(mixer=Attention(heads=2,mask=SlidingWindow(window=4)),feed_forward=MLP(hidden=32))"
REZERO = f"{PARTS}.mixed:ReZero(start=0.2,mixer=Attention(heads=2),feed_forward=GatedMLP(hidden=24))"
ENCODING = "PreNorm(mixer=Attention(heads=2,mask=Bidirectional()),feed_forward=MLP(hidden=32))"
CROSS = "(cross,CrossAttention(heads=2))"
DECODING = f"PreNorm(mixer=Attention(heads=2),feed_forward=MLP(hidden=32),extra=({CROSS},))"
SMALL = "vocab=16,width=16,depth=1"
TRUNKS = f"encoder=Trunk({SMALL},block={ENCODING}),decoder=Trunk({SMALL},block={DECODING})"


RECURRENT = "vocab=16,width=16,cell=LSTMCell(clip=AnnealedClip(start=0.5,end=0.1,steps=3)),init=Uniform(limit=0.3)"
PAIRS = ("encoder-decoder", "recurrent translator")
READING = "Decoder(vocab=20,width=16,depth=1,block=PreNorm(mixer=Attention(heads=2),feed_forward=MLP(hidden=32)))"
TEACHER = f"Pretrained(model={READING},start={PARTS}.teacher:Drawn(model={READING}))"


CODES = "arch.bottlenecks"


def codes(kind: str) -> tuple[str, ...]:
    """A quantiser, `module:Class(...)`, after the first layer."""
    return (f"model.stack.between=((1,{CODES}.{kind}),)",)


AT = (
    f"(attn.z,{CODES}.several:PerHead(each={CODES}.codebook:Codebook(codes=8,k=2)))",
    f"(mlp_out,{CODES}.several:Grouped(each={CODES}.vector_quantized:VectorQuantized(codes=4,decay=0.9),groups=2))",
)
"""At a site that has heads, and at one of whole vectors."""


CASES: dict[str, Case] = {
    "norm": Case(
        words=(f"model.block.norm={PARTS}.norm:DynamicTanh(alpha=0.7)", f"model.norm={PARTS}.norm:DynamicTanh"),
        sites={"attn_out": (2, B, T, D), "final_norm": (B, T, D)},
        flops=BODY + HEAD,
    ),
    "differential attention": Case(
        words=(f"model.block.mixer={PARTS}.differential:Differential(heads=2)",),
        sites={"attn.q": (2, B, T, 4, 4), "attn.pattern": (2, B, 4, T, T), "attn.lambda": (2,)},
        # The values of each pair of heads are read twice; lambda is two products of vectors of the width of a head.
        flops=BODY + HEAD + 2 * (product(T, D, T) + 2 * product(1, 4, 1)),
        decodes=True,
    ),
    "codes by running sums": Case(
        words=codes("vector_quantized:VectorQuantized(codes=8,decay=0.9,std=0.02)"),
        sites={"between_1.in": (B, T, D), "between_1.codes": (B, T, 1), "between_1.out": (B, T, D)},
        flops=BODY + HEAD + product(T, D, C),
        decodes=True,
        meshes=(SPREAD, ROWS),
    ),
    "codes by gradient": Case(
        words=codes("vector_quantized:LearnedCodes(codes=8,std=0.02)"),
        sites={"between_1.out": (B, T, D)},
        flops=BODY + HEAD + product(T, D, C),
        meshes=(ROWS,),
    ),
    "codes at sites": Case(
        words=(f"model.block.at=({','.join(AT)})",),
        sites={
            "attn.z": (2, B, T, 2, 8),
            "attn.z.in": (2, B, T, 2, 8),
            "attn.z.codes": (2, B, T, 2, 2),
            "mlp_out.codes": (2, B, T, 2, 1),
        },
        # Two codebooks of 8 codes of 8 numbers, and two of 4.
        flops=BODY + HEAD + 2 * (2 * product(T, 8, 8) + 2 * product(T, 8, 4)),
        decodes=True,
        meshes=(SPREAD, ROWS),
    ),
    "masked language model": Case(
        words=(
            f"model=Encoder(vocab=33,width=16,depth=2,block={ENCODING})",
            "objective=MaskedLM(rate=0.3)",
            "steps=12",
        ),
        sites={"attn_out": (2, B, T, D), "logits": (B, T, 33)},
        flops=2 * (attention(T) + mlp(T)) + product(T, D, 33),
        meshes=(ROWS,),
        learns=False,  # not for sure in a dozen steps; more of them add up rounding
    ),
    "encoder-decoder": Case(
        words=(
            f"model=EncoderDecoder({TRUNKS},head=Untied)",
            "objective=SequenceToSequence",
            "data=train.data.reversal:Reversed(length=8,vocab=16)",
        ),
        sites={
            "encoder.attn_out": (1, B, 8, D),
            "decoder.attn_out": (1, B, 8, D),
            "decoder.cross.attn.q": (1, B, 8, 2, 8),
            "decoder.cross.attn.pattern": (1, B, 2, 8, 8),
            "decoder.cross_out": (1, B, 8, D),
        },
        flops=3 * attention(8) + 2 * mlp(8) + product(8, D, 16),
        decodes=True,
    ),
    "recurrent translator": Case(
        words=(
            f"model=GNMT(encoder=RecurrentEncoder({RECURRENT},depth=3),decoder=RecurrentDecoder({RECURRENT},depth=2),"
            "head=ClippedHead)",
            "objective=SequenceToSequence",
            "data=train.data.reversal:Reversed(length=8,vocab=16)",
        ),
        sites={
            "encoder.lstm.h": (2, B, 8, D),
            "encoder.backward.lstm.h": (1, B, 8, D),
            "decoder.resid_post": (2, B, 8, D),
            "decoder.cross.attn.pattern": (B, 1, 8, 8),
        },
        # Layers of the encoder read D (twice), 2D and D; those of the decoder D and the context.
        flops=9 * product(8, D, 4 * D)
        + 6 * product(8, D, 4 * D)
        + 2 * product(8, D, D)
        + product(64, D, 1)
        + product(64, 1, D)
        + product(8, D, 16),
        decodes=True,
        meshes=(SPREAD, ROWS),
    ),
    "distillation": Case(
        words=(
            f"model=EncoderDecoder({TRUNKS},head=Untied)",
            f"objective=Distill(teacher={TEACHER},reads=PrefixConcatenated,alpha=0.5,divergence=JensenShannon)",
            "data=train.data.reversal:Reversed(length=8,vocab=16)",
        ),
        sites={"encoder.attn_out": (1, B, 8, D), "decoder.cross_out": (1, B, 8, D)},
        # The teacher goes forward alone: its layer over source and target counts a third.
        flops=3 * attention(8) + 2 * mlp(8) + product(8, D, 16) + (attention(16) + mlp(16) + product(16, D, 20)) // 3,
        meshes=(SPREAD, ROWS),
    ),
    "lstm": Case(
        words=("model.block.mixer=LSTM(hidden=12)",),
        sites={"lstm.h": (2, B, T, 12), "attn_out": (2, B, T, D)},
        flops=2 * (product(T, D, 48) + product(T, 12, 48) + product(T, 12, D) + mlp(T)) + HEAD,
        decodes=True,
    ),
    "frozen with adapters": Case(
        words=(f"model.block.extra=((adapter,{PARTS}.frozen:Adapter(rank=4)),)", f"optimizer.freeze=({FREEZE!r},)"),
        sites={"adapter.inside": (2, B, T, 4), "adapter_out": (2, B, T, D), "resid_after_adapter": (2, B, T, D)},
        flops=BODY + HEAD + 2 * mlp(T, hidden=4),
    ),
    "mixed stack": Case(
        words=("model.depth=4", f"model.block=Cycle(period=({LOCAL},{REZERO}))"),
        sites={"attn_out": (4, B, T, D), "mlp.pre_linear": (2, B, T, 24), "mlp.post": ((B, T, 32), (B, T, 24)) * 2},
        flops=2 * (2 * attention(T) + mlp(T) + mlp(T, hidden=24, matrices=3)) + HEAD,
        decodes=True,
    ),
    "class-incremental stream": Case(
        words=(
            f"data=Ordered(data={PARTS}.stream:Frequencies(classes=4,length=8),order={PARTS}.stream:Rehearsed)",
            f"model=Classifier(vocab=4,width=16,depth=1,classes=4,position=NoPosition(),block={ENCODING})",
            "objective=Classification",
        ),
        sites={"pooled": (B, D), "attn_out": (1, B, 8, D)},
        flops=attention(8) + mlp(8) + product(1, D, D) + product(1, D, 4),
        learns=False,  # one class comes after another
    ),
}

COUPLED = {
    "balanced codes": Case(
        words=codes("lookup_free:LookupFree(binary=3,temperature=1.0)"), sites={}, meshes=(SPREAD, ROWS)
    ),
}
"""With a loss that is no sum over rows."""
