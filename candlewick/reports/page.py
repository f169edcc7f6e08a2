"""The frame of every HTML report: one file with style, charts and data in it, that can reach nothing outside."""

import hashlib
import json
import os
from base64 import b64encode
from functools import cache
from html import escape
from importlib.resources import files
from pathlib import Path

from candlewick.errors import CandlewickError
from candlewick.reports.figures import SCHEMES, Document


@cache
def _asset(name: str) -> str:
    return files("candlewick.reports").joinpath("assets", name).read_text(encoding="utf-8")


def _colours() -> str:
    """The schemes' colours as the style sheet's variables; a printed page is light."""
    light, dark = ("".join(f"--{name}:{value};" for name, value in SCHEMES[scheme].items()) for scheme in ("light", "dark"))
    switch = f"@media (prefers-color-scheme: dark){{:root:not(.printing){{{dark}}}}}"
    return f":root{{color-scheme:light dark;{light}}}\n{switch}\n"


def _script(text: str) -> tuple[str, str]:
    """A script element and the policy source that allows this text and no other."""
    inner = f"\n{text}"
    digest = b64encode(hashlib.sha256(inner.encode()).digest()).decode()
    return f"<script>{inner}</script>", f"'sha256-{digest}'"


@cache
def _scripts(name: str) -> tuple[str, str]:
    """Plotly and the page's own script, equal in every report of a kind, and the policy sources that allow them."""
    from plotly.offline import get_plotlyjs

    (plotly, plotly_source), (own, own_source) = _script(get_plotlyjs()), _script(_asset("chart.js") + _asset(name))
    return f"{plotly}\n{own}", f"{plotly_source} {own_source}"


def script_data(document: Document) -> str:
    """A document as JSON that cannot end the script element it stands in."""
    text = json.dumps(document, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def render_page(
    title: str, body: str, footer: str, document: Document, script: str, style: str = "", sources_of_images: str = "'none'"
) -> str:
    """A whole page. ``body`` and ``footer`` are ready HTML, ``title`` is text; ``document`` is what ``script`` (an asset) reads.

    ``style`` names an asset that stands below the style sheet of all reports. ``sources_of_images`` is a policy: plotly draws a
    heat map into an image of its own, which needs "data:"; that reaches nothing outside either.
    """
    scripts, sources = _scripts(script)
    policy = f"default-src 'none'; style-src 'unsafe-inline'; script-src {sources}"
    if sources_of_images != "'none'":
        policy += f"; img-src {sources_of_images}"
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<title>{escape(title)}</title>
<style>
{_colours()}{_asset("report.css")}{_asset(style) if style else ""}</style>
</head>
<body>
<main>
{body}
<footer>{footer}</footer>
</main>
<script type="application/json" id="report-data">{script_data(document)}</script>
{scripts}
</body>
</html>
"""


def write_page(text: str, path: Path, unharmed: str) -> Path:
    """Write a report under a temporary name and rename it, so that a reader never sees half of it.

    Raises CandlewickError when the folder cannot be written or is full; the report that was there before stays, and
    ``unharmed`` tells the user what else does.
    """
    temporary = path.parent / f".{path.name}.{os.getpid()}.tmp"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            temporary.write_text(text, encoding="utf-8")
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        what = error.strerror or str(error)
        raise CandlewickError(
            f"report {path} cannot be written ({what}): free or unlock the folder and run again; {unharmed}"
        ) from error
    return path
