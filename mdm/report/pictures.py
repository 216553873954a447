"""Studies without charts of their own here (scripts/disentanglement.py, factors.py, generation.py, grid.py, traces.py) → what each
wrote: its picture and its summary.
"""

from __future__ import annotations

from base64 import b64encode
from pathlib import Path
from typing import Any

from markdown_it import MarkdownIt

CHARTED = ("robustness", "explanation")
"""Folders of `mdm.report.studies`, whose numbers the page draws itself."""


def pictured(folder: Path) -> list[dict[str, Any]]:
    """Every other study of an experiment: title, picture as a data URL, summary as HTML."""
    found = []
    for summary in sorted(folder.glob("*/summary.md")):
        picture = summary.with_name("figure.png")
        if summary.parent.name in CHARTED or not picture.is_file():
            continue
        title, _, text = summary.read_text(encoding="utf-8").partition("\n")
        url = f"data:image/png;base64,{b64encode(picture.read_bytes()).decode()}"
        found.append({"id": summary.parent.name, "title": title.removeprefix("# "), "picture": url, "summary": html(text)})
    return found


def html(markdown: str) -> str:
    """Markdown with tables → HTML one section deeper, its tables in boxes that scroll. HTML in it is shown, not obeyed."""
    reader = MarkdownIt("commonmark", {"html": False}).enable("table")
    tokens = reader.parse(markdown)
    for token in tokens:
        if token.type in ("heading_open", "heading_close"):
            token.tag = f"h{min(int(token.tag[1]) + 2, 6)}"
    text = str(reader.renderer.render(tokens, reader.options, {}))
    return text.replace("<table>", '<div class="wide" tabindex="0"><table>').replace("</table>", "</table></div>")
