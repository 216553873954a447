"""What `mdm.commands.study` left of an experiment: each study's own picture and summary, embedded as they are."""

from __future__ import annotations

from base64 import b64encode
from pathlib import Path
from typing import Any

from markdown_it import MarkdownIt


def read_studies(folder: Path) -> list[dict[str, Any]]:
    """Every study of an experiment: title, picture as a data URL, summary as HTML."""
    found = []
    for summary in sorted(folder.glob("*/summary.md")):
        picture = summary.with_name("figure.png")
        if not picture.is_file():
            continue
        title, _, text = summary.read_text(encoding="utf-8").partition("\n")
        url = f"data:image/png;base64,{b64encode(picture.read_bytes()).decode()}"
        found.append({"id": summary.parent.name, "title": title.removeprefix("# "), "picture": url, "summary": render_html(text)})
    return found


def render_html(markdown: str) -> str:
    """Markdown with tables → HTML one section deeper, its tables in boxes that scroll. HTML in it is shown, not obeyed."""
    reader = MarkdownIt("commonmark", {"html": False}).enable("table")
    tokens = reader.parse(markdown)
    for token in tokens:
        if token.type in ("heading_open", "heading_close"):
            token.tag = f"h{min(int(token.tag[1]) + 2, 6)}"
    text = str(reader.renderer.render(tokens, reader.options, {}))
    return text.replace("<table>", '<div class="wide" tabindex="0"><table>').replace("</table>", "</table></div>")
