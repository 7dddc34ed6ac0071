import dataclasses
import hashlib
import subprocess
import sys

import pytest

from arch.spec import UserError
from tests.train.data.conftest import write_wheel
from train.data import fetch

PACKAGE = fetch.Package("small-thing", "1.2", "small_thing-1.2-py3-none-any.whl", 0, "", "none")
INFO = "small_thing-1.2.dist-info/"
MEMBERS = {
    INFO + "METADATA": "Metadata-Version: 2.1\nName: small-thing\nVersion: 1.2\n",
    INFO + "WHEEL": "Wheel-Version: 1.0\nGenerator: x\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    INFO + "RECORD": "",
    "small_thing/data.txt": "hello",
}


@pytest.fixture
def shelf(tmp_path):
    folder = tmp_path / "shelf"
    folder.mkdir()
    path = write_wheel(folder, PACKAGE.file, MEMBERS)
    content = path.read_bytes()
    return folder, dataclasses.replace(PACKAGE, size=len(content), sha256=hashlib.sha256(content).hexdigest())


@pytest.fixture
def offline(monkeypatch, tmp_path):
    """pip finds nothing but what a test puts into the folder returned."""
    links = tmp_path / "links"
    links.mkdir()
    for name in ("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(links))
    return links


def one_line(error):
    assert "\n" not in str(error.value)
    return str(error.value)


def test_pip_fetches_once_into_the_cache(shelf, offline, cache_folder, monkeypatch):
    folder, package = shelf
    (folder / package.file).rename(offline / package.file)
    seen = []
    path = fetch.fetch(package, progress=lambda *report: seen.append(report))
    assert cache_folder in path.parents
    assert fetch.member(path, "small_thing/data.txt") == b"hello"
    assert seen[-1] == ("fetch small-thing 1.2", package.size, package.size)
    monkeypatch.setattr(subprocess, "Popen", None)
    assert fetch.fetch(package) == path


def test_a_damaged_file_in_the_cache_is_fetched_again(shelf, offline):
    folder, package = shelf
    (folder / package.file).rename(offline / package.file)
    path = fetch.fetch(package)
    path.write_bytes(path.read_bytes()[:100])
    assert len(fetch.fetch(package).read_bytes()) == package.size


def test_no_index(shelf, offline, cache_folder):
    with pytest.raises(UserError) as error:
        fetch.fetch(shelf[1])
    line = one_line(error)
    assert "cannot fetch small_thing-1.2-py3-none-any.whl" in line
    assert "pip download --no-deps small-thing==1.2" in line
    assert "STRATA_SOURCES" in line
    assert not list((cache_folder / "sources").glob("small*"))


def test_no_network(shelf, offline, monkeypatch):
    monkeypatch.delenv("PIP_NO_INDEX")
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")  # a port that refuses
    assert fetch._pip_download(shelf[1], offline, lambda *report: None) == "no package index could be reached"


def test_without_pip_the_line_says_so(shelf, monkeypatch, tmp_path):
    python = tmp_path / "python"
    python.write_text('#!/bin/sh\necho "No module named pip" >&2\nexit 1\n')
    python.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(python))
    with pytest.raises(UserError, match="No module named pip"):
        fetch.fetch(shelf[1])


def test_the_second_try_can_succeed(shelf, monkeypatch):
    folder, package = shelf
    answers = iter(["connection reset", ""])

    def pip(package, target, progress):
        (target / package.file).write_bytes((folder / package.file).read_bytes())
        return next(answers)

    monkeypatch.setattr(fetch, "_pip_download", pip)
    assert fetch.fetch(package).is_file()
    assert next(answers, None) is None


def test_a_served_file_with_a_wrong_hash_is_refused(shelf, offline, cache_folder):
    folder, package = shelf
    (folder / package.file).rename(offline / package.file)
    with pytest.raises(UserError) as error:
        fetch.fetch(dataclasses.replace(package, sha256="0" * 64))
    assert "not the pinned 0000000000000000" in one_line(error)
    assert not list((cache_folder / "sources").glob("small*"))


@pytest.mark.parametrize("setting", ["STRATA_SOURCES", "folder"])
def test_a_local_folder_takes_the_place_of_the_index(shelf, setting, monkeypatch):
    folder, package = shelf
    monkeypatch.setattr(subprocess, "Popen", None)

    def get():
        return fetch.fetch(package, str(folder) if setting == "folder" else None)

    if setting == "STRATA_SOURCES":
        monkeypatch.setenv(setting, str(folder))
    path = get()
    assert path == folder / package.file
    whole = path.read_bytes()

    path.write_bytes(whole[:-50])
    with pytest.raises(UserError, match=f"bytes where the pinned file has {package.size}: cut short") as error:
        get()
    one_line(error)

    path.write_bytes(whole[:-1] + b"x")
    with pytest.raises(UserError, match=r"SHA-256 .*, not the pinned .*: damaged"):
        get()

    path.unlink()
    with pytest.raises(UserError, match=f"{setting}=.*holds no small_thing-1.2-py3-none-any.whl; put it there"):
        get()


def test_a_file_that_is_no_wheel(tmp_path):
    path = tmp_path / "x.whl"
    path.write_bytes(b"not a zip file")
    with pytest.raises(UserError, match=r"x\.whl is damaged"):
        fetch.member(path, "a")


def test_a_wheel_without_the_member(shelf):
    folder, package = shelf
    with pytest.raises(UserError, match="holds no other/file"):
        fetch.member(folder / package.file, "other/file")


def test_the_registry_is_pinned_in_full():
    for package in fetch.PACKAGES.values():
        assert len(package.sha256) == 64
        assert package.file.startswith(package.name.replace("-", "_") + "-" + package.version)
        assert package.size > 10**6
        assert package.licence
