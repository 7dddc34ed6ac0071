"""Whether this user wrote a `config.json` on this machine: an HMAC (RFC 2104) of it, with a key that nobody else reads.

    CACHE/seals/USER.key         32 random bytes, mode 0600, made when the first run folder is written
    FOLDER/config.json.seal      HMAC-SHA256 of the file beside it, as hexadecimal digits

A folder that somebody sent has no such seal, so its configuration may name Strata's own parts alone (`admission`).
"""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
import stat
from pathlib import Path

from train.data import cache

LENGTH = 32
PURPOSE = b"strata config.json\0"


def file() -> Path:
    """Where the key of this user is."""
    return cache.root() / "seals" / f"{os.geteuid()}.key"


def of(content: bytes) -> str:
    """The seal of a file; "" where no key can be kept."""
    key = _key() or _made()
    return hmac.new(key, PURPOSE + content, hashlib.sha256).hexdigest() if key else ""


def fits(content: bytes, given: str) -> bool:
    """Whether `given` is this user's seal of a file. Makes no key."""
    key = _key()
    if not key:
        return False
    wanted = hmac.new(key, PURPOSE + content, hashlib.sha256).hexdigest()
    return hmac.compare_digest(wanted.encode(), given.encode())


def _key() -> bytes:
    """The key, if there is one that is this user's and that nobody else may read or change; else nothing."""
    try:
        handle = os.open(file(), os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return b""
    with open(handle, "rb") as stream:
        about = os.fstat(handle)
        private = stat.S_ISREG(about.st_mode) and not stat.S_IMODE(about.st_mode) & 0o077
        if not private or about.st_uid != os.geteuid():
            return b""
        key = stream.read(LENGTH + 1)
    return key if len(key) == LENGTH else b""


def _made() -> bytes:
    """A new key, whole or not at all; another process's, if that was first; nothing where it cannot be written."""
    at = file()
    new = at.with_name(f".{at.name}.{secrets.token_hex(8)}")
    try:
        at.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            with open(handle, "wb") as stream:
                stream.write(secrets.token_bytes(LENGTH))
            os.link(new, at)  # which fails where there is one already
        finally:
            new.unlink()
    except OSError:
        pass
    return _key()
