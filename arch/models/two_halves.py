"""What models of an encoder and a decoder share: two vocabularies, and one embedding where the encoder has none."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from arch.models.base import Model, Seq2Seq
from arch.spec import Problem


class TwoHalves(Model, Seq2Seq):
    """A model of an `encoder` and a `decoder`, which subclasses declare, with `vocab`, `width` and `embedding` each."""

    encoder: Any
    decoder: Any

    def problems(self) -> Iterator[Problem]:
        for name in ("vocab", "width") if self.encoder.embedding is None else ():
            if (own := getattr(self.encoder, name)) != (other := getattr(self.decoder, name)):
                yield Problem(f"encoder.{name}", own, f"must be the decoder's, {other}, to share its embedding")

    @property
    def vocab(self) -> int:
        """V of the target."""
        return self.decoder.vocab

    @property
    def source_vocab(self) -> int:
        """V of the source."""
        return self.encoder.vocab
