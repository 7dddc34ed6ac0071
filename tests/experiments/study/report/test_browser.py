"""The page in a browser, at a phone's width and a desktop's."""

import dataclasses
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from experiments.study.report import page as pages

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)
OFFLINE = ("--disable-background-networking", "--disable-component-update", "--disable-sync", "--no-first-run")
PROVENANCE = {"system": "Linux-6.18.44-x86_64-with-glibc2.36", "devices": "a kind of chip with a very long name " * 3}


def seen(text: str, at: Path, width: int, script: str) -> list[str]:
    """What the JavaScript expression `script` gives in the page `text`, shown `width` pixels wide, in words.

    The page says it to the page that frames it: a browser's own window is never as narrow as a phone.
    """
    probe = f"<script>parent.postMessage({script}, '*')</script>"
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


@pytest.mark.skipif(BROWSER is None, reason="no chromium or chrome on the path")
@pytest.mark.parametrize("width", [390, 1280])
def test_in_a_browser_nothing_overflows(text, tmp_path, width):
    """The page is no wider than its window, and the console is silent."""
    inner, page = seen(text, tmp_path, width, "[innerWidth, document.documentElement.scrollWidth]")
    assert int(inner) == width
    assert int(page) <= width


@pytest.mark.skipif(BROWSER is None, reason="no chromium or chrome on the path")
def test_words_in_a_table_wrap_on_a_phone(results, tmp_path):
    """Only tables of many numbers are scrolled sideways."""
    text = pages.page(dataclasses.replace(results, provenance=PROVENANCE), [])
    wide = "[...document.querySelectorAll('.scroll')].filter(e => e.scrollWidth > e.clientWidth).map(e => e.ariaLabel)"
    found = seen(text, tmp_path, 390, wide)
    assert "provenance" not in found
    assert "results" in found
