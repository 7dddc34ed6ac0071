"""`from experiments import NAME`: every public name, loaded on use; what is not there is answered with what is."""

import subprocess
import sys

import pytest

import experiments
from experiments.config import public
from experiments.config.errors import ConfigError
from experiments.config.load import ROOT, load
from train.record import code


def test_the_lists_say_what_the_code_says():
    assert public.stale() == [], "make golden writes them"


def test_a_name_is_what_its_module_has():
    from arch.models.decoder import Decoder
    from experiments.study.match import match

    assert experiments.Decoder is Decoder
    assert experiments.match is match
    assert {"Decoder", "Run", "Study", "Better"} <= set(dir(experiments))
    assert "Linear" not in experiments.public(), "two rooms have one"
    with pytest.raises(AttributeError, match="no name 'Decodr'"):
        _ = experiments.Decodr


def test_nothing_is_loaded_before_it_is_used():
    said = "import sys, experiments; dir(experiments); print({'jax', 'flax', 'train', 'arch'} & {*sys.modules})"
    done = subprocess.run([sys.executable, "-c", said], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("get_config = lambda form: Run()", r"NameError: .*; it is there by: from experiments import Run$"),
        (
            "from experiments import Decodr",
            r"ImportError: .*; did you mean Decoder\? \(from experiments import Decoder\)$",
        ),
        ("get_config = lambda form: qqzzqq", r"NameError: name 'qqzzqq' is not defined$"),
    ],
    ids=["a public name", "nearly one", "none"],
)
def test_a_name_that_is_not_there(tmp_path, text, said):
    (tmp_path / "mine.py").write_text(text)
    with pytest.raises(ConfigError, match=r"mine\.py:1: " + said):
        load(str(tmp_path / "mine.py"))


def test_the_code_of_a_part_is_followed_through_the_list(tmp_path, monkeypatch):
    (tmp_path / "part_by_list.py").write_text("from experiments import ScaledNorm\n\nclass Mine(ScaledNorm): ...\n")
    monkeypatch.syspath_prepend(tmp_path)
    found = code.code(frozenset({"part_by_list"}))
    assert "arch.blocks.depth_scaled" in found
    assert "arch.bottlenecks.codebook" not in found, "of the list one name counts"
