"""Which modules the code of a run is: those of the project and of the user's files, by name, wherever they are."""

import importlib
import importlib.util
import sys

import pytest

from train.record import code


def test_packages_are_followed_by_name(mine, tmp_path):
    """A package that brings together brings only what is asked for; relative imports are followed."""
    package = tmp_path / "mine_package"
    package.mkdir()
    (package / "__init__.py").write_text("from .one import A\nfrom .two import B\nfrom . import three\n")
    for name, source in {
        "one": "A = 1",
        "two": "from .three import C\nB = C",
        "three": "C = 3",
        "four": "D = 4",
    }.items():
        (package / f"{name}.py").write_text(source + "\n")

    def follow(source: str) -> set[str]:
        mine("mine_root", source)
        found = code.code(frozenset({"mine_root"}))
        return {name.removeprefix("mine_package.") for name in found if name.startswith("mine_package")}

    assert follow("from mine_package import A") == {"mine_package", "one"}
    assert follow("from mine_package import B as X") == {"mine_package", "two", "three"}
    assert follow("from mine_package import four") == {"mine_package", "four"}
    assert follow("import mine_package") == {"mine_package", "one", "two", "three"}
    assert follow("from mine_package import *") == {"mine_package", "one", "two", "three"}
    assert follow("def f():\n    import mine_package.two as t") == {"mine_package", "two", "three"}
    assert follow("def f():\n    import mine_not_there") == set()


def packages(folder, *files):
    for file, source in files:
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).write_text(source)


def test_folders_without_an_init_are_followed(mine, tmp_path):
    """Also two deep, where nothing has imported the upper one."""
    packages(tmp_path, ("mine_spaces/a/b/deep.py", "from . import beside\n"), ("mine_spaces/a/b/beside.py", "X = 1\n"))
    mine("mine_lazily", "def build():\n    from mine_spaces.a.b.deep import beside\n")
    found = code.code(frozenset({"mine_lazily"}))
    assert {"mine_spaces.a.b.deep", "mine_spaces.a.b.beside"} <= set(found)
    assert not {"mine_spaces", "mine_spaces.a"} & set(sys.modules)


@pytest.mark.parametrize("installed", [False, True])
def test_packages_that_pip_put_beside_are_not_followed(mine, tmp_path, installed):
    """As by `pip install --target`, in whatever folder."""
    packages(tmp_path / "mine_target", ("mine_package/__init__.py", "from . import inner\n"))
    packages(tmp_path / "mine_target", ("mine_package/inner.py", "X = 1\n"))
    if installed:
        packages(tmp_path / "mine_target", ("mine_package-1.0.dist-info/METADATA", "Name: mine_package\n"))
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(tmp_path / "mine_target"))
        mine("mine_user", "import mine_package\n")
        code._holds_packages.cache_clear()
        found = code.code(frozenset({"mine_user"}))
    assert ("mine_package.inner" in found) is not installed


def test_the_modules_that_are_named_exist():
    """Whoever moves a module is told to change them."""
    for name in (*code.STEP, *code.NO_NUMBERS):
        assert importlib.util.find_spec(name) is not None, name
