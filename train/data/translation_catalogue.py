"""Translation sets of the TensorFlow Datasets catalogue, such as WMT 2014: records with a feature for each language."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

from arch.spec import Problem, UserError
from train.data import cache, disjoint
from train.data.base import Progress, silent
from train.data.catalogue import Tfds
from train.data.corpus import Corpus
from train.data.parallel import ParallelCorpus, ParallelSource, side_keys


@dataclasses.dataclass(frozen=True)
class TfdsPairs(ParallelSource):
    """A TFDS translation set by name: TfdsPairs("wmt14_translate/fr-en", target="fr").

    Its own splits are used, in the TFDS notation; `wmt14_translate` has train, validation (newstest2013) and test
    (newstest2014). Preparing it needs the network and takes gigabytes. A pair of which a side stands in a split that is
    evaluated on is left out of training.
    """

    name: str = "wmt14_translate/de-en"
    source: str = "en"  # the features that hold the two sides
    target: str = "de"
    train: str = "train"
    validation: str = "validation"
    test: str | None = "test"  # None: there is no test split
    folder: str | None = None  # TFDS data_dir; None: in the cache

    def problems(self) -> Iterator[Problem]:
        yield from self._set().problems()
        if self.source == self.target:
            yield Problem("target", self.target, "must be another feature than the source")

    def foreign(self) -> Iterator[Problem]:
        yield from self._set().foreign()

    def _set(self) -> Tfds:
        return Tfds(self.name, self.train, self.validation, self.test, folder=self.folder)

    def identity(self) -> str:
        key = self._key()
        return disjoint.named(key, self._repeated(key))

    def _key(self) -> str:
        return cache.digest("tfds_pairs", self._set().key(), self.source, self.target)

    def _repeated(self, key: str) -> disjoint.Numbers:
        """The pairs of each split of which a side stands in another."""

        def look() -> disjoint.Numbers:
            pairs = self._whole()

            def keys(split: str) -> Iterator[tuple[int, set[bytes]]]:
                sides = pairs.corpus.columns(split, pairs.source, pairs.target)
                return enumerate(side_keys({"source": source, "target": target}) for source, target in sides)

            return disjoint.repeated(self.splits, keys)

        return disjoint.kept(key, look)

    def build(self, progress: Progress = silent) -> ParallelCorpus:
        whole = self._whole()
        repeated = self._repeated(self._key())
        disjoint.tell(self.name, repeated, "pairs")
        splits = disjoint.without(self.name, whole.corpus.splits, repeated)
        return dataclasses.replace(whole, corpus=dataclasses.replace(whole.corpus, splits=splits))

    def _whole(self) -> ParallelCorpus:
        import tensorflow_datasets as tfds

        builder, splits = self._set().records()
        features = dict(builder.info.features.items())
        for field in ("source", "target"):
            if not isinstance(features.get(getattr(self, field)), tfds.features.Text):
                kinds = ", ".join(f"{name} ({type(feature).__name__})" for name, feature in features.items())
                raise UserError(f"{self.name}: no text feature {field}={getattr(self, field)!r}; it has {kinds}")
        return ParallelCorpus(Corpus(f"{self.name} in {builder.data_dir}", splits, features), self.source, self.target)
