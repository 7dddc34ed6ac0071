import dataclasses
import hashlib
import shutil
import subprocess

import pytest

from arch.spec import UserError
from tests.train.data.debs import write_deb
from train.data import debian
from train.data.debian import DebianPackage, deb_files, fetch_deb

PACKAGE = DebianPackage("small-thing", "1.2-1", "s/small-thing", "", "none")
MEMBERS = {"usr/share/a.txt": b"alpha", "usr/share/b/c.html": "é".encode(), "usr/lib/d.so": b"no"}


@pytest.fixture
def shelf(tmp_path):
    path = write_deb(tmp_path / "shelf", PACKAGE.file, MEMBERS)
    return path, dataclasses.replace(PACKAGE, sha256=hashlib.sha256(path.read_bytes()).hexdigest())


@pytest.fixture
def apt(tmp_path, monkeypatch):
    """An apt-get that does what a test writes into the file returned, and a mirror that refuses."""
    tools = tmp_path / "tools"
    tools.mkdir()
    script = tools / "apt-get"
    script.touch()
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tools}:/usr/bin:/bin")
    monkeypatch.setenv("STRATA_DEBIAN", "http://127.0.0.1:9")
    return script


def one_line(error):
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize("suffix", ["", ".gz", ".xz", ".bz2"])
def test_the_files_of_a_package(tmp_path, suffix):
    path = write_deb(tmp_path, "x.deb", MEMBERS, suffix)
    found = dict(deb_files(path, lambda name: name.startswith("usr/share/")))
    assert found == {name: MEMBERS[name] for name in list(MEMBERS)[:2]}


def test_a_compression_python_does_not_have(tmp_path, monkeypatch):
    path = write_deb(tmp_path, "x.deb", MEMBERS, ".gz")
    path.write_bytes(path.read_bytes().replace(b"data.tar.gz ", b"data.tar.zst"))
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(UserError, match=r"holds data\.tar\.zst, which Python cannot unpack; install dpkg") as error:
        list(deb_files(path, lambda name: True))
    one_line(error)


@pytest.mark.skipif(not shutil.which("dpkg-deb") or not shutil.which("zstd"), reason="needs dpkg-deb and zstd")
def test_dpkg_unpacks_what_python_cannot(tmp_path):
    root = tmp_path / "root"
    (root / "DEBIAN").mkdir(parents=True)
    fields = {"Package": "x", "Version": "1", "Architecture": "all", "Maintainer": "x", "Description": "x"}
    (root / "DEBIAN" / "control").write_text("".join(f"{name}: {value}\n" for name, value in fields.items()))
    (root / "usr").mkdir()
    (root / "usr" / "a").write_text("alpha")
    command = ["dpkg-deb", "-Zzstd", "--build", str(root), str(tmp_path / "x.deb")]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("this dpkg-deb does not write zstd")
    assert dict(deb_files(tmp_path / "x.deb", lambda name: True)) == {"usr/a": b"alpha"}


@pytest.mark.parametrize("cut", [lambda b: b[:-200], lambda b: b[:40], lambda b: b"PK" + b, lambda b: b""])
def test_a_damaged_package_is_one_line(shelf, cut):
    path, _ = shelf
    path.write_bytes(cut(path.read_bytes()))
    with pytest.raises(UserError, match="is damaged or no Debian package") as error:
        list(deb_files(path, lambda name: True))
    one_line(error)


def test_apt_fetches_once_into_the_cache(shelf, apt, cache_folder, monkeypatch):
    path, package = shelf
    apt.write_text(f'#!/bin/sh\ncase "$*" in *"download small-thing=1.2-1") cp {path} . ;; *) exit 3 ;; esac\n')
    found = fetch_deb(package)
    assert cache_folder in found.parents
    assert found.read_bytes() == path.read_bytes()
    monkeypatch.setattr(debian, "_apt", None)
    assert fetch_deb(package) == found


def test_a_package_that_is_not_pinned_says_so_once(shelf, apt, caplog):
    """Whatever version there is, is taken; its hash is told."""
    path, package = shelf
    newer = f"{PACKAGE.name}_4%3a9.9_all.deb"
    apt.write_text(f'#!/bin/sh\ncase "$*" in *"download small-thing") cp {path} {newer} ;; *) exit 3 ;; esac\n')
    found = fetch_deb(dataclasses.replace(package, sha256=None))
    assert found.name == newer
    (line,) = caplog.messages
    assert f"{newer} is not pinned" in line
    assert (package.sha256 or "")[:16] in line
    fetch_deb(dataclasses.replace(package, sha256=None))
    assert len(caplog.messages) == 1


def test_the_mirror_takes_the_place_of_apt(shelf, apt, monkeypatch, tmp_path):
    path, package = shelf
    pool = tmp_path / "mirror" / "pool" / "main" / package.pool
    pool.mkdir(parents=True)
    shutil.copy(path, pool / package.file)
    monkeypatch.setenv("STRATA_DEBIAN", (tmp_path / "mirror").as_uri())
    apt.write_text("#!/bin/sh\necho 'E: Unable to locate package small-thing' >&2\nexit 100\n")
    assert fetch_deb(package).read_bytes() == path.read_bytes()


def test_no_network_and_no_apt(shelf, apt, cache_folder):
    apt.write_text("#!/bin/sh\necho 'E: Unable to locate package small-thing' >&2\nexit 100\n")
    with pytest.raises(UserError, match="cannot fetch small-thing: apt-get: Unable to locate package") as error:
        fetch_deb(shelf[1])
    line = one_line(error)
    assert "http://127.0.0.1:9/pool/main/s/small-thing/small-thing_1.2-1_all.deb" in line
    assert "set STRATA_SOURCES to its folder" in line
    apt.unlink()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shutil, "which", lambda name: None)
        with pytest.raises(UserError, match="there is no apt-get; http"):
            fetch_deb(shelf[1])
    assert not list((cache_folder / "sources").glob("small*"))


def test_a_served_file_with_a_wrong_hash_is_refused(shelf, apt):
    path, package = shelf
    apt.write_text(f"#!/bin/sh\ncp {path} .\n")
    with pytest.raises(UserError, match="not the pinned 0000000000000000"):
        fetch_deb(dataclasses.replace(package, sha256="0" * 64))


@pytest.mark.parametrize("setting", ["STRATA_SOURCES", "folder"])
def test_a_local_folder_takes_the_place_of_the_mirror(shelf, setting, monkeypatch):
    path, package = shelf
    monkeypatch.setattr(debian, "_download", None)

    def get():
        return fetch_deb(package, str(path.parent) if setting == "folder" else None)

    if setting == "STRATA_SOURCES":
        monkeypatch.setenv(setting, str(path.parent))
    assert get() == path
    path.write_bytes(path.read_bytes() + b"x")
    with pytest.raises(UserError, match=r"SHA-256 .*, not the pinned .*: damaged, or another version; get it again"):
        get()
    path.unlink()
    with pytest.raises(UserError, match=rf"{setting}=.* holds no small-thing_\*\.deb; put it there \(apt-get download"):
        get()
