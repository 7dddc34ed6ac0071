"""A prepared data set that somebody sent runs none of their code."""

import json
import sys

import pytest
import tensorflow_datasets as tfds

from arch.spec import SpecError, UserError
from train.data import Tfds
from train.data.tfds_classes import import_no_others

INFO = {"name": "sent", "version": "1.0.0", "fileFormat": "array_record",
        "splits": [{"name": "train", "numBytes": "1", "shardLengths": ["1"]}]}  # fmt: skip


@pytest.fixture
def sent(tmp_path, monkeypatch):
    """A folder of TFDS, and a function that writes the class of its one feature into it."""
    at = tmp_path / "data" / "sent" / "1.0.0"
    at.mkdir(parents=True)
    (tmp_path / "evil_feature.py").write_text(f"open({str(tmp_path / 'mark')!r}, 'w')\n")
    (at / "dataset_info.json").write_text(json.dumps(INFO))
    monkeypatch.syspath_prepend(str(tmp_path))

    def write(name, legacy):
        old = {"type": name, "content": {}}
        (at / "features.json").write_text(json.dumps(old if legacy else {"pythonClassName": name, "text": {}}))
        return Tfds("sent", validation="train[:1]", train="train[1:]", folder=str(tmp_path / "data"))

    yield write
    assert not (tmp_path / "mark").exists()
    assert "evil_feature" not in sys.modules


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("name", ["evil_feature.X", "evil_feature.sub.X", "nowhere"])
def test_its_features_are_not_imported(sent, name, legacy):
    source = sent(name, legacy)
    for act in (source.identity, source.build, source.records):
        with pytest.raises(UserError, match=rf"features\.json names '{name}'") as caught:
            act()
        assert "\n" not in str(caught.value)


def test_those_of_tfds_and_those_that_are_imported_are_found():
    import_no_others()
    find = tfds.features.FeatureConnector.cls_from_name
    assert find("tensorflow_datasets.core.features.text_feature.Text") is tfds.features.Text

    class Mine(tfds.features.Text):
        pass

    assert find(f"{Mine.__module__}.{Mine.__name__}") is Mine


@pytest.mark.parametrize("name", ["huggingface:imdb", "somebody:set/a:1.0.0", "set/data_dir=/x", "kaggle:a"])
def test_sets_of_others_are_not_fetched_by_name(name):
    with pytest.raises(SpecError, match="must be NAME, NAME/CONFIG or NAME:VERSION"):
        Tfds(name)
    assert Tfds("imdb_reviews/plain_text:1.0.0").name
