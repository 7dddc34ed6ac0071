"""A trained model as a model of MTEB (Muennighoff et al., arXiv 2210.07316; version 2): texts to vectors.

    opened = open_run(render.read("runs/a"), "runs/a")
    mteb.evaluate(TextEncoder(opened), mteb.get_tasks(tasks=["STSBenchmark"]))

An encoder's vector is the mean over the hidden states of [bos] text [eos], as it reads in training. A decoder's is the
hidden state of the last token of [bos] text, which alone has seen all of it (at eos it was never trained to tell
anything). A model that was trained to embed returns its own vectors. Texts that are too long lose their ends.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from arch.layers.heads.pooling import LastPooling, MeanPooling, Pooling
from arch.models.base import Bidirectional, Causal, Inputs, Seq2Seq, TextEmbedding
from arch.params import merge, split
from arch.spec import UserError, to_text
from experiments.suites.batches import batches
from train.data.cache import digest
from train.starts.from_arrays import FromArrays
from train.trained import TrainedRun


class TextEncoder:
    """Embeds texts.

    Args:
      opened: an encoder, a decoder or an embedder, trained on text.
      batch: rows of a call.
      length: tokens that the model reads at most; None: its positions, or if they have no bound what it was trained on.

    Raises:
      UserError: the model is none of these, or its data has no tokenizer.
    """

    def __init__(self, opened: TrainedRun, batch: int = 32, length: int | None = None):
        model = opened.program.run.model
        if isinstance(model, Seq2Seq) or not isinstance(model, (Bidirectional, Causal, TextEmbedding)):
            raise UserError(f"MTEB needs an encoder, a decoder or an embedder; {type(model).__name__} is none")
        if getattr(opened.dataset, "tokenizer", None) is None:
            raise UserError("MTEB needs a model of text; the data of this one has no tokenizer")
        self.model, self.tokenizer, self.batch = opened.model, opened.dataset.tokenizer, batch
        self.opened = opened
        self.length = length or self.model.limit or opened.dataset.description.arrays["tokens"][0][0] - 1
        self.ends = not isinstance(model, Causal)
        self.pooling: Pooling | None = LastPooling() if isinstance(model, Causal) else MeanPooling()
        if isinstance(model, TextEmbedding):
            self.pooling = None

    @functools.cached_property
    def mteb_model_meta(self) -> Any:
        """An `mteb.ModelMeta`, without which MTEB takes no model.

        MTEB keeps results by name and revision: the revision is of the model, its weights, the tokenizer and the
        length, so that the results of one run are not taken for those of another.
        """
        from mteb.models.model_meta import ModelMeta

        trained, model = FromArrays.of(self.opened.state), self.opened.program.run.model
        return ModelMeta.create_empty(
            {
                "name": f"strata/{type(model).__name__.lower()}",
                "revision": digest(to_text(model), trained.content, self.tokenizer.fingerprint, self.length),
                "n_parameters": sum(array.size for array in trained.arrays()["params"].values()),
                "max_tokens": self.length,
                "framework": ["JAX"],
            }
        )

    def encode(self, sentences: Iterable[Any], **_: Any) -> Float[np.ndarray, "n D"]:
        """float32 vectors of texts, or of batches of texts, mappings with `text`, as MTEB 2 deals them out. What MTEB
        says beside (the task, the type of the prompt) changes nothing."""
        rows = [self.tokens(text) for text in _texts(sentences)]
        found: dict[int, np.ndarray] = {}
        for which, tokens, segments in batches(rows, self.batch, self.length):
            vectors = np.asarray(_embedded(*split(self.model), tokens, segments, self.pooling))
            found |= dict(zip(which, vectors[: len(which)], strict=True))
        return np.stack([found[index] for index in range(len(rows))])

    def similarity(self, one: Any, other: Any) -> Float[np.ndarray, "n m"]:
        """The cosine of each of `one` [n, D] with each of `other` [m, D]."""
        return _unit(one) @ _unit(other).T

    def similarity_pairwise(self, one: Any, other: Any) -> Float[np.ndarray, "n"]:
        """The cosine of each of `one` [n, D] with that of the same number of `other` [n, D]."""
        return (_unit(one) * _unit(other)).sum(axis=-1)

    def tokens(self, text: str) -> list[int]:
        """What the model reads of `text`."""
        tokenizer = self.tokenizer
        return [tokenizer.bos, *tokenizer.encode(text), *([tokenizer.eos] if self.ends else [])][: self.length]


@functools.partial(jax.jit, static_argnums=(0, 5))
def _embedded(graphdef: Any, params: Any, buffers: Any, tokens: Any, segments: Any, pooling: Pooling | None) -> Any:
    """float32 [B, D]."""
    out = merge(graphdef, params, buffers)(Inputs(tokens, None, segments))
    vectors = out.logits[:, 0] if pooling is None else pooling(out.hidden, segments > 0)
    return vectors.astype(jnp.float32)


def _texts(sentences: Iterable[Any]) -> list[str]:
    """The texts, one after the other."""
    found: list[str] = []
    for one in sentences:
        found += one["text"] if isinstance(one, Mapping) else [one]
    return found


def _unit(vectors: Any) -> np.ndarray:
    vectors = np.atleast_2d(np.asarray(vectors))
    return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-12)
