"""Parameters and multiply–accumulates of models beside a paper's: `python scripts/cost.py experiment=mird/table2`.

The experiment file says which models, at which sizes, on segments of which shape. Needs neither data nor weights.
"""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from hydra import compose, initialize_config_dir
from omegaconf import DictConfig

from mdm.boundary import ended
from mdm.cost import cost_of, one_segment
from mdm.hints import Size
from mdm.runs.config import check
from mdm.runs.progress import quiet
from mdm.sweeps.experiment import read_section

CONFIGS = Path(__file__).resolve().parents[1] / "configs"


@dataclass(frozen=True)
class Shape:
    """Of a modality in a segment; tokens: whether it is ids below ``dim``."""

    dim: Size
    steps: Size
    tokens: bool = False


@dataclass(frozen=True)
class Model:
    """A row: options of train.py, and the paper's numbers, in millions and 10⁹."""

    model: str
    overrides: Sequence[str] = ()
    paper: Mapping[str, float] | None = None
    segment: Mapping[str, Shape] | None = None


@dataclass(frozen=True)
class Section:
    """The section ``cost``."""

    title: str
    segment: Mapping[str, Shape]
    rows: Mapping[str, Model]
    notes: str


def composed(*overrides: str) -> DictConfig:
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        return compose("train", list(overrides))


def cell(ours: float, paper: float | None) -> str:
    """Ours beside the paper's, with the difference in per cent."""
    if paper is None:
        return f"{ours:.2f} | – | –"
    return f"{ours:.2f} | {paper:g} | {100 * (ours / paper - 1):+.1f} %"


def main(overrides: list[str]) -> None:
    if {"-h", "--help"} & set(overrides):
        print(__doc__)
        return
    quiet()
    experiment = composed(*overrides)
    if "cost" not in experiment:
        raise ValueError(
            f"Costs are counted where an experiment has a section cost, but {experiment.name} has none; choose one, as "
            "experiment=mird/table2."
        )
    check(experiment)
    section = read_section(experiment, "cost", Section)
    rows = [(name, row, composed(f"model={row['model']}", *row.get("overrides", []))) for name, row in section["rows"].items()]
    for *_, cfg in rows:
        check(cfg)
    print(f"{section['title']}\n")
    print("| model | parameters, M | paper | difference | GMACs, prediction | paper | difference | with own terms |")
    print("|---|---|---|---|---|---|---|---|")
    for name, row, cfg in rows:
        spec, batch = one_segment(row.get("segment", section["segment"]))
        cost = cost_of(cfg.model, spec, batch)
        parameters, paper = (cost.parameters + cost.critic) / 1e6, row.get("paper") or {}
        print(
            f"| {name} | {cell(parameters, paper.get('parameters'))} | {cell(cost.macs / 1e9, paper.get('gmacs'))} "
            f"| {cost.macs_training / 1e9:.2f} |",
            flush=True,
        )
    print("\n" + section["notes"])


if __name__ == "__main__":
    with ended():
        main(sys.argv[1:])
