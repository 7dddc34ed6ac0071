"""Any text data set of the TensorFlow Datasets catalogue, or of the user's own builders, read without TensorFlow.

Many catalogue builders need TensorFlow to *prepare* their data (they use its archive reader), none to read it: prepare
such a set once where TensorFlow is installed, with `file_format="array_record"`, and name its folder here.
"""

from __future__ import annotations

import dataclasses
import difflib
import os
import re
from collections.abc import Iterator
from typing import Any

from arch.spec import Problem, UserError
from train.data import cache, disjoint
from train.data.base import Progress, silent
from train.data.corpus import Corpus, Source, without_breaks
from train.data.paths import expanded
from train.data.slices import refuse_overlap
from train.data.tfds_classes import import_no_others


@dataclasses.dataclass(frozen=True)
class Tfds(Source):
    """A TFDS data set by name, e.g. Tfds("imdb_reviews", validation="test"); splits in the TFDS notation.

    Splits that share records are refused. Documents of `train` whose text also stands in a split that is evaluated on
    are left out, and reported in one line.
    """

    name: str  # NAME, NAME/CONFIG or NAME:VERSION
    train: str = "train"
    validation: str = "validation"  # or part of another split: "train[95%:]", with train="train[:95%]"
    test: str | None = None  # None: there is no test split
    text: str = "text"  # the feature that holds the document
    folder: str | None = None  # TFDS data_dir; None: in the cache
    line_breaks: bool = True  # HTML <br /> become newlines, as in IMDbReviews

    def problems(self) -> Iterator[Problem]:
        if not self.name:
            yield Problem("name", self.name, "must name a TFDS data set")
        _, colon, version = self.name.partition(":")
        if "=" in self.name or (colon and not re.match(r"[\d*]", version)):
            allowed = (
                "must be NAME, NAME/CONFIG or NAME:VERSION; sets of others are prepared by TFDS, and named by folder"
            )
            yield Problem("name", self.name, allowed)
        if self.train == self.validation:
            yield Problem("validation", self.validation, "must differ from the split trained on")
        if self.test in (self.train, self.validation):
            yield Problem("test", self.test, "must differ from the splits trained on and validated on")

    def foreign(self) -> Iterator[Problem]:
        if self.folder is None:
            return
        at = expanded(self.folder) / re.split("[/:]", self.name)[0]
        try:
            prepared = any(next(at.glob(f"{above}*/dataset_info.json"), None) for above in ("", "*/"))
        except (OSError, ValueError):  # no name of a folder
            prepared = False
        if not prepared:
            allowed = f"must hold {self.name}, prepared: for another's run nothing is put there"
            yield Problem("folder", self.folder, allowed)

    def identity(self) -> str:
        """Of the prepared data: name, version, the size of every split in records and bytes, and what is left out."""
        key = self.key()
        return disjoint.named(key, self._repeated(key)) if self.text in self._texts(self._prepared()) else key

    def key(self) -> str:
        """Of the prepared data with all of its records."""
        info = self._prepared().info
        sizes = {name: [split.num_examples, split.num_bytes] for name, split in info.splits.items()}
        read = {split: getattr(self, split) for split in self.splits}
        return cache.digest("tfds", info.full_name, sizes, read, self.text, self.line_breaks)

    def records(self) -> tuple[Any, dict[str, Any]]:
        """The prepared builder, and random access to the records of each split. Raises UserError if two share some."""
        builder = self._prepared()
        found = {name: self._split(builder, getattr(self, name)) for name in self.splits}
        refuse_overlap(self.name, {name: getattr(self, name) for name in self.splits}, builder.info.splits)
        return builder, found

    def build(self, progress: Progress = silent) -> Corpus:
        whole = self._whole()
        repeated = self._repeated(self.key())
        disjoint.tell(self.name, repeated)
        return dataclasses.replace(whole, splits=disjoint.without(self.name, whole.splits, repeated))

    def _whole(self) -> Corpus:
        """The documents of all records. Raises UserError for a feature that is no text."""
        builder, splits = self.records()
        features = dict(builder.info.features.items())
        if self.text not in self._texts(builder):
            kinds = ", ".join(f"{name} ({type(feature).__name__})" for name, feature in features.items())
            raise UserError(f"{self.name}: no text feature {self.text!r}; it has {kinds}")
        clean = without_breaks if self.line_breaks else str
        return Corpus(f"{self.name} in {builder.data_dir}", splits, features, self.text, clean)

    def _texts(self, builder: Any) -> list[str]:
        """The features that are text."""
        import tensorflow_datasets as tfds

        return [name for name, feature in builder.info.features.items() if isinstance(feature, tfds.features.Text)]

    def _repeated(self, key: str) -> disjoint.Numbers:
        """The documents of each split that stand in another."""

        def look() -> disjoint.Numbers:
            corpus = self._whole()
            keys = lambda split: enumerate(map(disjoint.text_keys, corpus.texts(split)))  # noqa: E731
            return disjoint.repeated(self.splits, keys)

        return disjoint.kept(key, look)

    def _split(self, builder: Any, split: str) -> Any:
        try:
            return builder.as_data_source(split)
        except Exception as error:  # TFDS raises many kinds
            known = ", ".join(builder.info.splits)
            raise UserError(f"{self.name}: cannot open split {split!r} ({_line(error)}); it has {known}, and parts of "
                            "them such as 'train[95%:]'") from error  # fmt: skip

    def _prepared(self) -> Any:
        import tensorflow_datasets as tfds
        from tensorflow_datasets.core.registered import DatasetNotFoundError

        import_no_others()
        data_dir = expanded(self.folder) if self.folder else cache.root() / "tfds"
        if self.folder and not data_dir.is_dir():
            raise UserError(f"folder={self.folder}: no such folder; it is where TFDS prepared {self.name}")
        try:
            builder = tfds.builder(self.name, data_dir=os.fspath(data_dir), file_format="array_record")
            if not builder.is_prepared():
                with cache.alone(data_dir / re.sub(r"\W+", "-", self.name)):
                    builder.download_and_prepare()
            return builder
        except DatasetNotFoundError as error:
            near = difflib.get_close_matches(self.name, re.findall(r"^\s+- (\S+)", str(error), re.MULTILINE), n=3)
            hint = f"; did you mean {' or '.join(near)}?" if near else (
                "; some it knows only where TensorFlow is installed: prepare them there with "
                "file_format='array_record' and set `folder` to that data_dir")  # fmt: skip
            raise UserError(f"TFDS has no data set {self.name!r}{hint}") from None
        except ModuleNotFoundError as error:
            raise UserError(
                f"TFDS needs the module {error.name!r} to prepare {self.name}: install it, or prepare the data "
                "elsewhere with file_format='array_record' and set `folder` to that data_dir"
            ) from error
        except Exception as error:  # the network, the disk, the builder: TFDS raises what they raise
            reason = f"{type(error).__name__}: {_line(error)}"
            raise UserError(f"TFDS cannot prepare {self.name} in {data_dir}: {reason}") from error


def _line(error: BaseException) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
