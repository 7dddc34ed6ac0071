"""Is every process of a run still there? The others end within seconds of one that is lost, in one line.

JAX notices a lost process after 100 s, or at once from C++, which ends the program by an abort. Here each process holds
a connection to process 0, over which both say something every few seconds: a process that is killed closes it, and one
whose machine is gone is silent. Whoever sees that ends with a code that a supervisor restarts on.
"""

from __future__ import annotations

import atexit
import ctypes
import os
import secrets
import signal
import socket
import sys
import threading
import time
from contextlib import suppress
from types import TracebackType
from typing import Any

LOST = 75
"""Exit status after a process was lost: EX_TEMPFAIL of sysexits.h, try again later."""

BEAT, SILENCE = 2.0, 30.0
"""Seconds between signs of life, and without any after which a process counts as lost: one that is killed closes its
connection at once, and one that is merely busy (a collection of garbage, a debugger) must not end all of them."""

KEY = "strata/peers"
ALIVE, DONE = b".", b"!"
MINUTE = 60_000  # milliseconds


class Peers:
    """Watches the other processes of a run from now on. Raises OSError where they cannot be reached.

    Args:
      client: JAX's distributed client, whose key-value store tells where process 0 listens.
      host: of process 0, as the others reach it.
      index: of this process.
      count: of processes.
    """

    def __init__(self, client: Any, host: str, index: int, count: int):
        self._count, self._links = count, dict[int, socket.socket]()
        self._done, self._failed = threading.Event(), False
        if index == 0:
            family = socket.AF_INET6 if ":" in host else socket.AF_INET
            listener = socket.create_server((host if is_loopback(host) else "", 0), family=family)
            token = secrets.token_bytes(16)
            client.key_value_set(KEY, f"{listener.getsockname()[1]} {token.hex()}")
            try:
                with listener:
                    self._accept(listener, token)
            except OSError:
                self.close()  # those that came must not take this process for lost
                raise
        else:
            port, token = client.blocking_key_value_get(KEY, MINUTE).split()
            link = socket.create_connection((host, int(port)), timeout=SILENCE)
            link.sendall(bytes.fromhex(token) + index.to_bytes(4, "big"))
            self._links[0] = link
        for other, link in self._links.items():
            threading.Thread(target=self._watch, args=(other, link), name=f"peer {other}", daemon=True).start()
        threading.Thread(target=self._beat, name="beat", daemon=True).start()
        # JAX aborts the program as soon as it misses process 0: the abort waits until ours has had its word.
        self._aborting = ctypes.CFUNCTYPE(None, ctypes.c_int)(lambda number: time.sleep(BEAT / 2))
        ctypes.CDLL(None).signal(signal.SIGABRT, self._aborting)
        atexit.register(self.close)
        self._shown, sys.excepthook = sys.excepthook, self._raised

    def _accept(self, listener: socket.socket, token: bytes) -> None:
        """Waits for all others; whoever does not know the token is none."""
        listener.settimeout(MINUTE / 1000)
        while len(self._links) < self._count - 1:
            link, _ = listener.accept()
            link.settimeout(SILENCE)
            with suppress(OSError):
                said = link.recv(len(token) + 4, socket.MSG_WAITALL)
                if said[: len(token)] == token:
                    self._links[int.from_bytes(said[len(token) :], "big")] = link
                    continue
            link.close()

    def _watch(self, other: int, link: socket.socket) -> None:
        link.settimeout(SILENCE)
        while not self._done.is_set():
            try:
                said = link.recv(64)
            except OSError:
                said = b""
            if DONE in said or self._done.is_set():
                return
            if not said:
                self._lost(f"process {other} of {self._count} is lost")

    def _beat(self) -> None:
        while not self._done.wait(BEAT):
            for link in self._links.values():
                with suppress(OSError):
                    link.send(ALIVE)

    def _lost(self, what: str) -> None:
        line = (f"{what}: killed, or its machine is gone; run the same command again in all processes, and they go on "
                f"from the newest checkpoint (exit status {LOST})\n")  # fmt: skip
        os.write(2, line.encode())
        os._exit(LOST)

    def _raised(self, kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        """An error that nobody caught. One that a lost process has led to is not shown; others end this process."""
        self._failed = True
        time.sleep(0 if issubclass(kind, KeyboardInterrupt) else BEAT)
        self._shown(kind, error, trace)

    def close(self) -> None:
        """Tells the others that this process has come to its end, unless by an error."""
        self._done.set()
        for link in self._links.values():
            with suppress(OSError):
                if not self._failed:
                    link.send(DONE)
                link.close()


def is_loopback(host: str) -> bool:
    """Whether an address is of this machine alone."""
    try:
        found = {info[4][0] for info in socket.getaddrinfo(host.strip("[]"), None)}
    except OSError:
        return False
    return bool(found) and all(one.startswith("127.") or one == "::1" for one in map(str, found))
