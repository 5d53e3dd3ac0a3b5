"""The HTML file around a page: one document with its style, its scripts and its data, which may load nothing."""

import html
import json
from collections.abc import Sequence
from importlib.resources import files

from fastsim import __version__
from fastsim.svg import element

#: Nothing may be loaded, from anywhere.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:"
#: What every page begins its style with, and what is drawn from results its script, of fastsim/report.
_STYLE, _SCRIPT = "page.css", "marks.js"
WRITTEN_BY = f"Written by fastsim {__version__}."


def document(title: str, body: Sequence[str], styles: Sequence[str] = (), scripts: Sequence[str] = ()) -> str:
    """The HTML of a page that is drawn from the results of runs.

    Args:
        title: of the window.
        body: elements, one after another; the box in which scripts tell what is pointed at comes behind them.
        styles: files of CSS behind that of every page, by their paths in fastsim/report.
        scripts: files of JavaScript behind what every script uses.
    """
    told = element("div", id="told", role="status", aria_live="polite")
    return whole_page(title, [*body, told], _texts((_SCRIPT, *scripts)), _texts(styles))


def whole_page(title: str, body: Sequence[str], script: str, more_style: str = "") -> str:
    """The HTML of a page in the style of the reports.

    Args:
        title: of the window.
        body: elements, one after another.
        script: JavaScript.
        more_style: rules of CSS behind those of every page.
    """
    head = [
        "<meta charset='utf-8'>",
        f"<meta http-equiv='Content-Security-Policy' content='{html.escape(_POLICY)}'>",
        "<meta name='viewport' content='width=device-width, initial-scale=1'>",
        "<link rel='icon' href='data:,'>",
        element("title", f"{title} · fastsim"),
        f"<style>\n{_texts((_STYLE,))}{more_style}</style>",
    ]
    inside = "\n".join((element("main", ["\n".join(body)]), f"<script>\n{script}</script>"))
    return "<!DOCTYPE html>\n<html lang='en'>\n" + "\n".join(head) + f"\n{inside}\n</html>\n"


def _texts(paths: Sequence[str]) -> str:
    return "\n".join(files("fastsim.report").joinpath(path).read_text("utf-8") for path in paths)


def data_for_script(data: object, **attributes: object) -> str:
    """Values that a script reads, in an element that shows nothing; no text of theirs can end it."""
    written = json.dumps(data, ensure_ascii=False, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")
    return element("script", [written], type="application/json", **attributes)
