"""Docstrings as the site's Markdown: examples become code, lines `name: what it is` a list. `mkdocs.yml` names this file."""

from __future__ import annotations

import re
from typing import Any

from griffe import Extension

ARGUMENT = re.compile(r"^([a-z_]\w*(?:, [a-z_]\w*)*): ")


class Fences(Extension):
    """What mkdocstrings calls for each object that it has read."""

    def on_object(self, *, obj: Any, **_: Any) -> None:
        if obj.docstring is not None:
            obj.docstring.value = render_docstring(obj.docstring.value)


def render_docstring(text: str) -> str:
    """Markdown of a docstring.

    An example begins with ``>>>`` and ends with its paragraph. What is indented below a name belongs to it.

    >>> print(render_docstring("dim: its width\\n\\n>>> [1, 2]\\n[1, 2]"))
    - **dim**: its width
    <BLANKLINE>
    ```pycon
    >>> [1, 2]
    [1, 2]
    ```
    """
    parts = []
    for part in re.split(r"\n\s*\n", text):
        if part.lstrip().startswith(">>> "):
            parts.append(f"```pycon\n{part}\n```")
        else:
            parts.append("\n".join(ARGUMENT.sub(r"- **\1**: ", line) for line in part.splitlines()))
    return "\n\n".join(parts)
