"""Plots as SVG: small files that are equal for equal figures, and as part of a page.

Text stays text, in a font that the reader has. Coordinates are in points and kept to a tenth of one, which is finer
than a screen shows. What Matplotlib repeats on every mark is said once.
"""

from __future__ import annotations

import html
import io
import re
from xml.etree import ElementTree

from matplotlib.figure import Figure

from experiments.study.report.style import GRID, INK, PAPER

FONT = "DejaVu Sans, Verdana, sans-serif"
_SVG = "{http://www.w3.org/2000/svg}"
_PLACES = {"d", "x", "y", "width", "height", "transform"}
_NUMBER = re.compile(r"-?\d+\.\d+")


def svg(figure: Figure) -> str:
    """The file. It holds no date, so that equal figures are equal files."""
    out = io.StringIO()
    figure.savefig(out, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    return small(out.getvalue())


def small(text: str) -> str:
    """An SVG file of Matplotlib that looks the same with fewer bytes."""
    ElementTree.register_namespace("", _SVG[1:-1])
    root = ElementTree.fromstring(text.replace("xlink:href", "href"))
    root.set("font-family", FONT)
    _shrink(root)
    _name_shortly(root)
    _say_once(root)
    return ElementTree.tostring(root, encoding="unicode").replace(" />", "/>").rstrip() + "\n"


def _shrink(node: ElementTree.Element) -> None:
    """Rounds, and leaves out groups and blanks that say nothing."""
    for name in _PLACES & node.attrib.keys():
        rounded = _NUMBER.sub(lambda number: f"{round(float(number[0]), 1) + 0.0:g}", node.attrib[name])
        node.set(name, " ".join(rounded.split()).replace(" L ", " "))  # lines go on as lines
    if re.match(r"rotate\(-?0 ", node.get("transform", "")):
        del node.attrib["transform"]
    if "style" in node.attrib:
        node.set("style", _style({name: value for name, value in _said(node).items() if name != "font-family"}))
    if node.tag == _SVG + "g":
        node.attrib.pop("id", None)  # nothing refers to a group
    children: list[ElementTree.Element] = []
    for child in node:
        _shrink(child)
        children += child if child.tag == _SVG + "g" and not child.attrib else [child]
    node[:] = children
    if not (node.text or "").strip():
        node.text = None
    node.tail = None if node.tag == _SVG + "tspan" else "\n"


def _name_shortly(root: ElementTree.Element) -> None:
    """Numbers what is referred to."""
    named = [node for node in root.iter() if "id" in node.attrib]
    short = {node.attrib["id"]: f"m{index}" for index, node in enumerate(named)}
    for node in named:
        node.set("id", short[node.attrib["id"]])
    for node in root.iter():
        for key in {"href", "clip-path"} & node.attrib.keys():
            node.set(key, re.sub(r"(?<=#)\w+", lambda name: short.get(name[0], name[0]), node.attrib[key]))


def _say_once(root: ElementTree.Element) -> None:
    """The style that all uses of a mark give it becomes the mark's own, which goes before."""
    uses: dict[str, list[ElementTree.Element]] = {}
    for use in root.iter(_SVG + "use"):
        uses.setdefault(use.attrib["href"][1:], []).append(use)
    for mark in root.iter(_SVG + "path"):
        mine = uses.get(mark.get("id", ""), [])
        if len({use.get("style") for use in mine}) == 1:
            mark.set("style", _style(_said(mine[0]) | _said(mark)))
            for use in mine:
                use.attrib.pop("style", None)


def _said(node: ElementTree.Element) -> dict[str, str]:
    """Property -> value, of a style."""
    pairs = (part.partition(":") for part in node.get("style", "").split(";") if part.strip())
    return {name.strip(): value.strip() for name, _, value in pairs}


def _style(said: dict[str, str]) -> str:
    return ";".join(f"{name}:{value}" for name, value in said.items())


def inline(text: str, name: str, title: str) -> str:
    """An SVG file as part of a page: its own names, the page's colours, nothing that points elsewhere."""
    body = re.sub(r'\sxmlns(:\w+)?="[^"]*"', "", text)
    body = re.sub(r'\b(id="|href="#|url\(#)', lambda match: f"{match[1]}{name}-", body)
    body = body.replace(INK, "currentColor").replace(PAPER, "transparent").replace(GRID, "var(--grid)")
    return body.replace("<svg ", f'<svg role="img" aria-label="{html.escape(title)}" ', 1)
