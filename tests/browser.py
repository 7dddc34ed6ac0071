"""A page in a headless browser, at a width that is asked for."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)
OFFLINE = ("--disable-background-networking", "--disable-component-update", "--disable-sync", "--no-first-run")

needed = pytest.mark.skipif(BROWSER is None, reason="no chromium or chrome on the path")
FITS = "[innerWidth, document.documentElement.scrollWidth]"
"""The width that is shown, and that of the page."""


def seen(text: str, at: Path, width: int, script: str) -> list[str]:
    """What the JavaScript expression `script` gives in the page `text`, shown `width` pixels wide, in words.

    The page says it to the page that frames it: a browser's own window is never as narrow as a phone.
    """
    probe = f"<script>setTimeout(() => parent.postMessage({script}, '*'), 500)</script>"  # after the page's own scripts
    (at / "page.html").write_text(text.replace("</body>", probe + "</body>"), encoding="utf-8")
    frame = f"""<!doctype html>
        <script>onmessage = e => document.documentElement.dataset.seen = e.data.join("|")</script>
        <iframe src="page.html" style="border: 0; width: {width}px; height: 900px"></iframe>"""
    (at / "frame.html").write_text(frame, encoding="utf-8")
    command = [str(BROWSER), "--headless=new", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", *OFFLINE]
    command += [f"--user-data-dir={at / 'profile'}", "--window-size=1400,900", "--virtual-time-budget=5000"]
    done = subprocess.run(
        [*command, "--dump-dom", (at / "frame.html").as_uri()], capture_output=True, text=True, timeout=60
    )
    found = re.search(r'data-seen="([^"]*)"', done.stdout)
    assert found, done.stderr
    assert "CONSOLE" not in done.stderr
    return found[1].split("|")
