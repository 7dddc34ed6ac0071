"""Finding parts: those not imported yet, base classes, and the pieces of a list."""

import importlib
import re
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arch.layers.norms.common import Norm
from experiments.config import parts
from experiments.config.errors import place
from experiments.config.parts import UnfitError, split

BASE = """
import abc
import dataclasses
from arch.spec import Spec

@dataclasses.dataclass(frozen=True)
class Base(Spec, abc.ABC):
    @abc.abstractmethod
    def build(self): ...
"""
PART = """
import dataclasses
from {package}.base import Base

@dataclasses.dataclass(frozen=True)
class {name}(Base):
    def build(self):
        return 1
"""


@pytest.fixture
def package(tmp_path, request):
    name = re.sub(r"\W+", "_", f"config_package_{request.node.name}")
    for folder in (tmp_path / name, tmp_path / name / "deeper"):
        folder.mkdir()
        (folder / "__init__.py").touch()
    (tmp_path / name / "base.py").write_text(BASE)
    (tmp_path / name / "near.py").write_text(PART.format(package=name, name="Near"))
    (tmp_path / name / "deeper" / "far.py").write_text(PART.format(package=name, name="Far"))
    (tmp_path / name / "broken.py").write_text("import a_dependency_that_is_not_there\n")
    sys.path.append(str(tmp_path))
    return name


def test_parts_of_the_package_are_found_without_being_imported_before(package):
    base = importlib.import_module(f"{package}.base").Base
    assert f"{package}.deeper.far" not in sys.modules
    assert parts.find("Far", [base]).__module__ == f"{package}.deeper.far"


def test_a_module_that_cannot_be_imported_hides_no_other_and_bases_are_not_offered(package):
    base = importlib.import_module(f"{package}.base").Base
    with pytest.raises(UnfitError, match=r"^no such part; did you mean Near\? \(parts allowed: Far, Near\)$"):
        parts.find("Neer", [base])
    with pytest.raises(UnfitError, match="no such part"):
        parts.find("Base", [base])


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("{part}\n\nraise RuntimeError('half done')\n", r"broken_part\.py:9: RuntimeError: half done"),
        ("{part}\n\nclass Other(Base\n", r"broken_part\.py:9: SyntaxError: '\(' was never closed"),
        ("from {package}.base import Bass\n{part}", r"broken_part\.py:1: ImportError: cannot import name 'Bass' from"),
        ("import {package}.bass\n{part}", r"broken_part\.py:1: ModuleNotFoundError: No module named '{package}.bass'"),
        ("import {package}.helper\n{part}", r"helper\.py:2: NameError: name 'undefined' is not defined"),
        ("import not_installed\n{part}", r"broken_part\.py:1: ModuleNotFoundError: No module named 'not_installed'"),
    ],
    ids=["raises", "syntax", "name", "module", "helper", "dependency"],
)
def test_a_part_whose_module_is_broken_is_told_by_file_and_line(package, tmp_path, text, line):
    """Asked for by its name. Another name hears of it too, except of a dependency that is missing."""
    base = importlib.import_module(f"{package}.base").Base
    if "helper" in text:
        (tmp_path / package / "helper.py").write_text("# a helper\nundefined\n")
    part = PART.format(package=package, name="Fresh").strip()
    broken = tmp_path / package / "deeper" / "broken_part.py"
    broken.write_text(text.replace("{part}", part).replace("{package}", package))
    line = line.replace("{package}", package)
    where = f"^Fresh is in {package}.deeper.broken_part, which cannot be imported: \\S*{line}"
    with pytest.raises(UnfitError, match=where) as error:
        parts.find("Fresh", [base])
    assert "\n" not in str(error.value)
    assert parts.find("Near", [base]).__name__ == "Near", "what is found is found"
    with pytest.raises(UnfitError, match=r"^no such part; did you mean Near\?") as error:
        parts.find("Neer", [base])
    assert ("cannot be imported" in str(error.value)) == ("not_installed" not in text)
    assert "a_dependency_that_is_not_there" not in str(error.value)


def test_only_the_module_that_defines_the_name_is_imported(package):
    base = importlib.import_module(f"{package}.base").Base
    parts.find("Near", [base])
    assert f"{package}.near" in sys.modules
    assert f"{package}.deeper.far" not in sys.modules


def test_a_part_without_a_class_statement_is_found(package, tmp_path):
    base = importlib.import_module(f"{package}.base").Base
    space = "{'build': lambda self: 1, '__module__': __name__}"
    made = f"dataclasses.make_dataclass('Made', [], bases=(Base,), frozen=True, namespace={space})"
    text = f"import dataclasses\nfrom {package}.base import Base\nMade = {made}\n"
    (tmp_path / package / "made.py").write_text(text)
    assert parts.find("Made", [base]).__module__ == f"{package}.made"


def test_a_module_asked_for_by_name_is_told_by_file_and_line(package, tmp_path):
    base = importlib.import_module(f"{package}.base").Base
    (tmp_path / f"beside_{package}.py").write_text("x = 1\nx.y\n")
    line = rf"^module beside_{package} cannot be imported: \S*beside_{package}\.py:2: AttributeError: 'int' object"
    with pytest.raises(UnfitError, match=line):
        parts.find(f"beside_{package}:Part", [base])
    with pytest.raises(UnfitError, match=r"^module not_there cannot be imported: .*No module named 'not_there'$"):
        parts.find("not_there:Part", [base])


def test_the_real_parts_are_found_from_their_annotation():
    assert {"LayerNorm", "RMSNorm"} <= set(parts.parts([Norm]))
    assert "Norm" not in parts.parts([Norm])


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        ("", []),
        (" ", []),
        ("a", ["a"]),
        ("a,", ["a"]),
        ("a, b,c ", ["a", "b", "c"]),
        ("a,,b", ["a", "", "b"]),
        ("f(a,b),[c,d],{e,f}", ["f(a,b)", "[c,d]", "{e,f}"]),
        ("'a,b',\"c'(,d\"", ["'a,b'", '"c\'(,d"']),
        (r"'\',','\\'", [r"'\','", r"'\\'"]),
    ],
)
def test_split(text, pieces):
    assert split(text) == pieces


@pytest.mark.parametrize("text", ["(", "(]", "a)", "'a", "[(])"])
def test_split_refuses_what_is_not_closed(text):
    with pytest.raises(UnfitError):
        split(text)


values = st.recursive(st.integers() | st.text() | st.booleans(), lambda inner: st.lists(inner).map(tuple), max_leaves=9)


@given(st.lists(values))
def test_split_takes_a_list_as_python_writes_it_apart(items):
    assert split(", ".join(map(repr, items))) == list(map(repr, items))


def test_a_long_value_is_cut_and_a_typed_line_break_does_not_break_the_line():
    assert len(place("a.b", {}, "x" * 500)) < 80
    assert place("a", {"a": "x\ny"}) == "--config.a=x y"
