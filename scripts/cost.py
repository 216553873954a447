"""Parameters and multiply–accumulates of models beside a paper's: `python scripts/cost.py experiment=mird/table2`.

The experiment file says which models, at which sizes, on segments of which shape. Needs neither data nor weights.
"""

import sys
from pathlib import Path

from hydra import compose, initialize_config_dir
from omegaconf import DictConfig

from mdm.boundary import ended
from mdm.cost import cost_of, one_segment
from mdm.run import quiet

CONFIGS = Path(__file__).resolve().parents[1] / "configs"


def composed(*overrides: str) -> DictConfig:
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        return compose("train", list(overrides))


def cell(ours: float, paper: float | None) -> str:
    """Ours beside the paper's, with the difference in per cent."""
    if paper is None:
        return f"{ours:.2f} | – | –"
    return f"{ours:.2f} | {paper:g} | {100 * (ours / paper - 1):+.1f} %"


def main(overrides: list[str]) -> None:
    quiet()
    experiment = composed(*overrides)
    if "cost" not in experiment:
        raise ValueError("cost.py needs an experiment that has costs, such as experiment=mird/table2.")
    print(f"{experiment.cost.title}\n")
    print("| model | parameters, M | paper | difference | GMACs, prediction | paper | difference | with own terms |")
    print("|---|---|---|---|---|---|---|---|")
    for name, row in experiment.cost.rows.items():
        spec, batch = one_segment(row.get("segment", experiment.cost.segment))
        cost = cost_of(composed(f"model={row.model}", *row.overrides).model, spec, batch)
        parameters, paper = (cost.parameters + cost.critic) / 1e6, row.get("paper", {})
        print(
            f"| {name} | {cell(parameters, paper.get('parameters'))} | {cell(cost.macs / 1e9, paper.get('gmacs'))} "
            f"| {cost.macs_training / 1e9:.2f} |",
            flush=True,
        )
    print("\n" + experiment.cost.notes)


if __name__ == "__main__":
    with ended():
        main(sys.argv[1:])
