"""The base language model: a Llama-like decoder on English prose. The spine that studies vary.

Forms, and what each costs:

  (none)   124M-class decoder, T = 1024, on your own Parquet files of web text (data/fineweb/*.parquet, column text),
           2.5 billion tokens; meant for accelerators.
  :demo    1.1M parameters on the Wikipedia leads, bytes, T = 256: under 4 minutes on 2 cores.
  :tiny    57k parameters on the Wikipedia leads, 20 steps: seconds; what the tests run.

Expected: `:demo` ends well below the bigram model's bits per byte on the same validation text, printed beside it
(measured numbers with their dates: experiments/LOG.md).

  python launch.py train --config=experiments/base_lm.py:demo
"""

from experiments import (
    BPE,
    AdamW,
    Attention,
    Bytes,
    Cosine,
    Decoder,
    GatedMLP,
    LocalText,
    Logging,
    Mesh,
    Normal,
    PreNorm,
    Run,
    ScaledInit,
    Sequential,
    Text,
    UserError,
    WikiLeads,
)

FORMS = ("", "demo", "tiny")


def get_config(form: str = "") -> Run:
    if form not in FORMS:
        raise UserError(f"base_lm.py has no form {form!r}; it has {', '.join(name or '(none)' for name in FORMS)}")
    return {"": full, "demo": demo, "tiny": tiny}[form]()


def full() -> Run:
    """124M-class: the shape of GPT-2 small with Llama's parts, 512k tokens a step."""
    return Run(
        model=Decoder(
            vocab=32_768,
            width=768,
            depth=12,
            block=PreNorm(mixer=Attention(heads=12), feed_forward=GatedMLP(hidden=2048)),
            stack=Sequential(remat="dots_no_batch"),
            init=ScaledInit(Normal(0.02)),
        ),
        data=Text(
            source=LocalText("data/fineweb/*.parquet", validation=0.005, test=0.005), tokenizer=BPE(32_768), length=1024
        ),
        optimizer=AdamW(learning_rate=6e-4, schedule=Cosine(warmup=0.02, final=0.1), weight_decay=0.1),
        batch=512,
        accumulate=4,  # the logits of 512 rows would not fit 16 chips of 16 GiB
        steps=4800,
        precision="bfloat16",
        mesh=Mesh(data=-1),
        logging=Logging(log=10, evaluate=250, checkpoint=500, prompt="The history of"),
    )


def demo() -> Run:
    """Bytes of the Wikipedia leads, small enough to learn spelling and grammar while one watches."""
    return Run(
        model=Decoder(
            vocab=256,
            width=160,
            depth=4,
            block=PreNorm(mixer=Attention(heads=5), feed_forward=GatedMLP(hidden=432)),
            stack=Sequential(loop="unroll"),
        ),
        data=Text(source=WikiLeads(), tokenizer=Bytes(), length=256),
        optimizer=AdamW(learning_rate=3e-3, schedule=Cosine(warmup=0.05, final=0.05), weight_decay=0.1),
        batch=16,
        steps=350,
        logging=Logging(log=10, evaluate=100, checkpoint=100, prompt="The city of London is"),
    )


def tiny() -> Run:
    """Everything the other forms do, in seconds."""
    return Run(
        model=Decoder(
            vocab=256,
            width=32,
            depth=2,
            block=PreNorm(mixer=Attention(heads=2), feed_forward=GatedMLP(hidden=88)),
        ),
        data=Text(source=WikiLeads(test=0.01), tokenizer=Bytes(), length=64),
        optimizer=AdamW(learning_rate=1e-2),
        batch=8,
        steps=20,
        logging=Logging(log=5, evaluate=10, checkpoint=10, prompt="The city"),
    )
