"""Pictures: one HTML file with SVG in it, and nothing to load. Every text that gets here is escaped."""

import html
from collections.abc import Sequence
from pathlib import Path

from fastsim.errors import ConfigError

_STYLE = "body { font: 14px sans-serif; margin: 2em } line { stroke: #ccc } text { font-size: 11px; fill: #444 }"


def check_html(flag: str, path: Path) -> None:
    """Refuse a file that cannot be written, before anything is computed.

    Args:
        flag: what named the file, such as ``"plot"``.
        path: the file.

    Raises:
        ConfigError: as said.
    """
    if path.suffix.lower() != ".html" or path.is_dir():
        raise ConfigError(flag, str(path), "is no HTML file, which is all that is drawn", "give FILE.html")
    if not path.absolute().parent.is_dir():
        raise ConfigError(flag, str(path), "is in a directory that does not exist", "make it first")


def element(name: str, content: str | Sequence[str] = "", **attributes: object) -> str:
    """One element.

    Args:
        name: such as ``"line"``.
        content: a text, which is escaped, or a sequence of elements.
        attributes: with underscores for hyphens, and one at the end of Python's own words; numbers are rounded to a
            hundredth of a pixel.
    """
    written = "".join(
        f" {key.rstrip('_').replace('_', '-')}='{html.escape(_written(value))}'" for key, value in attributes.items()
    )
    inside = html.escape(content) if isinstance(content, str) else "".join(content)
    return f"<{name}{written}>{inside}</{name}>"


def _written(value: object) -> str:
    return f"{round(value, 2):g}" if isinstance(value, float) else str(value)


def figure(width: int, height: int, marks: Sequence[str]) -> str:
    """One picture of some elements [pixels]."""
    return f"<svg width='{width}' height='{height}'>\n" + "\n".join(marks) + "\n</svg>"


def write_page(path: Path, title: str, parts: Sequence[str], style: str = "") -> None:
    """Write a page, whole or not at all.

    Args:
        path: of the file.
        title: of the page.
        parts: headings and figures, one after another.
        style: rules of CSS beside those of every page.
    """
    from estimators.files import replace_file

    head = f"<!DOCTYPE html>\n<meta charset='utf-8'>\n{element('title', title)}\n<style>\n{_STYLE}\n{style}</style>\n"
    page = head + "\n".join(parts) + "\n"
    replace_file(path, lambda file: file.write(page.encode()))
