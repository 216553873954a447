"""Stage one, data: the formats that there are, and the reader of each.

A format is a module ``mdm.formats.<name>`` with a function ``read_<name>``: a new one is found by being there. Other installed
packages declare theirs, in their pyproject.toml:

    [project.entry-points."mdm.formats"]
    magpie = "magpie.files:read_magpie"        # format=magpie
"""

from __future__ import annotations

import inspect
import pkgutil
from collections.abc import Callable
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import get_type_hints

import mdm.formats
from mdm.data.base import Segments

Reader = Callable[..., Segments]
GROUP = "mdm.formats"


def formats() -> dict[str, Reader]:
    """Format name → its reader, found by walking the package and the entry points of installed ones.

    Raises ValueError, naming the entry point, if one cannot be imported, is no reader, or has the name of another format.
    """
    found: dict[str, Reader] = {}
    for name in sorted(module.name for module in pkgutil.iter_modules(mdm.formats.__path__)):
        reader = getattr(import_module(f"mdm.formats.{name}"), f"read_{name}", None)
        if reader is not None:
            found[name] = reader
    for entry in sorted(entry_points(group=GROUP), key=lambda entry: entry.name):
        if entry.name in found:
            raise ValueError(
                f"Each format has one reader, but {entry.value} is declared as {entry.name}, which is there; rename it."
            )
        found[entry.name] = load_reader(entry)
    return found


def load_reader(entry: EntryPoint) -> Reader:
    """The reader that an entry point names.

    Raises ValueError if it cannot be imported, or is no function (source, *, name, …) → Segments.
    """
    try:
        reader = entry.load()
    except Exception as error:  # whatever another package does when it is imported
        raise ValueError(
            f"{entry.name} is an entry point of {GROUP}, but {entry.value} cannot be imported ({type(error).__name__}: {error}); "
            "mend or remove its package."
        ) from error
    if not inspect.isfunction(reader) or get_type_hints(reader).get("return") is not Segments or not takes_source_and_name(reader):
        raise ValueError(
            f"An entry point of {GROUP} is a function (source, *, name, …) -> Segments, but {entry.name} = {entry.value} is none; "
            "mend or remove its package."
        )
    return reader


def takes_source_and_name(reader: Reader) -> bool:
    parameters = inspect.signature(reader).parameters
    return next(iter(parameters), None) == "source" and "name" in parameters
