"""Run folders side by side: grouped by seed, named by what differs, refused where they do not compare."""

import dataclasses
import math
import statistics

import pytest
from rich.console import Console

from arch.layers.norms.common import LayerNorm
from arch.spec import Spec
from experiments.config import render
from experiments.config.errors import ConfigError
from experiments.config.overrides import Override, apply
from experiments.study.claims.verdicts import Verdict
from experiments.study.compare import changed, gather
from experiments.study.report.compare_table import compare, table
from experiments.study.results import Results
from tests.train import toys
from train.data.sources import LocalText
from train.data.text import Text
from train.data.tokenizers import BPE
from train.objectives.classification import Classification
from train.objectives.next_token import NextToken
from train.record.metrics import Metrics
from train.run import Logging, Run

BITS = "val/bits_per_byte"


def base(**fields) -> Run:
    data = Text(source=LocalText("never read.txt"), length=16)
    return dataclasses.replace(toys.run(model=toys.model(vocab=256), data=data, steps=4), **fields)


@pytest.fixture
def made(tmp_path):
    """`made(name, run, [bits per byte, ...])` -> its folder, with an evaluation every two steps."""

    def make(name: str, run: Spec, values=(3.0, 2.0), last: float = 1.0, **more) -> str:
        folder = tmp_path / name
        render.write(folder, run)
        with Metrics(folder, tensorboard=False) as metrics:
            for index, value in enumerate(values, start=1):
                done = index == len(values)
                speed = {"train/tokens_per_s": 5.0}
                metrics.write(2 * index, {"train/loss": last if done else 9.0 / index, **speed})
                metrics.write(2 * index, {"val/loss": value / 2, BITS: value} | more)
        return str(folder)

    return make


def lines(folders, metric=None) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        gather(folders, metric)
    return list(caught.value.lines)


def test_runs_that_differ_in_the_seed_are_repeats_of_one_arm(made):
    deep = apply(base(), [Override("model.depth", "1"), Override("optimizer.learning_rate", "1e-3")])
    folders = [made(f"a{seed}", base(seed=seed), (3.0, 2.0 + seed)) for seed in (0, 1, 2)]
    folders += [made(f"b{seed}", dataclasses.replace(deep, seed=seed), (3.0, 1.5 + seed)) for seed in (2, 1)]
    results, arms = gather(folders)
    assert [arm.name for arm in results.arms] == ["depth=3 lr=0.01", "depth=1 lr=1e-3"]
    assert {name: [run.folder for run in runs] for name, runs in arms.items()} == {
        "depth=3 lr=0.01": folders[:3],
        "depth=1 lr=1e-3": folders[3:],
    }
    assert results.values("depth=3 lr=0.01") == {0: 2.0, 1: 3.0, 2: 4.0}
    assert results.values("depth=1 lr=1e-3") == {2: 3.5, 1: 2.5}
    assert (results.metric, results.lower_is_better) == (BITS, True)
    assert changed(arms) == {"depth=1 lr=1e-3": ["model.depth: 3 -> 1", "optimizer.learning_rate: 0.01 -> 0.001"]}
    (verdict,) = (Verdict.from_plain(plain) for plain in results.verdicts)
    assert (verdict.n, verdict.estimate, verdict.verdict) == (2, 0.5, "undecided"), "two that agree are not certain"
    assert Results.from_json(results.to_json()).to_json() == results.to_json()


def test_an_arm_has_its_costs(made):
    wide = apply(base(), [Override("model.width", "64")])
    results, _ = gather([made("a", base()), made("b", wide)])
    narrow, wider = (arm.shape for arm in results.arms)
    assert narrow["parameters"] < wider["parameters"] < 4 * narrow["parameters"]
    assert narrow["total_flops"] == 4 * 8 * narrow["train_flops"]  # steps, rows
    assert (wider["width"], wider["steps"]) == (64, 4)


def test_a_cell_holds_what_was_measured(made):
    results, _ = gather([made("a", base(), (3.0, 1.0, 2.5)), made("b", base(seed=1), (3.0, 2.0))])
    first, second = results.cells
    assert first.metrics == {"train/loss": 1.0, "val/loss": 1.25, BITS: 2.5, f"best {BITS}": 1.0}
    assert [line for line in first.curve if BITS in line] == [
        {"step": 2 * index, "val/loss": value / 2, BITS: value} for index, value in enumerate((3.0, 1.0, 2.5), start=1)
    ]
    assert (first.status, first.seed, second.seed, second.learning_rate) == ("finished", 0, 1, 1e-2)


def test_parts_are_named_without_their_fields_and_other_reports_are_no_difference(made):
    changed_norm = apply(base(), [Override("model.block.norm", "LayerNorm")])
    assert isinstance(changed_norm.model.block.norm, LayerNorm)
    results, _ = gather([made("a", base()), made("b", changed_norm), made("c", base(seed=1, logging=Logging(log=7)))])
    assert [arm.name for arm in results.arms] == ["norm=RMSNorm", "norm=LayerNorm"]
    assert results.values("norm=RMSNorm") == {0: 2.0, 1: 2.0}
    assert results.verdicts == []


def test_equal_runs_with_equal_seeds_are_told_apart_by_their_folders(made):
    results, arms = gather([made("old", base()), made("new", base(), (3.0, 1.0))])
    assert [arm.name for arm in results.arms] == ["old", "new"]
    assert changed(arms) == {"new": []}
    assert gather([made("one", base())] * 2)[0].values("one") == {0: 2.0}


def test_diverged_and_unfinished_runs_are_noted(made):
    results, _ = gather([
        made("a", base()),
        made("b", base(seed=1), (3.0, 2.0), last=math.nan, **{"val/loss": math.nan, BITS: math.nan}),
        made("c", base(seed=2, steps=4), (3.0,)),
    ])  # fmt: skip
    assert [cell.status for cell in results.cells] == ["finished", "diverged", "finished"]
    assert results.cells[1].metrics[f"best {BITS}"] != results.cells[1].metrics[f"best {BITS}"]
    assert [note.rpartition("/")[2] for note in results.notes] == [
        "b: diverged at step 4 of 4",
        "c: is not finished, step 2 of 4; its metrics are of then",
    ]


def test_bits_per_byte_compare_across_tokenizers_and_losses_do_not(made):
    other = dataclasses.replace(base(), data=dataclasses.replace(base().data, tokenizer=BPE(300)))
    folders = [made("a", base()), made("b", other)]
    results, _ = gather(folders)
    assert [arm.name for arm in results.arms] == ["tokenizer=Bytes", "tokenizer=BPE"]
    assert results.notes == ["the runs differ in data.tokenizer; bits per byte are of the same text all the same"]
    (line,) = lines(folders, "val/loss")
    assert line.startswith(f"{folders[1]}: has other data than {folders[0]} (tokenizer: Bytes -> BPE; ")
    assert line.endswith(", so val/loss does not compare; val/bits_per_byte does")


def test_what_does_not_compare_is_refused_with_a_line_each(made, tmp_path):
    (tmp_path / "thesis").mkdir()
    render.write(tmp_path / "untrained", base())
    render.write(tmp_path / "part", toys.model())
    good = made("good", base())
    bad = [str(tmp_path / name) for name in ("thesis", "untrained", "part")]
    assert lines([good, *bad]) == [
        f"{bad[0]}: holds no config.json; is it a run folder?",
        f"{bad[1]}: has no validation metrics yet; train it first",
        f"{bad[2]}: holds a Decoder, not a run",
    ]
    elsewhere = made("elsewhere", base(data=Text(source=LocalText("other.txt"), length=16)))
    task = made("task", base(objective=Classification()))
    what, so = "source.files: never read.txt -> other.txt", f"so {BITS} does not compare"
    assert lines([good, elsewhere, task]) == [
        f"{elsewhere}: has other data than {good} ({what}), {so}",
        f"{task}: has another objective than {good} (objective: NextToken -> Classification), {so}",
    ]
    assert gather([good, made("z_loss", base(objective=NextToken(z_loss=1e-4)))])[0].arms[1].name == "z_loss=1e-4"
    assert lines([good], "val/accuracy") == [f"{good}: measures no val/accuracy; it has {BITS}, val/loss"]


def test_replicas_of_a_study_are_no_run(tmp_path):
    render.write(tmp_path, base())
    with Metrics(tmp_path, tensorboard=False) as metrics:
        metrics.write(1, {"val/loss": [1.0, 2.0]})
    assert lines([str(tmp_path)]) == [
        f"{tmp_path}: holds replicas side by side, a part of a study; see the study's own report"
    ]


def test_accuracy_is_better_when_higher(made):
    folders = [made("a", base(), **{"val/accuracy": 0.5}), made("b", base(seed=1), **{"val/accuracy": 0.7})]
    results, arms = gather(folders, "val/accuracy")
    assert not results.lower_is_better
    assert results.cells[0].metrics["best val/accuracy"] == 0.5
    console = Console(width=200, record=True, quiet=True)
    console.print(table(results, arms))


def test_the_terminal_shows_arms_runs_differences_and_verdict(made, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "160")
    shallow = apply(base(), [Override("model.depth", "1")])
    finals = {"depth=3": (2.0, 2.1, 2.05), "depth=1": (2.5, 2.61, 2.54)}
    folders = [made(f"a{seed}", base(seed=seed), (3.0, value)) for seed, value in enumerate(finals["depth=3"])]
    folders += [
        made(f"b{seed}", dataclasses.replace(shallow, seed=seed), (2.4, value))
        for seed, value in enumerate(finals["depth=1"])
    ]
    results = compare(folders)
    out = capsys.readouterr().out
    for name, values in finals.items():
        (row,) = [line for line in out.splitlines() if line.strip().startswith(f"{name} ") and " 4 " in line]
        assert f"{statistics.fmean(values):.4f}" in row
        assert " 3 " in row
    for folder in folders:
        assert folder in out
    assert "depth=1, against depth=3:\n  model.depth: 3 -> 1" in out
    assert f"{results.verdicts[0]['verdict']}: depth=1 is better than depth=3" in out
    assert results.verdicts[0]["verdict"] == "not supported"
    assert "improvement -0.5000, " in out
    assert " 2.4000\n" in out  # the best of depth=1 came before its end
    compare([folders[0], folders[3]])
    assert "One seed says nothing about the noise" in capsys.readouterr().out


def test_the_report_is_written_where_it_is_asked_for(made, tmp_path, capsys):
    shallow = apply(base(), [Override("model.depth", "1")])
    results = compare([made("a", base()), made("b", shallow, (3.0, 2.5))], str(tmp_path / "out"))
    assert str(tmp_path / "out" / "report.html") in capsys.readouterr().out
    page = (tmp_path / "out" / "report.html").read_text()
    assert all(arm.name in page for arm in results.arms)
    assert Results.from_json((tmp_path / "out" / "results.json").read_text()).to_json() == results.to_json()
