import json
import shutil

import pytest
import tensorflow_datasets as tfds

from arch.spec import SpecError, UserError
from train.data.translation_catalogue import TfdsPairs

PAIRS = [(f"house {i}", f"Haus {i}") for i in range(30)]


class TranslationLike(tfds.core.GeneratorBasedBuilder):
    """A builder with the features of `wmt14_translate`."""

    VERSION = tfds.core.Version("1.0.0")
    BUILDER_CONFIGS = [tfds.core.BuilderConfig(name="de-en")]  # noqa: RUF012

    def _info(self):
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.Translation(languages=("de", "en")))

    def _split_generators(self, dl_manager):
        return {"train": self._generate_examples(0, 20), "validation": self._generate_examples(20, 25),
                "test": self._generate_examples(25, 30)}  # fmt: skip

    def _generate_examples(self, low, high):
        for i in range(low, high):
            yield i, {"en": PAIRS[i][0], "de": PAIRS[i][1]}


class LeakyPairs(TranslationLike):
    """Pairs 3 to 5 of train are those of validation, on one side or on both."""

    def _generate_examples(self, low, high):
        for i in range(low, high):
            leaked = {3: PAIRS[20], 4: (PAIRS[21][0].upper(), "anders"), 5: ("other", PAIRS[22][1])}
            yield i, dict(zip(("en", "de"), leaked.get(i, PAIRS[i]), strict=True))


class Wmt(TranslationLike):
    """The same with a second language of its own."""

    BUILDER_CONFIGS = []  # noqa: RUF012

    def __init__(self, language, **kwargs):
        self.language = language
        super().__init__(**kwargs)

    def _info(self):
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.Translation(languages=(self.language, "en")))

    def _generate_examples(self, low, high):
        for i in range(low, high):
            yield i, {"en": PAIRS[i][0], self.language: PAIRS[i][1]}


TranslationLike.url_infos = LeakyPairs.url_infos = Wmt.url_infos = {}


def test_a_builder_is_prepared_and_read():
    source = TfdsPairs("translation_like/de-en")
    corpus = source.build()
    assert source.splits == ("train", "validation", "test")
    assert [sorted(corpus.pairs(split)) for split in source.splits] == [
        sorted(PAIRS[:20]), sorted(PAIRS[20:25]), sorted(PAIRS[25:])]  # fmt: skip
    back = TfdsPairs("translation_like/de-en", source="de", target="en", test=None)
    assert sorted(back.build().pairs("validation")) == sorted((b, a) for a, b in PAIRS[20:25])
    assert back.splits == ("train", "validation")
    assert back.identity() != source.identity()


def test_pairs_of_validation_are_not_trained_on(caplog):
    source = TfdsPairs("leaky_pairs/de-en")
    corpus = source.build()
    assert sorted(corpus.pairs("train")) == sorted(PAIRS[:3] + PAIRS[6:20])
    assert sorted(corpus.pairs("validation")) == sorted(PAIRS[20:25])
    assert "leaky_pairs/de-en: 3 pairs of train" in [record.message.split(" also")[0] for record in caplog.records]
    assert source.identity() != source._key()
    whole = TfdsPairs("translation_like/de-en")
    assert whole.identity() == whole._key()


@pytest.mark.parametrize(("config", "language"), [("de-en", "de"), ("fr-en", "fr")])
def test_wmt14_prepared_elsewhere_is_read(tmp_path, config, language):
    """The builder itself is not known without TensorFlow; a folder that it wrote needs only its name."""
    written = tmp_path / "tfds" / "wmt14_translate" / config / "1.0.0"
    Wmt(language, data_dir=str(tmp_path / "w"), file_format="array_record").download_and_prepare()
    shutil.copytree(next((tmp_path / "w").rglob("dataset_info.json")).parent, written)
    for file in written.iterdir():
        if file.name.startswith("wmt"):
            file.rename(written / file.name.replace("wmt-", "wmt14_translate-"))
    info = json.loads((written / "dataset_info.json").read_text())
    info |= {"name": "wmt14_translate", "configName": config}
    (written / "dataset_info.json").write_text(json.dumps(info))
    corpus = TfdsPairs(f"wmt14_translate/{config}", target=language, folder=str(tmp_path / "tfds")).build()
    assert sorted(corpus.pairs("test")) == sorted(PAIRS[25:])


def test_without_tensorflow_the_line_says_so(tmp_path):
    with pytest.raises(UserError, match=r"TFDS has no data set 'wmt14_translate/de-en'; .* TensorFlow") as error:
        TfdsPairs(folder=str(tmp_path)).build()
    assert "\n" not in str(error.value)


def test_what_is_wrong_is_one_clear_line():
    with pytest.raises(UserError, match=r"no text feature target='fr'; it has .*de \(Text\)") as error:
        TfdsPairs("translation_like/de-en", target="fr").build()
    assert "\n" not in str(error.value)
    with pytest.raises(SpecError, match="must be another feature than the source"):
        TfdsPairs("x", source="en", target="en")
    with pytest.raises(SpecError, match="must differ from the split trained on"):
        TfdsPairs("x", train="train", validation="train")
