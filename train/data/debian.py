"""Files of Debian packages, fetched once and never installed: a .deb is an `ar` archive that holds a tar archive.

A package comes from a local folder (the `folder` field of a source, or $STRATA_SOURCES), else from the cache, else
through `apt-get download`, else from the mirror's pool, $STRATA_DEBIAN or deb.debian.org, which needs no Debian.
"""

from __future__ import annotations

import dataclasses
import logging
import lzma
import os
import shutil
import subprocess
import tarfile
import urllib.error
import urllib.request
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

from arch.spec import UserError
from train.data import cache
from train.data.base import Progress, silent
from train.data.paths import expanded

MIRROR = "http://deb.debian.org/debian"
HEADER = 60  # bytes before each member of an `ar` archive
COMPRESSIONS = {"": "", ".gz": "gz", ".xz": "xz", ".bz2": "bz2"}
_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class DebianPackage:
    """One package for all architectures, and the licence of what is read from it.

    Attributes:
      pool: its folder in the mirror's pool; that of the source package.
      sha256: None: not pinned, because updates replace the file. What is made of it is named by the file's own hash.
    """

    name: str
    version: str  # without an epoch
    pool: str
    sha256: str | None
    licence: str

    @property
    def file(self) -> str:
        return f"{self.name}_{self.version}_all.deb"


LIBREOFFICE = {  # version of Debian 12
    language: DebianPackage(f"libreoffice-help-{name}", "7.4.7-1+deb12u14", "libr/libreoffice", None, "MPL-2.0")
    for language, name in (("en", "en-us"), ("de", "de"), ("fr", "fr"))
}
SWORD = {
    name: DebianPackage(f"sword-text-{name}", version, f"s/sword-text-{name}", sha256, "public domain")
    for name, version, sha256 in (
        ("web", "426.0-1", "930b23670b352f0829a306501de4bebb5e654a2df02cde2cbe86b802177868e1"),
        ("kjv", "14.3-1", "9f463f28ce665f6f528fc723179722bced880a4c5485f7a41bf742838315de57"),
        ("sparv", "2.60-1", "5c87f9b2bc97457e8a872f5bae7ea7ce59cb3de1dcee73e4d4740451863694cf"),
    )
}

FASHION_MNIST = {
    "fashion-mnist": DebianPackage(
        "dataset-fashion-mnist",
        "0.0~git20200523.55506a9-1",
        "d/dataset-fashion-mnist",
        "39e172fe32dd318ebb3e512220c3beea2fa47d7e20bab348fb4e0922d6beefc0",
        "MIT",
    )
}


def fetch_deb(package: DebianPackage, folder: str | None = None, progress: Progress = silent) -> Path:
    """The .deb on this machine. Raises UserError if it cannot be had or is not the pinned file."""
    local = folder or os.environ.get("STRATA_SOURCES")
    if local:
        return _from_folder(package, expanded(local), "folder" if folder else "STRATA_SOURCES")
    key = f"{package.file}-{package.sha256[:12]}" if package.sha256 else f"{package.name}-unpinned"
    entry = cache.entry("sources", key, lambda target: _download(package, target, progress))
    return next(entry.glob("*.deb"))


def deb_files(deb: Path, wanted: Callable[[str], bool]) -> Iterator[tuple[str, bytes]]:
    """(path, content) of the files of a package whose paths, as in usr/share/doc/..., are `wanted`, in its order."""
    try:
        with deb.open("rb") as stream:
            name, start = _data(deb, stream)
            suffix = name.removeprefix("data.tar")
            if suffix in COMPRESSIONS:
                stream.seek(start)
                yield from _tar_files(stream, f"r|{COMPRESSIONS[suffix]}", wanted)
                return
        if not shutil.which("dpkg-deb"):
            raise UserError(f"{deb} holds {name}, which Python cannot unpack; install dpkg, or unpack it elsewhere and "
                            "set `folder`")  # fmt: skip
        with subprocess.Popen(["dpkg-deb", "--fsys-tarfile", deb], stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            yield from _tar_files(process.stdout, "r|", wanted)
    except (OSError, EOFError, ValueError, tarfile.TarError, lzma.LZMAError, zlib.error) as error:
        raise UserError(f"{deb} is damaged or no Debian package ({error}); fetch it again") from error


def _tar_files(stream: IO[bytes], mode: str, wanted: Callable[[str], bool]) -> Iterator[tuple[str, bytes]]:
    with tarfile.open(fileobj=stream, mode=mode) as archive:  # type: ignore[call-overload]
        for member in archive:
            path = member.name.removeprefix("./")
            if member.isfile() and wanted(path):
                content = archive.extractfile(member)
                yield path, content.read()


def _data(deb: Path, stream: IO[bytes]) -> tuple[str, int]:
    """Name and place of the member of an `ar` archive that holds the files."""
    if stream.read(8) != b"!<arch>\n":
        raise ValueError("it does not begin as one")
    while len(header := stream.read(HEADER)) == HEADER:
        name, size = header[:16].decode("ascii").strip().rstrip("/"), int(header[48:58])
        if name.startswith("data.tar"):
            return name, stream.tell()
        stream.seek(size + size % 2, os.SEEK_CUR)
    raise ValueError("it holds no data.tar")


def _from_folder(package: DebianPackage, folder: Path, setting: str) -> Path:
    found = sorted(folder.glob(f"{package.name}_*.deb"))
    if not found:
        raise UserError(f"{setting}={folder} holds no {package.name}_*.deb; put it there ({_by_hand(package)}), "
                        f"or unset {setting} to fetch it") from None  # fmt: skip
    wrong = {path: _mismatch(package, path) for path in found}
    right = [path for path in found if not wrong[path]]
    if not right:
        raise UserError(f"{found[-1]}: {wrong[found[-1]]}; get it again ({_by_hand(package)})")
    return right[-1]


def _by_hand(package: DebianPackage) -> str:
    return f"apt-get download {package.name}, or {MIRROR}/pool/main/{package.pool}/"


def _mismatch(package: DebianPackage, path: Path) -> str:
    """What is wrong with a file that should be the package's; "" if nothing is."""
    sha256 = cache.file_sha256(path)
    if package.sha256 in (None, sha256):
        return ""
    return f"SHA-256 {sha256[:16]}..., not the pinned {(package.sha256 or '')[:16]}...: damaged, or another version"


def _download(package: DebianPackage, target: Path, progress: Progress) -> None:
    what = f"fetch {package.name}"
    progress(what, 0, 1)
    troubles = []
    for way in (_apt, _pool):
        trouble = way(package, target)
        found = sorted(target.glob("*.deb"))
        if not trouble and found:
            trouble = _mismatch(package, found[0])
        if not trouble and found:
            progress(what, 1, 1)
            if package.sha256 is None:
                _log.warning("%s is not pinned, because security updates replace it; the data are named by its own "
                             "hash, %s", found[0].name, cache.file_sha256(found[0])[:16])  # fmt: skip
            return
        troubles.append(trouble)
        for left in target.iterdir():
            left.unlink()
    raise UserError(f"cannot fetch {package.name}: {'; '.join(troubles)}. Check the network; or get the file elsewhere "
                    f"({_by_hand(package)}) and set STRATA_SOURCES to its folder")  # fmt: skip


def _apt(package: DebianPackage, target: Path) -> str:
    """Downloads with apt-get into `target`; returns what it complained of, or nothing."""
    if not shutil.which("apt-get"):
        return "there is no apt-get"
    wanted = f"{package.name}={package.version}" if package.sha256 else package.name
    command = ["apt-get", "-q", "-o", "Acquire::Retries=1", "-o", "Acquire::http::Timeout=15", "download", wanted]
    done = subprocess.run(command, cwd=target, capture_output=True, text=True, check=False)
    if done.returncode == 0 and any(target.glob("*.deb")):
        return ""
    lines = [line for line in (done.stderr + done.stdout).splitlines() if line.startswith("E:")]
    return f"apt-get: {lines[0].removeprefix('E:').strip() if lines else f'status {done.returncode}'}"


def _pool(package: DebianPackage, target: Path) -> str:
    """Downloads from the mirror's pool into `target`; returns what went wrong, or nothing."""
    address = f"{os.environ.get('STRATA_DEBIAN', MIRROR)}/pool/main/{package.pool}/{package.file}"
    try:
        with urllib.request.urlopen(address, timeout=15) as answer:
            (target / package.file).write_bytes(answer.read())
    except (OSError, urllib.error.URLError, ValueError) as error:
        return f"{address}: {getattr(error, 'reason', None) or error}"
    return ""
