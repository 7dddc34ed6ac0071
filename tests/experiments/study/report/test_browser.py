"""The page in a browser, at a phone's width and a desktop's."""

import re
import shutil
import subprocess

import pytest

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)


@pytest.mark.skipif(BROWSER is None, reason="no chromium or chrome on the path")
@pytest.mark.parametrize("width", [390, 1280])
def test_in_a_browser_nothing_overflows(text, tmp_path, width):
    """At a phone's width and a desktop's the page is no wider than its window, and the console is silent.

    The page tells its widths to the page that frames it: a browser's own window is never as narrow as a phone.
    """
    probe = "<script>parent.postMessage([innerWidth, document.documentElement.scrollWidth], '*')</script>"
    (tmp_path / "page.html").write_text(text.replace("</body>", probe + "</body>"), encoding="utf-8")
    frame = f"""<!doctype html><script>onmessage = e => document.documentElement.dataset.seen = e.data</script>
        <iframe src="page.html" style="border: 0; width: {width}px; height: 900px"></iframe>"""
    (tmp_path / "frame.html").write_text(frame, encoding="utf-8")
    command = [str(BROWSER), "--headless=new", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr"]
    command += [f"--user-data-dir={tmp_path / 'profile'}", "--window-size=1400,900", "--virtual-time-budget=5000"]
    done = subprocess.run(
        [*command, "--dump-dom", (tmp_path / "frame.html").as_uri()], capture_output=True, text=True, timeout=60
    )
    seen = re.search(r'data-seen="(\d+),(\d+)"', done.stdout)
    assert seen, done.stderr
    assert int(seen[1]) == width
    assert int(seen[2]) <= width
    assert "CONSOLE" not in done.stderr
