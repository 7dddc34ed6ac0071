"""A small language model with codebooks in every layer (Codebook Features, arXiv 2310.17230), on Python's manual.

One codebook a head at the output of attention and one at that of the feed-forward, 8 of 1,024 codes active, trained
with the model from scratch. After 300 updates one such run was still behind counting two tokens (validation loss 4.40
against 3.56); in full it has not been run. What its codes fire on is what it is for. The study of the paper's claims is
`codebook_features.py`.

Forms:

  (none)   2 layers of width 64, 1,500 updates: some ten minutes on 2 cores; not measured on a quiet machine.
  :tiny    seconds; what the tests run.

  python launch.py train --config=experiments/codebook_lm.py --run_folder=runs/codes
  python launch.py codes runs/codes
"""

from experiments import (
    BPE,
    MLP,
    AdamW,
    Attention,
    Bytes,
    Codebook,
    Cosine,
    Decoder,
    Logging,
    PerHead,
    PreNorm,
    PydocTopics,
    Run,
    Text,
    TokenizerSpec,
    unknown_form,
)

FORMS = ("", "tiny")


def get_config(form: str = "") -> Run:
    if form not in FORMS:
        raise unknown_form(form, FORMS)
    if form == "tiny":
        return run(256, Bytes(), 16, codes=8, k=2, length=16, batch=4, steps=3)
    return run(512, BPE(512), 64, codes=1024, k=8, length=64, batch=16, steps=1500)


def run(
    vocab: int, tokenizer: TokenizerSpec, width: int, *, codes: int, k: int, length: int, batch: int, steps: int
) -> Run:
    """Two layers with a codebook a head and one a feed-forward; the prenorm keeps random codes from collapsing."""
    at = (
        ("attn.z", PerHead(Codebook(codes=codes, k=k))),
        ("mlp_out", Codebook(codes=codes, k=k, prenorm="layer")),
    )
    return Run(
        model=Decoder(vocab, width, 2, PreNorm(mixer=Attention(heads=4), feed_forward=MLP(hidden=4 * width), at=at)),
        data=Text(PydocTopics(), tokenizer, length=length),
        optimizer=AdamW(learning_rate=3e-3, schedule=Cosine(warmup=0.05, final=0.1)),
        batch=batch,
        steps=steps,
        logging=Logging(log=max(steps // 30, 1), evaluate=0, checkpoint=500, keep=1, prompt="The "),
    )
