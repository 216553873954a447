"""Stars of a table: PICK ONE of the statistics, each a file with one class, chosen by the file's name, ``table.test=wilcoxon``.

    crossed        for new seeds and new videos
    wilcoxon       for new seeds on this very test set, by signed ranks
    sign_flip      the same, by the mean
    mann_whitney   the same, unpaired

A package of your own adds one without an edit here, under the name of its entry point (``table.test=welch``):

    [project.entry-points."mdm.statistics"]
    welch = "magpie.tests:Welch"
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from functools import cache
from importlib.metadata import entry_points
from typing import Any

from mdm.hints import require_option
from mdm.statistics.verdicts._base import Effect, Evidence, Statistic, expect_runs

__all__ = ["DEFAULT", "GROUP", "Effect", "Evidence", "Statistic", "expect_runs", "find_statistic", "list_statistics"]

GROUP = "mdm.statistics"
"""Of entry points."""
DEFAULT = "crossed"


def list_statistics() -> dict[str, Statistic]:
    """Those of this folder, and those that installed packages declare as entry points of the group ``mdm.statistics``."""
    return own_statistics() | declared_statistics()


@cache
def own_statistics() -> dict[str, Statistic]:
    """Those of this folder, by their files' names."""
    names = [module.name for module in pkgutil.iter_modules(__path__) if not module.name.startswith("_")]
    modules = {name: importlib.import_module(f"{__name__}.{name}") for name in names}
    return {
        name: next(each() for each in vars(module).values() if is_statistic(each) and each.__module__ == module.__name__)
        for name, module in modules.items()
    }


@cache
def declared_statistics() -> dict[str, Statistic]:
    """The statistics of other packages, by the names of their entry points.

    Raises ValueError if one has the name of another, cannot be imported, or is no subclass of `Statistic` with a name.
    """
    found: dict[str, Statistic] = {}
    for point in entry_points(group=GROUP):
        try:
            statistic = point.load()
        except (ImportError, AttributeError) as error:
            raise ValueError(
                f"{point.name} is an entry point of {GROUP}, but {point.value} cannot be imported ({error}); mend or remove its "
                "package."
            ) from error
        if not is_statistic(statistic) or point.name in own_statistics() or point.name in found:
            raise ValueError(
                f"An entry point of {GROUP} is a concrete subclass of mdm.statistics.verdicts.Statistic, under a name of its own, "
                f"but {point.name} = {point.value} is not; mend or remove its package."
            )
        found[point.name] = statistic()
    return found


def is_statistic(found: Any) -> bool:
    """A concrete subclass of `Statistic` that says what it is called."""
    return inspect.isclass(found) and issubclass(found, Statistic) and not inspect.isabstract(found) and hasattr(found, "name")


def find_statistic(name: str) -> Statistic:
    """A statistic by its name.

    Raises ValueError if there is no such one.
    """
    require_option("table.test", name, list_statistics())
    return list_statistics()[name]
