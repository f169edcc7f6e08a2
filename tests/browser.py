"""A real browser for the reports: what a probe script finds in a page, and what the page wrote to the console."""

import hashlib
import re
import shutil
import subprocess
from base64 import b64encode
from pathlib import Path

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
# Under virtual time Chromium gives no animation frames after the first ones.
FRAMES = "window.requestAnimationFrame = (act) => setTimeout(act, 16);"
OPTIONS = ("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking")
OPTIONS += ("--disable-sync", "--disable-component-update", "--dump-dom", "--enable-logging=stderr", "--virtual-time-budget=6000")
DARK = "--blink-settings=preferredColorScheme=0"


def source_of(script: str) -> str:
    """The policy source that allows an inline script."""
    return f"'sha256-{b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"


def browse(page: str, probe: str, folder: Path, width: int, *more: str) -> tuple[dict[str, str], str]:
    """The data- attributes that ``probe`` gave the body of a page in headless Chromium, and the console's lines."""
    assert CHROMIUM is not None
    file = folder / "page.html"
    probed = page.replace("script-src ", f"script-src {source_of(FRAMES)} {source_of(probe)} ", 1)
    probed = probed.replace("<style>", f"<script>{FRAMES}</script><style>", 1)
    file.write_text(probed.replace("</body>", f"<script>{probe}</script></body>"), encoding="utf-8")
    command = [CHROMIUM, *OPTIONS, f"--user-data-dir={folder / 'profile'}", f"--window-size={width},1600", *more, file.as_uri()]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    body = re.search(r"<body[^>]*>", ended.stdout)
    assert body is not None
    console = "\n".join(line for line in ended.stderr.splitlines() if "CONSOLE" in line)
    return dict(re.findall(r'data-(\w+)="([^"]*)"', body[0])), console
