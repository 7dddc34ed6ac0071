"""Plots as SVG: what Matplotlib drew, in fewer bytes."""

import re
from xml.etree import ElementTree

import pytest

from experiments.study.report import svg as files
from experiments.study.report.plots import plots
from experiments.study.report.report import write_kept
from experiments.study.report.style import axes, style
from experiments.study.report.svg import svg
from experiments.study.results import Results
from tests.experiments.study import fake

SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture(scope="module")
def pairs():
    """What Matplotlib wrote, and what it became, for every plot."""
    small = files.small
    with style(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(files, "small", lambda text: text)
        wholes = [svg(plot.figure) for plot in plots(fake.study())]
    return [(whole, small(whole)) for whole in wholes]


def parts(text, tag):
    return list(ElementTree.fromstring(text).iter(SVG + tag))


def placed(text):
    """Where each mark stands."""
    return [(float(use.get("x", 0)), float(use.get("y", 0))) for use in parts(text, "use")]


def test_half_of_the_bytes(pairs):
    assert sum(len(small) for _, small in pairs) < 0.5 * sum(len(whole) for whole, _ in pairs)


def test_everything_is_still_there(pairs):
    for whole, small in pairs:
        for tag in ("path", "use", "text", "tspan", "clipPath", "image"):
            assert len(parts(small, tag)) == len(parts(whole, tag)), tag
        assert ["".join(text.itertext()).strip() for text in parts(small, "text")] == [
            re.sub(r"\s+", "", "".join(text.itertext())) if len(text) else text.text for text in parts(whole, "text")
        ]
        assert all(
            one == pytest.approx(other, abs=0.051) for one, other in zip(placed(small), placed(whole), strict=True)
        )


def numbers(path):
    return [float(number) for number in re.findall(r"-?[\d.]+", path.get("d"))]


def test_lines_go_where_they_went(pairs):
    for whole, small in pairs:
        for one, other in zip(parts(small, "path"), parts(whole, "path"), strict=True):
            assert numbers(one) == pytest.approx(numbers(other), abs=0.051)
            assert all(re.fullmatch(r"-?\d+(\.\d)?", number) for number in re.findall(r"-?[\d.]+", one.get("d")))


def test_colours_of_marks_are_those_of_their_uses(pairs):
    """A use without a style has that of what it refers to."""

    def colours(text):
        marks = {path.get("id"): path for path in parts(text, "path")}
        found = []
        for use in parts(text, "use"):
            mark = marks[(use.get("href") or use.get("{http://www.w3.org/1999/xlink}href"))[1:]]
            styles = f"{use.get('style') or ''};{mark.get('style') or ''}".replace(" ", "")
            found.append(dict(part.split(":") for part in styles.split(";") if part))
        return found

    for whole, small in pairs:
        assert colours(small) == colours(whole)


def test_references_lead_somewhere(pairs):
    for _, small in pairs:
        ids = set(re.findall(r'\bid="(\w+)"', small))
        used = set(re.findall(r'href="#(\w+)"|url\(#(\w+)\)', small))
        assert {one or other for one, other in used} <= ids


def test_text_is_text_and_comes_through():
    names = ["a & b", "x < 1.23456", 'd="1.23456"', " L ", "$10^{-3}$", "1.23456"]
    with style():
        figure, panel = axes()
        panel.set_yticks(range(len(names)), [name.replace("$", r"\$") for name in names])
        shown = [text.text for text in parts(svg(figure), "text")]
    assert {name.strip() for name in names} <= {text.strip() for text in shown if text}


def test_a_repository_keeps_numbers_tables_and_small_plots(tmp_path):
    found = fake.study()
    write_kept(found, tmp_path)
    names = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()}
    assert {"results.json", "tables/rates.csv", "plots/learning_rates.svg", "plots/results.svg"} <= names
    assert {name.rpartition(".")[2] for name in names} == {"json", "csv", "svg"}
    assert Results.from_json((tmp_path / "results.json").read_text()).to_json() == found.to_json()
    assert sum(path.stat().st_size for path in (tmp_path / "plots").iterdir()) < 150_000
