"""New segments of the population that a run's synthetic data were drawn from."""

from __future__ import annotations

from collections.abc import Mapping

from mdm.data.splits import Others
from mdm.runs.members import make
from mdm.runs.trained import Trained

FOLDS = ("train", "valid", "test")


def draw_fresh(trained: Trained, sizes: Mapping[str, int]) -> Others:
    """New segments of the law that a run's synthetic data were drawn from, by another seed; ``sizes`` by fold.

    Raises ValueError if its data were not drawn, and if a fold has no size or there are others.
    """
    if set(sizes) != set(FOLDS):
        raise ValueError(
            f"New segments are of the folds {', '.join(FOLDS)}, but study.fresh has {', '.join(sizes)}; give each a size."
        )
    node = trained.cfg.data.segments.copy()
    if not {"train", "valid", "test", "seed"} <= set(node):
        raise ValueError(
            f"New segments can be drawn of synthetic data only, but {trained.cfg.data.name} is a store; set study.fresh=null, and "
            "its own folds are used."
        )
    node.update({**sizes, "seed": 10_000 + node.seed, **({"unlabeled": 0} if "unlabeled" in node else {})})
    return trained.splits.like(make(node))
