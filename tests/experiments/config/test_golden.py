"""Golden files: the mechanism on generated experiments, and those of the real ones."""

import re
from pathlib import Path

import pytest

from arch.bottlenecks.vector_quantized import VectorQuantized
from arch.stacks import Sequential
from experiments.config import golden
from experiments.config.errors import ConfigError
from tests.train import toys

SOURCE = '''
"""A study."""
import dataclasses

from arch.models.decoder import Decoder
from arch.blocks import PreNorm
from arch.layers.attention.softmax import Attention
from arch.spec import Spec
from train.optim.optimizers import AdamW, Optimizer
from train.optim.rules import Rules

FORMS = ("", "tiny")


@dataclasses.dataclass(frozen=True)
class Run(Spec):
    model: Decoder
    optimizer: Optimizer = AdamW(decay=Rules((("kernel", 0.5), (".*", 0.0))), freeze=("norm",))


def get_config(argument=""):
    return Run(Decoder(vocab=8, width=WIDTH, depth=3, block=PreNorm(mixer=Attention(heads=2))))
'''


@pytest.fixture
def source(tmp_path):
    folder = tmp_path / "experiments"
    folder.mkdir()
    (folder / "study.py").write_text(SOURCE.replace("WIDTH", "4 if argument else 8"))
    (folder / "helper.py").write_text("raise SystemError('imported')\n")
    return folder


@pytest.mark.parametrize(("file", "form"), list(golden.forms()), ids=lambda part: getattr(part, "stem", part))
def test_experiments_are_as_their_golden_files_say(file: Path, form: str):
    name = golden.golden_file(file, form).name
    assert (file, form) not in golden.unwritten(), f"{name} is not written yet; `make golden` does"
    difference = golden.compare(file, form)
    assert not difference, f"if this change is meant, run `make golden` and commit the files\n{difference}"


def test_no_golden_file_without_its_experiment():
    assert golden.strays() == []


def test_forms_are_read_without_importing(source):
    (source / "one.py").write_text("FORMS: tuple[str, ...] = ('a',)\ndef get_config(argument): ...\n")
    (source / "none.py").write_text("def get_config(argument): ...\n")
    found = [(file.name, form) for file, form in golden.forms(source)]
    assert found == [("none.py", ""), ("one.py", "a"), ("study.py", ""), ("study.py", "tiny")]


def test_the_text_holds_the_configuration_and_a_table_of_parameters(source):
    lines = golden.render(source / "study.py", "tiny").splitlines()
    assert "model.block.mixer.heads = 2" in lines
    start = lines.index("# parameters of model")
    names, *table = (re.split(r" {2,}", line) for line in lines[start + 1 : -1])
    rows = {row[0]: dict(zip(names, row, strict=False)) for row in table}
    assert names[0] == "path"
    table = rows["embedding.table"]
    assert [table[name] for name in ("shape", "axes", "initializer", "decay")] == [
        "8 4",
        "vocab embed",
        "Normal(0.02)",
        "0",
    ]
    assert (rows["head.kernel"]["shape"], rows["head.kernel"]["decay"]) == ("4 8", "0.5")
    gain = rows["stack.blocks.mixer_norm.gain"]
    assert [gain[name] for name in ("shape", "axes", "initializer", "frozen")] == [
        "3 4",
        "layers embed",
        "constant(1)",
        "frozen",
    ]
    sizes = [1] * len(rows)
    for index, row in enumerate(rows.values()):
        for length in row["shape"].split():
            sizes[index] *= int(length)
    assert lines[-1] == f"{sum(sizes)} parameters in {len(rows)} arrays"


def test_what_does_not_fit_is_told_in_a_line(source):
    (source / "study.py").write_text(SOURCE.replace("WIDTH", "5"))
    with pytest.raises(ConfigError, match=r"^config\.model\.block\.mixer\.heads=2: must divide the width 5"):
        golden.render(source / "study.py", "")


def test_update_writes_what_compare_accepts_and_a_change_is_seen(source, tmp_path):
    folder = tmp_path / "golden"
    study = source / "study.py"
    assert golden.compare(study, "tiny", folder)
    (tmp_path / "golden").mkdir()
    (folder / "study.gone.txt").write_text("stale")
    assert golden.unwritten(source, folder) == [(study, ""), (study, "tiny")]
    assert golden.strays(source, folder) == [folder / "study.gone.txt"]
    changed = {file.name for file in golden.update(source, folder)}
    assert changed == {"study.txt", "study.tiny.txt", "study.gone.txt"}
    assert {file.name for file in folder.iterdir()} == {"study.txt", "study.tiny.txt"}
    assert golden.unwritten(source, folder) == []
    assert golden.update(source, folder) == []
    study.write_text(SOURCE.replace("WIDTH", "12 if argument else 8"))
    assert golden.compare(study, "", folder) == ""
    assert "-model.width = 4\n+model.width = 12\n" in golden.compare(study, "tiny", folder)
    assert [file.name for file in golden.update(source, folder)] == ["study.tiny.txt"]


def test_buffers_have_a_table_of_their_own():
    stack = Sequential(between=((1, VectorQuantized(codes=4)),))
    (_, parameters), (heading, buffers) = golden.tables(toys.run(model=toys.model(stack=stack)))
    assert "between" not in parameters
    assert heading == "buffers of model"
    assert "stack.between.1.codes" in buffers
    assert buffers.endswith("132 numbers in 2 arrays\n")  # 4 counts, 4 x 32 codes
