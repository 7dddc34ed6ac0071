"""The command line in-process: verbs, overrides among other flags, and mistakes of all kinds together."""

import re

import pytest
from absl import flags

from arch.spec import Spec
from experiments.config import render
from experiments.config.errors import ConfigError
from experiments.config.flags import Command, define_path, parse_flags, parser, read, take_apart
from experiments.config.overrides import Override
from tests.experiments.config.toys import Run

VERBS = {"train": "train a model", "generate": "continue text", "inspect": "show it"}


@pytest.fixture
def values():
    values = flags.FlagValues()
    flags.DEFINE_string("run_folder", None, "Where.", flag_values=values)
    flags.DEFINE_bool("debug", False, "Traceback.", flag_values=values)
    flags.DEFINE_integer("port", 1, "Port.", flag_values=values)
    return values


@pytest.fixture
def config(tmp_path):
    file = tmp_path / "study.py"
    file.write_text("from tests.experiments.config.toys import Run\n\ndef get_config(argument):\n    return Run()\n")
    return str(file)


def started():
    return None


def run(values, *words) -> Command:
    return read(["launch.py", *words], VERBS, values, started)


def mistakes(values, *words) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        run(values, *words)
    return list(caught.value.lines)


def test_a_whole_command(values, config):
    command = run(values, "train", f"--config={config}", "--run_folder=out", "--config.steps=5", "--config.fast")
    assert command == Command("train", Run(steps=5, fast=True), Run(), config, {"steps": "5", "fast": None})
    assert values.run_folder == "out"


def test_the_home_folder_in_paths(values, config, tmp_path, monkeypatch):
    """A shell leaves the ~ of --flag=~/folder as it is."""
    monkeypatch.setenv("HOME", str(tmp_path))
    define_path("out", None, "Where.", flag_values=values)
    define_path("none", None, "Where.", flag_values=values)
    assert run(values, "train", "--config=~/study.py", "--out=~/here").spec == Run()
    assert (values.out, values.none) == (f"{tmp_path}/here", None)
    words = read(
        ["launch.py", "compare", "~/a", "b~"], VERBS | {"compare": "it"}, values, started, {"compare": "FOLDER"}
    )
    assert words.words == (f"{tmp_path}/a", "b~")


@pytest.mark.parametrize("word", ["--config.name=a\udcff", "--prompt=\udcff", "a\udcff"])
def test_words_that_are_not_utf8(values, config, word):
    (line,) = mistakes(values, "train", f"--config={config}", word)
    assert re.fullmatch(r".*\ufffd: must be text in UTF-8; it has byte 0xff at character \d+", line)


def test_flags_of_either_kind_stand_anywhere_with_or_without_equals():
    words = ["--config", "a.py", "--config.x", "1", "--port", "3", "-config.y=-2", "--config.z", "-3"]
    apart = take_apart(["launch.py", "train", *words, "--config.b", "--debug", "--config.c"])
    assert (apart.verb, apart.reference, apart.mistakes) == ("train", "a.py", ())
    assert apart.others == ("--port", "3", "--debug")
    assert [(o.path, o.text) for o in apart.overrides] == [
        ("x", "1"),
        ("y", "-2"),
        ("z", "-3"),
        ("b", None),
        ("c", None),
    ]


def test_a_value_may_hold_anything():
    apart = take_apart(["launch.py", "train", "--config.a=x=--y\nz", "--config.b=", "--", "--config.c=1"])
    assert apart.overrides == (Override("a", "x=--y\nz"), Override("b", ""))
    assert apart.others == ("--", "--config.c=1")


def test_the_configuration_of_a_run_folder(values, tmp_path):
    render.write(tmp_path, Run(steps=3))
    command = run(values, "generate", f"--run_folder={tmp_path}", "--config.seed=1")
    assert (command.spec, command.original, command.reference) == (Run(steps=3, seed=1), Run(steps=3), "")


@pytest.mark.parametrize(
    ("words", "lines"),
    [
        ([], ["say what to do: launch.py train|generate|inspect --config=experiments/FILE.py"]),
        (["--port=2"], ["say what to do: launch.py train|generate|inspect --config=experiments/FILE.py"]),
        (["trian"], ["trian: no such verb; did you mean train?"]),
        (["Train"], ["Train: no such verb; did you mean train?"]),
        (["xyz", "--prt=1"], ["xyz: no such verb; train|generate|inspect",
                              "--prt: no such flag; did you mean --port?"]),
        (["train"], ["train needs --config=experiments/FILE.py or the --run_folder of an earlier run"]),
        (["train", "--config"], ["--config: needs a file, as --config=experiments/FILE.py",
                                 "train needs --config=experiments/FILE.py or the --run_folder of an earlier run"]),
        (["train", "--config", "{config}", "--run_foldr=x"], ["--run_foldr: no such flag; did you mean --run_folder?"]),
        (["train", "--confg={config}", "--config={config}"], ["--confg: no such flag; did you mean --config?"]),
        (["train", "--config={config}", "--confg.steps=1"], ["--confg.steps: no such flag; "
                                                             "did you mean --config.steps?"]),
        (["train", "--config={config}", "--steps.x=1"], ["--steps.x: no such flag; did you mean --config.steps.x?"]),
        (["train", "--config={config}", "--zzz", "1", "--port=2"], ["--zzz: no such flag"]),
        (["train", "--config={config}", "more"], ["more: not expected here; only the verb stands without --"]),
        (["train", "--config={config}", "--port=many"],
         ["flag --port=many: invalid literal for int() with base 10: 'many'"]),
        (["train", "--config={config}", "--config.stps=1", "--foo=2", "--config.fast=x", "--bar", "more"],
         ["--foo: no such flag", "--bar: no such flag",
          "--config.stps=1: no such field in Run; did you mean steps?", "--config.fast=x: expected true or false"]),
        (["train", "--run_folder=/nowhere"], ["/nowhere: holds no config.json; is it a run folder?"]),
    ],
)  # fmt: skip
def test_mistakes(values, config, words, lines):
    assert mistakes(values, *(word.replace("{config}", config) for word in words)) == lines


def test_a_wrong_verb_is_told_without_executing_the_configuration(values, tmp_path):
    file = tmp_path / "boom.py"
    file.write_text("raise SystemError('executed')\n")
    assert mistakes(values, "trian", f"--config={file}") == ["trian: no such verb; did you mean train?"]
    assert mistakes(values, "train", f"--config={file}") == [f"{file}:1: SystemError: executed"]


def test_start_comes_after_the_flags_and_before_the_configuration(values, tmp_path):
    file = tmp_path / "late.py"
    file.write_text("raise SystemError('executed')\n")
    ports = []
    with pytest.raises(ConfigError, match="executed"):
        read(["x", "train", f"--config={file}", "--port=9"], VERBS, values, lambda: ports.append(values.port))
    assert ports == [9]
    with pytest.raises(ConfigError, match="no such flag"):
        read(["x", "train", f"--config={file}", "--prt=9"], VERBS, values, lambda: ports.append(0))
    assert ports == [9]


def test_mistakes_go_to_standard_error_with_status_2(values, config, capsys):
    parse = parser(VERBS, values)
    with pytest.raises(SystemExit) as caught:
        parse(["launch.py", "train", f"--config={config}", "--config.stps=1"])
    assert caught.value.code == 2
    assert capsys.readouterr() == ("", "--config.stps=1: no such field in Run; did you mean steps?\n")
    with pytest.raises(ConfigError):
        parse(["launch.py", "train", f"--config={config}", "--config.stps=1", "--debug"])


def test_help(values, capsys):
    with pytest.raises(SystemExit) as caught:
        parser(VERBS, values)(["launch.py", "train", "--help"])
    assert not caught.value.code
    out = capsys.readouterr().out
    assert re.search(r"^  generate  continue text$", out, re.MULTILINE)
    assert "--config.model.depth=12" in out


def test_absl_sees_its_own_flags_only(values):
    assert parse_flags(["launch.py", "--port=4", "--nodebug"], values) == []
    assert values.port == 4


WORDS = {"compare": "RUN_FOLDER RUN_FOLDER ..."}
USAGE = "compare RUN_FOLDER RUN_FOLDER ..."


def worded(values, *words) -> Command:
    return read(["launch.py", "compare", *words], {**VERBS, "compare": "side by side"}, values, started, WORDS)


@pytest.mark.parametrize(
    "words",
    [("a", "b/c", "--port=3"), ("--port", "3", "a", "b/c"), ("a", "--port=3", "b/c"), ("--port=3", "--", "a", "b/c")],
)
def test_a_verb_may_take_words_in_place_of_a_configuration(values, words):
    command = worded(values, *words)
    assert (command.verb, command.words, values.port) == ("compare", ("a", "b/c"), 3)
    assert (command.spec, command.reference, command.given) == (Spec(), "", {})


@pytest.mark.parametrize(
    ("words", "lines"),
    [
        ([], [f"compare needs RUN_FOLDER: {USAGE}"]),
        (["--port=2"], [f"compare needs RUN_FOLDER: {USAGE}"]),
        (["a", "--prt=1"], ["--prt: no such flag; did you mean --port?"]),
        (["a", "--zzz", "1", "--port=x"], ["flag --port=x: invalid literal for int() with base 10: 'x'"]),
        (["a", "--config=b.py", "--config.steps=3", "--prt=1"],
         [f"--config: not expected here; compare takes no configuration: {USAGE}",
          f"--config.steps: not expected here; compare takes no configuration: {USAGE}",
          "--prt: no such flag; did you mean --port?"]),
        (["a", "--config"], [f"--config: not expected here; compare takes no configuration: {USAGE}"]),
    ],
)  # fmt: skip
def test_mistakes_of_a_verb_that_takes_words(values, words, lines):
    with pytest.raises(ConfigError) as caught:
        worded(values, *words)
    assert list(caught.value.lines) == lines


def test_other_verbs_take_no_words_still(values, config):
    with pytest.raises(ConfigError, match="more: not expected here; only the verb stands without --"):
        read(["launch.py", "train", f"--config={config}", "more"], VERBS, values, started, WORDS)


def test_help_shows_how_words_are_given(values, capsys):
    with pytest.raises(SystemExit):
        parser(VERBS, values, words=WORDS)(["launch.py", "--help"])
    assert f"python launch.py {USAGE} [--FLAG=VALUE ...]" in capsys.readouterr().out
