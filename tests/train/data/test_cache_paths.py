"""The cache may lie anywhere: its folder is never a pattern."""

import pytest

from tests.train.data import test_catalogue  # noqa: F401  (registers its builders)
from tests.train.data.conftest import sentences
from train.data import LocalText, Text, Tfds, cache


@pytest.mark.parametrize("name", ["c[1]", "c*?{a,b} %20#1 é"])
def test_documents_and_tokens(name, tmp_path, monkeypatch, local):
    for folder in ("c1", name):
        monkeypatch.setenv("STRATA_CACHE", str(tmp_path / folder))
        dataset = Text(LocalText(str(local), validation=0.2, per="line"), length=32).build()
        assert sum(stats.documents for stats in dataset.stats.values()) == 120
        corpus = Tfds("catalogue_like", validation="test").build()
        assert sorted(corpus.texts("train")) == sorted(f"{text}\nend" for text in sentences(60)[:40])
        assert sorted(corpus.texts("validation")) == sorted(f"{text}\nend" for text in sentences(60)[40:])


def test_the_home_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "h[1]"))
    monkeypatch.setenv("STRATA_CACHE", "~/strata")
    assert cache.root() == tmp_path / "h[1]" / "strata"
