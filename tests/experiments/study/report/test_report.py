"""The report against the numbers that it was made from."""

import base64
import csv
import dataclasses
import io
import math
import re

import numpy as np
import pytest
from rich.console import Console

from experiments.study.claims.claims import Best
from experiments.study.claims.judge import judge_all
from experiments.study.report import page as pages
from experiments.study.report import tables
from experiments.study.report.plot import MOST, drawn, left_out
from experiments.study.report.plots import plots
from experiments.study.report.report import terminal_table, write_report
from experiments.study.report.style import look, style
from experiments.study.report.table import Table
from experiments.study.results import Results
from experiments.study.sweeps.rates import rates
from tests.experiments.study import fake
from tests.experiments.study.report.html import Page


@pytest.fixture(scope="module")
def page(text) -> Page:
    return Page(text)


def test_the_page_is_well_formed(page):
    assert page.open == []
    assert len(page.ids) == len(set(page.ids)), "ids are unique over all plots"
    inside = [link[1:] for link in page.links if link.startswith("#")]
    assert set(inside) <= set(page.ids), "every link within the page leads somewhere"


def test_the_page_needs_nothing_else(text, page):
    assert all(link.startswith(("#", "data:")) for link in page.links)
    assert not re.search(r"https?://|@import|url\((?!#)", text)
    assert "script" not in page.tags


def test_the_page_holds_every_number(results, page):
    words = " ".join(page.words)
    numbers = (tables.matched(results), tables.finals(results), rates(results), tables.paper(results))
    for table in (*numbers, tables.provenance(results)):
        for cell in (cell for row in table.cells() for cell in row):
            assert cell in words
    for fields in results.verdicts:
        assert fields["claim"] in words
        assert fields["verdict"] in words


def test_text_is_escaped(text):
    assert "Text with &lt;b&gt;marks&lt;/b&gt; &amp; signs stays text." in text


def test_sections_are_in_order(page):
    wanted = ["verdicts", "arms", "results", "curves", "sweep", "shape", "cost", "diagnostics", "paper", "notes"]
    assert [name for name in page.ids if name in {*wanted, "provenance", "data"}] == [*wanted, "provenance", "data"]


def test_embedded_csv_is_the_data(results, folder, text):
    found = dict(re.findall(r'download="(\w+)\.csv" href="data:text/csv;charset=utf-8;base64,([^"]+)"', text))
    read = {name: base64.b64decode(packed).decode() for name, packed in found.items()}
    for name, said in read.items():
        assert said == (folder / "tables" / f"{name}.csv").read_text(encoding="utf-8")
    cells = list(csv.DictReader(io.StringIO(read["cells"])))
    assert len(cells) == len(results.cells)
    for row, cell in zip(cells, results.cells, strict=True):
        assert (row["arm"], int(row["seed"]), float(row["learning_rate"])) == (cell.arm, cell.seed, cell.learning_rate)
        assert {name: float(row[name]) for name in cell.metrics} == dict(cell.metrics), "in full precision"
    layers = list(csv.DictReader(io.StringIO(read["diagnostics"])))
    assert len(layers) == sum(len(values) for cell in results.cells for values in cell.diagnostics.values())
    steps = list(csv.DictReader(io.StringIO(read["curves"])))
    assert len(steps) == sum(len(cell.curve) for cell in results.cells)
    assert set(read) >= {"summary", "verdicts", "arms", "results", "paper", "provenance"}


def test_final_table_is_what_was_measured(results):
    rows = {row[0]: row for row in tables.finals(results).rows}
    one = list(results.values("depth 1").values())
    assert rows["depth 1"][3] == pytest.approx(np.mean(one))
    assert rows["depth 8"][1:3] == (3, 1)
    best = list(results.values("depth 4").values())
    assert rows["depth 1"][8] == pytest.approx(np.mean(one) - np.mean(best)), "to the best arm that never diverged"


def test_plots_are_written_as_png_and_svg(folder):
    names = {path.stem for path in (folder / "plots").glob("*.svg")}
    assert names == {path.stem for path in (folder / "plots").glob("*.png")}
    assert {"results", "curve_train_loss", "learning_rates", "depth_width", "cost_parameters"} <= names
    assert "diagnostic_residual_rms" in names
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in (folder / "plots").glob("*.png"))


def test_equal_results_give_equal_bytes(results, folder, tmp_path):
    write_report(Results.from_json(results.to_json()), tmp_path)
    first = {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    second = {path.relative_to(tmp_path): path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert first == second


def test_of_many_arms_those_of_claims_and_the_best_are_drawn():
    many = fake.results({f"arm {n}": (2 + n / 100, 2 + n / 100) for n in range(30)})
    worst = dataclasses.replace(many, verdicts=[{"claim": "arm 29 is better than arm 28"}])
    chosen = [f"arm {n}" for n in range(MOST - 2)]
    assert drawn(worst) == [*chosen, "arm 28", "arm 29"], "arm 2 is not named by arm 29"
    assert f"Of 30 arms {MOST} are drawn" in left_out(worst)
    assert drawn(dataclasses.replace(many, lower_is_better=False))[0] == f"arm {30 - MOST}"
    few = fake.results({"a": (1.0,), "b": (2.0,)})
    assert (drawn(few), left_out(few)) == (["a", "b"], "")


def test_a_large_table_lies_beside_the_page():
    table = Table("curves", ("value",), tuple((n,) for n in range(50_000)))
    assert len(table.csv()) > pages.EMBEDDED
    assert 'href="tables/curves.csv"' in pages._download(table)
    assert "base64," in pages._download(Table("curves", ("value",), ((1,),)))


@pytest.mark.slow
def test_a_page_of_200_arms_is_small(tmp_path):
    path = write_report(fake.study(depths=tuple(range(1, 201))), tmp_path)
    assert path.stat().st_size < 2e6


@pytest.mark.parametrize(
    "found",
    [
        fake.results({"a": [1.0]}),
        fake.results({"a": [1.0, math.nan], "b": [math.nan, math.nan]}),
        fake.results({"_$x^2$": [1.0, 1.0], "[b]<i>": [2.0, 2.0]}, lower=False, notes=["<script>"]),
        fake.results({}),
        fake.study(depths=(3,), seeds=1),
    ],
    ids=["one seed", "diverged", "odd names", "nothing", "one arm"],
)
def test_whatever_is_missing_is_left_out(found, tmp_path):
    claims = [Best(arm.name) for arm in found.arms]
    found = dataclasses.replace(found, verdicts=[verdict.plain() for verdict in judge_all(claims, found)])
    page = Page(write_report(found, tmp_path).read_text(encoding="utf-8"))
    assert page.open == []
    assert "script" not in page.tags
    words = " ".join(page.words)
    assert all(arm.name in words for arm in found.arms)
    Console(file=io.StringIO()).print(terminal_table(found))


def test_many_arms_look_different():
    looks = [(str(kind["color"]), str(kind["linestyle"])) for kind in map(look, range(24))]
    assert len(set(looks)) == 24
    with style():
        found = list(plots(fake.results({f"arm number {index}": [1.0 + index, 1.1 + index] for index in range(24)})))
    assert found[0].figure.get_figheight() > 6
