"""A translator: an encoder-decoder on paragraphs of LibreOffice's help, German to English.

Forms:

  (none)  1.8 million parameters, 3,000 updates of 64 pairs; its time and its BLEU were not measured yet. What counting
          reaches (unigram, bigram, trigram) is printed at the end.
  :tiny   seconds, rows that are to be reversed; what the tests run.

  python launch.py train --config=experiments/translate.py
  python launch.py generate --config=experiments/translate.py --prompt='Klicken Sie auf OK.' --beam=4
  python launch.py evaluate --config=experiments/translate.py --suite=translation
"""

from arch.models.encoder_decoder import reading
from experiments import (
    MLP,
    AdamW,
    Attention,
    Bidirectional,
    Cosine,
    CrossAttention,
    EncoderDecoder,
    LibreOfficeHelp,
    Logging,
    ParallelText,
    PreNorm,
    Reversed,
    Run,
    SequenceToSequence,
    Trunk,
    WordPieces,
    unknown_form,
)

FORMS = ("", "tiny")


def get_config(form: str = "") -> Run:
    if form == "tiny":
        return Run(
            model=translator(vocab=16, width=32, heads=2, hidden=64),
            data=Reversed(length=8, rows=256),
            objective=SequenceToSequence(),
            optimizer=AdamW(learning_rate=1e-2),
            batch=16,
            steps=20,
            logging=Logging(log=5, evaluate=10, checkpoint=10),
        )
    if form:
        raise unknown_form(form, FORMS)
    return Run(
        model=translator(vocab=4096, width=128, heads=4, hidden=512),
        data=ParallelText(LibreOfficeHelp("de", "en"), WordPieces(4096)),
        objective=SequenceToSequence(label_smoothing=0.1),
        optimizer=AdamW(learning_rate=2e-3, schedule=Cosine(warmup=0.1, final=0.05), b2=0.98),
        batch=64,
        steps=3000,
        logging=Logging(log=20, evaluate=500, checkpoint=500),
    )


def translator(vocab: int, width: int, heads: int, hidden: int) -> EncoderDecoder:
    """4 + 2 layers; one table for source, target and head."""
    block = PreNorm(mixer=Attention(heads=heads), feed_forward=MLP(hidden=hidden), dropout=0.1)
    seeing = PreNorm(mixer=Attention(heads=heads, mask=Bidirectional()), feed_forward=MLP(hidden=hidden), dropout=0.1)
    return EncoderDecoder(
        encoder=Trunk(vocab, width, 4, seeing, embedding=None),
        decoder=Trunk(vocab, width, 2, reading(block, CrossAttention(heads=heads))),
    )
