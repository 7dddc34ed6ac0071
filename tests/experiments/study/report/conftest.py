"""The report of a study with a verdict of each kind and an arm that diverged."""

import dataclasses
from pathlib import Path

import pytest

from experiments.study.claims.claims import AtMost, Best, Better, Equivalent, NoWorse, RatioBelow
from experiments.study.claims.judge import judge_all
from experiments.study.report.report import write_report
from experiments.study.results import Results
from tests.experiments.study import fake

CLAIMS = (
    Better("depth 4", "depth 1"),
    NoWorse("depth 2", "depth 4", 0.02),
    Equivalent("depth 1", "depth 2", 0.2),
    Best("depth 4"),
    RatioBelow("depth 1", "depth 4", "diagnostics/residual_rms[-1]", 0.35),
    AtMost("depth 8", "val/loss", 2.0),
)


@pytest.fixture(scope="session")
def results() -> Results:
    found = fake.study(diverged=[(8, 1)])
    return dataclasses.replace(found, verdicts=[verdict.plain() for verdict in judge_all(CLAIMS, found)])


@pytest.fixture(scope="session")
def folder(results, tmp_path_factory) -> Path:
    at = tmp_path_factory.mktemp("report")
    assert write_report(results, at) == at / "report.html"
    return at


@pytest.fixture(scope="session")
def text(folder) -> str:
    return (folder / "report.html").read_text(encoding="utf-8")
