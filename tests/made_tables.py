"""Declared tables, and records that were made up for them: no run is trained."""

import numpy as np

from mdm.metrics import evaluate
from mdm.runs import claims, records
from mdm.sweeps.experiment import Row, Table, list_cells
from mdm.tables.build import build_sheet
from mdm.tables.gather import gather_runs

LABEL = np.array([-2.0, -1.0, 1.0, 2.0] * 6)
VIDEOS = [f"video{i // 2}" for i in range(len(LABEL))]
SEEDS = 10
METRICS = {"mae": "mae", "acc2_pos": "acc2"}
PAPER = {"paper": "000", "table": "T1"}


def rows(**more):
    """EF-LSTM with and without KL, as Colombo et al. (2021) have them in Table 1."""
    return {
        "none": Row("none", "EF-LSTM", ("penalty=none",), paper={"model": "EF-LSTM", "penalty_or_variant": "none"}),
        "kl": Row("kl", "+ KL", ("penalty=kl",), baseline="none", paper={"model": "EF-LSTM", "penalty_or_variant": "kl"}),
        **more,
    }


def declare_table(given=None, **changes):
    values = {"title": "A title", "seeds": SEEDS, "data": {"synthetic": "mosi"}, "paper": PAPER, **changes}
    metrics = values.pop("metrics", dict.fromkeys(values["data"].values(), METRICS))
    return Table(rows=rows() if given is None else given, metrics=metrics, primary=dict.fromkeys(metrics, "mae"), **values)


class Outputs:
    """Records of made-up runs. ``errors``: by row, each seed's error on every segment."""

    def __init__(self, root):
        self.root = root

    def place(self, run):
        at = dict(override.split("=", 1) for override in run)
        config = {
            "name": "t",
            "seed": int(at["seed"]),
            "trainer": {"select": "mae"},
            "penalty": {"name": at["penalty"]},
        }
        return self.root / "t" / at["data"] / at["penalty"] / f"seed={at['seed']}", config

    def write(self, penalty, seed, error, data="synthetic", label=LABEL, config=None, ids=None, test=None, **record):
        folder, own = self.place([f"data={data}", f"penalty={penalty}", f"seed={seed}"])
        prediction = (label + error)[:, None]
        metrics = evaluate(prediction, label[:, None], (-3.0, 3.0), ("sentiment",)) | (test or {})
        base = {"data": data, "seed": seed, "valid": metrics, "test": metrics, "label_range": [-3.0, 3.0], "synthetic": True}
        base |= {"valid_of_train_mean": {"mae": 99.0, "corr": None}, "selected": {"by": "valid/mae"}}
        base |= {"data_card": f"{data}-card", "commit": "0123456789"}
        base |= {"uncommitted_changes": False, "versions": {"python": "3.11", "torch": "2.9"}}
        folder.mkdir(parents=True)
        records.write_atomically(folder / records.CONFIG, claims.dump({**own, "data_card": f"{data}-card", **(config or {})}))
        names = ids or [f"s{i}" for i in range(len(label))]
        table = zip(names, VIDEOS, label.tolist(), prediction[:, 0].tolist(), strict=True)
        predictions = [dict(zip(("id", "group", "label", "prediction"), values, strict=True)) for values in table]
        records.finish(folder, base | record, predictions)
        return folder

    def fill(self, errors, **more):
        for penalty, of_seeds in errors.items():
            for seed, error in enumerate(of_seeds):
                self.write(penalty, seed, error, **more)

    def gathered(self, table, *arguments):
        return gather_runs(list_cells(table, arguments), self.place)

    def sheet(self, table, *arguments):
        return build_sheet("t", table, self.gathered(table, *arguments))


NONE = [0.80 + 0.01 * seed for seed in range(SEEDS)]
BETTER = [0.50 + 0.02 * seed for seed in range(SEEDS)]


def lines_of(sheet):
    return {line.row.name: line for line in sheet.blocks[0].lines}
