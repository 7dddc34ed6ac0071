"""The report against the numbers that it was made from, and in a browser."""

import base64
import csv
import dataclasses
import io
import json
import math
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from experiments.study.claims.claims import AtMost, Best, Better, Equivalent, NoWorse, RatioBelow
from experiments.study.claims.judge import judge_all
from experiments.study.report import page as pages
from experiments.study.report import tables
from experiments.study.report.plot import MOST, drawn, left_out, slug
from experiments.study.report.plots import plots
from experiments.study.report.report import terminal_table, write_report
from experiments.study.report.style import look, style
from experiments.study.report.table import Table, short
from experiments.study.results import Results
from experiments.study.sweeps.rates import rates
from tests.experiments.study import fake

CLAIMS = (
    Better("depth 4", "depth 1"),
    NoWorse("depth 2", "depth 4", 0.02),
    Equivalent("depth 1", "depth 2", 0.2),
    Best("depth 4"),
    RatioBelow("depth 1", "depth 4", "diagnostics/residual_rms[-1]", 0.35),
    AtMost("depth 8", "val/loss", 2.0),
)
STORED = sorted((Path(__file__).parents[4] / "experiments" / "results").glob("*/results.json"))
VOID = {"meta", "link", "br", "img", "input", "hr"}


HOSTILE = "</p>'\"><script>alert(1)</script>"
WORDS = ("tune", "seeds", "finished", "diverged", "test", "validation", "", "nan", "inf", "-inf")


class Page(HTMLParser):
    """Collects text, links and ids, and checks that tags are closed in order."""

    def __init__(self, text: str):
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.tags: list[str] = []
        self.words: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.open += [] if tag in VOID else [tag]
        self.ids += [value for name, value in attrs if name == "id"]
        self.links += [value for name, value in attrs if name in ("href", "src")]

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)


@pytest.fixture(scope="module")
def results() -> Results:
    found = fake.study(diverged=[(8, 1)])
    return dataclasses.replace(found, verdicts=[verdict.plain() for verdict in judge_all(CLAIMS, found)])


@pytest.fixture(scope="module")
def folder(results, tmp_path_factory) -> Path:
    at = tmp_path_factory.mktemp("report")
    assert write_report(results, at) == at / "report.html"
    return at


@pytest.fixture(scope="module")
def text(folder) -> str:
    return (folder / "report.html").read_text(encoding="utf-8")


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


def test_terminal_table(results):
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(terminal_table(results))
    said = console.export_text()
    for row in tables.summary(results).rows:
        assert all(short(value) in said for value in row)
    assert max(map(len, said.splitlines())) <= 80
    for fields in results.verdicts:
        role = "" if fields["role"] == "secondary" else f", {fields['role']}"
        assert f"\n{fields['verdict']}{role}: {fields['claim'][:20]}" in said


def seen(found: Results, width: int = 80) -> list[str]:
    """The summary in a terminal."""
    console = Console(width=width, record=True, file=io.StringIO())
    columns = tables.summary(found).columns
    console.print(tables.summary(found).rich(whole=[columns.index("95% interval")]))
    return console.export_text().splitlines()


def test_columns_that_say_the_same_are_left_out_of_the_summary():
    """An arm has many counts of one thing; the table of the arms has all of them."""
    found = fake.study()
    shape = lambda arm: {"hidden": 9 * arm.shape["depth"], "body": arm.shape["parameters"] - 99, "same": 3} | arm.shape  # noqa: E731
    more = [dataclasses.replace(arm, shape={**shape(arm), "again": arm.shape["width"]}) for arm in found.arms]
    said = tables.summary(dataclasses.replace(found, arms=more))
    assert said.columns[:4] == ("arm", "parameters without embeddings and head", "depth", "width")
    assert not {"parameters", "hidden", "again", "same"} & set(said.columns)
    assert "parameters" in tables.summary(found).columns


@pytest.mark.parametrize("file", STORED, ids=lambda file: file.parent.name)
def test_tables_of_real_studies_fit_a_terminal(file):
    found = Results.from_json(file.read_text())
    body = [dataclasses.replace(arm, shape={"body": arm.shape["parameters"] - 99, **arm.shape}) for arm in found.arms]
    for one in (found, dataclasses.replace(found, arms=body)):
        said = seen(one)
        assert max(map(len, said)) <= 80
        assert "parameters without embeddings" not in tables.summary(one).columns
        assert "…" not in "".join(said)
        numbers = [short(value) for row in tables.summary(one).rows for value in row[1:]]
        assert all(number in "\n".join(said) for number in numbers)


def test_names_fold_where_it_is_narrow_and_numbers_do_not():
    found = fake.study()
    said = seen(found, width=56)
    assert max(map(len, said)) <= 56
    numbers = [short(value) for row in tables.summary(found).rows for value in row[1:]]
    assert all(number in "\n".join(said) for number in numbers)


def test_a_long_name_folds_and_no_number_is_cut():
    found = fake.results({"an arm of many words " * 5: [1.25, 1.75], "b" * 90: [2.25, 2.75]})
    said = seen(found)
    assert max(map(len, said)) <= 80
    assert "…" not in "".join(said)
    assert all(number in "".join(said) for number in ("1.5", "2.5", tables.summary(found).rows[0][-1]))


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


BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)


@pytest.mark.skipif(BROWSER is None, reason="no chromium or chrome on the path")
@pytest.mark.parametrize("width", [390, 1280])
def test_in_a_browser_nothing_overflows(text, tmp_path, width):
    """At a phone's width and a desktop's the page is no wider than its window, and the console is silent.

    The page tells its widths to the page that frames it: a browser's own window is never as narrow as a phone.
    """
    probe = "<script>parent.postMessage([innerWidth, document.documentElement.scrollWidth], '*')</script>"
    (tmp_path / "page.html").write_text(text.replace("</body>", probe + "</body>"), encoding="utf-8")
    frame = f"""<!doctype html><script>onmessage = e => document.documentElement.dataset.seen = e.data</script>
        <iframe src="page.html" style="border: 0; width: {width}px; height: 900px"></iframe>"""
    (tmp_path / "frame.html").write_text(frame, encoding="utf-8")
    command = [str(BROWSER), "--headless=new", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr"]
    command += [f"--user-data-dir={tmp_path / 'profile'}", "--window-size=1400,900", "--virtual-time-budget=5000"]
    done = subprocess.run(
        [*command, "--dump-dom", (tmp_path / "frame.html").as_uri()], capture_output=True, text=True, timeout=60
    )
    seen = re.search(r'data-seen="(\d+),(\d+)"', done.stdout)
    assert seen, done.stderr
    assert int(seen[1]) == width
    assert int(seen[2]) <= width
    assert "CONSOLE" not in done.stderr


def hostile(value):
    """Every text of plain results with a script in it, but for the words that have a meaning."""
    if isinstance(value, list):
        return [hostile(one) for one in value]
    if isinstance(value, dict):
        kept = ("metric", "lower_is_better", "tuned_by", "judged_on", "level")
        return {key: one if key in kept else hostile(one) for key, one in value.items()}
    return value + HOSTILE if isinstance(value, str) and value not in WORDS else value


def test_results_that_somebody_sent_bring_no_script_into_the_page():
    """Names, notes, verdicts and what they are called are text, whatever is in them; so is what is named by them."""
    cells = fake.study((1, 4))
    verdicts = [one.plain() for one in judge_all(CLAIMS[:1], cells)]
    cells = dataclasses.replace(cells, verdicts=verdicts, paper=[{"what": "a"}], provenance={"git": "b"}, notes=["c"])
    text = pages.page(Results.from_json(json.dumps(hostile(json.loads(cells.to_json())))), [])
    assert HOSTILE not in text
    assert Page(text).tags == Page(pages.page(cells, [])).tags
    assert slug(f"val/../{HOSTILE}").replace("_", "").isalnum()
