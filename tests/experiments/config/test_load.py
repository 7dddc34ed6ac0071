"""Configuration files: what is wrong with one is told in one line."""

from pathlib import Path

import pytest

from experiments.config.errors import ConfigError
from experiments.config.load import load, module_name, split, unknown_form
from tests.experiments.config.toys import Run

HEAD = "from tests.experiments.config.toys import Run, Model\n"


def write(folder: Path, text: str, name: str = "study.py") -> str:
    file = folder / name
    file.write_text(text)
    return str(file)


def line(reference: str) -> str:
    with pytest.raises(ConfigError) as caught:
        load(reference)
    (only,) = caught.value.lines
    return only


@pytest.mark.parametrize(
    ("reference", "parts"),
    [
        ("a/b.py", ("a/b.py", "")),
        ("a/b.py:", ("a/b.py", "")),
        ("a/b.py:tiny", ("a/b.py", "tiny")),
        ("a/b.py:x:y.py", ("a/b.py", "x:y.py")),
        ("a/b:tiny", ("a/b", "tiny")),
    ],
)
def test_split(reference, parts):
    assert split(reference) == parts


def test_the_argument_reaches_get_config(tmp_path):
    file = write(tmp_path, HEAD + "def get_config(argument=''):\n    return Run(name=argument)\n")
    assert load(file + ":tiny").spec == Run(name="tiny")
    loaded = load(file)
    assert (loaded.spec, loaded.argument, loaded.file) == (Run(name=""), "", Path(file).resolve())


def test_a_file_may_use_annotations_and_import_what_lies_beside_it(tmp_path):
    write(tmp_path, "STEPS = 77\n", "beside_the_study.py")
    file = write(tmp_path, "from __future__ import annotations\nimport dataclasses\n"
                 "from beside_the_study import STEPS\n"
                 + HEAD + "@dataclasses.dataclass(frozen=True)\nclass Mine(Run):\n    more: int | None = None\n"
                 "def get_config(argument: str) -> Mine:\n    return Mine(steps=STEPS)\n")  # fmt: skip
    assert load(file).spec.steps == 77


def test_a_changed_file_is_executed_anew(tmp_path):
    file = write(tmp_path, HEAD + "def get_config(argument):\n    return Run(steps=1)\n")
    assert load(file).spec.steps == 1
    write(tmp_path, HEAD + "def get_config(argument):\n    return Run(steps=2)\n")
    assert load(file).spec.steps == 2


def test_files_of_one_name_in_two_folders_do_not_meet(tmp_path):
    assert module_name(tmp_path / "a" / "x.py") != module_name(tmp_path / "b" / "x.py")


def test_missing_file(tmp_path):
    write(tmp_path, "", "base_lm.py")
    assert line(f"{tmp_path}/bas_lm.py:x") == (
        f"--config={tmp_path}/bas_lm.py: no such file; did you mean {tmp_path}/base_lm.py?"
    )
    assert (
        line(f"{tmp_path}/base_lm") == f"--config={tmp_path}/base_lm: no such file; did you mean {tmp_path}/base_lm.py?"
    )
    assert line(str(tmp_path)) == f"--config={tmp_path}: is a folder; name a file in it"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("def get_config(argument):\n    return (\n", "{file}:2: '(' was never closed"),
        ("x = 1\n", "{file}: has no get_config(argument)"),
        ("def get_confg(argument):\n    pass\n", "{file}: has no get_config(argument); did you mean get_confg?"),
        ("import nothing_of_this_name\n", "{file}:1: ModuleNotFoundError: No module named 'nothing_of_this_name'"),
        ("import sys\nsys.exit('stop')\n", "{file}:2: SystemExit: stop"),
        ("def get_config(argument):\n    return helper()\n\ndef helper():\n    return 1 / 0\n",
         "{file}:5: ZeroDivisionError: division by zero"),
        ("import json\ndef get_config(argument):\n    return json.loads('{')\n",
         "{file}:3: JSONDecodeError: Expecting property name enclosed in double quotes: line 1 column 2 (char 1)"),
        ("def get_config():\n    return 1\n",
         "{file}: TypeError: get_config() takes 0 positional arguments but 1 was given"),
        ("def get_config(argument):\n    pass\n",
         "{file}: get_config must return a Run or another Spec; it returned None; is a return missing?"),
        ("def get_config(argument):\n    return {}\n",
         "{file}: get_config must return a Run or another Spec; it returned a dict"),
        (HEAD + "def get_config(argument):\n    return Run(model=Model(\n        width=0))\n",
         "{file}:3: Model.width=0: must be at least 1"),
        (HEAD + "def get_config(argument):\n    return Model(zzz=1)\n",
         "{file}:3: TypeError: Model.__init__() got an unexpected keyword argument 'zzz'; "
         "its fields are width, depth, mixer, norm, extra, layers"),
        (HEAD + "def get_config(argument):\n    return Run(modle=1)\n",
         "{file}:3: TypeError: Run.__init__() got an unexpected keyword argument 'modle'; did you mean mode?"),
    ],
)  # fmt: skip
def test_each_mistake_is_one_line(tmp_path, text, expected):
    file = write(tmp_path, text)
    assert line(file) == expected.format(file=file)


def test_unknown_form(tmp_path):
    body = "FORMS = ('', 'tiny')\ndef get_config(argument):\n    raise unknown_form(argument, FORMS)\n"
    file = write(tmp_path, "from experiments.config.load import unknown_form\n" + body)
    assert line(file + ":tinny") == f"--config={file}:tinny: no form 'tinny'; did you mean tiny? (forms: none, :tiny)"
    assert str(unknown_form("q", ("a",))) == "no form 'q' (forms: :a)"


def test_the_cause_is_kept_for_debugging(tmp_path):
    file = write(tmp_path, "def get_config(argument):\n    raise KeyError('x')\n")
    with pytest.raises(ConfigError) as caught:
        load(file)
    assert isinstance(caught.value.__cause__, KeyError)
