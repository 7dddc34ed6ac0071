"""Debian packages made for tests, with the layout of real ones."""

import dataclasses
import hashlib
import io
import tarfile

from train.data import debian


def write_deb(folder, file, members, suffix=".xz"):
    """A .deb whose data archive, compressed as `suffix` says, holds `members`: path -> content."""
    folder.mkdir(exist_ok=True)
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode=f"w:{suffix[1:]}") as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(f"./{name}")
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    parts = {"debian-binary": b"2.0\n", "control.tar.xz": b"odd", f"data.tar{suffix}": packed.getvalue()}
    path = folder / file
    with path.open("wb") as out:
        out.write(b"!<arch>\n")
        for name, content in parts.items():
            out.write(f"{name:<16}{0:<12}{0:<6}{0:<6}{'100644':<8}{len(content):<10}`\n".encode())
            out.write(content + b"\n" * (len(content) % 2))
    return path


def pin_deb(monkeypatch, registry, name, path):
    """Makes `registry` of `debian` expect this file, if it pins one, and look for it in its folder."""
    real = getattr(debian, registry)[name]
    sha256 = real.sha256 and hashlib.sha256(path.read_bytes()).hexdigest()
    monkeypatch.setitem(getattr(debian, registry), name, dataclasses.replace(real, sha256=sha256))
    monkeypatch.setenv("STRATA_SOURCES", str(path.parent))
