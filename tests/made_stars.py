"""Declared tables, and records of segments in videos of unequal sizes, from which stars are worked by hand."""

import numpy as np

from mdm.metrics import evaluate
from mdm.runs import claims, records
from mdm.sweeps.experiment import Row, Table, list_cells
from mdm.tables.build import build_sheet
from mdm.tables.gather import gather_runs

SEEDS = 8
ROWS = {
    "none": Row("none", "plain", ("penalty=none",)),
    "kl": Row("kl", "+ KL", ("penalty=kl",), baseline="none"),
    "f": Row("f", "+ F", ("penalty=f",), baseline="none"),
}


def declare_table(metric="mae", rows=("none", "kl"), seeds=SEEDS, **judged):
    columns = {"gaussian": {metric: ""}}
    return Table("t", seeds, {"gaussian": "gaussian"}, columns, {"gaussian": metric}, {r: ROWS[r] for r in rows}, **judged)


class Made:
    """Records of made-up runs. predictions, labels: [segments] or [segments, targets]; floor: the constant's MAE on validation."""

    def __init__(self, root):
        self.root = root

    def place(self, run):
        at = dict(override.split("=", 1) for override in run)
        config = {"name": "t", "seed": int(at["seed"]), "penalty": at["penalty"]}
        return self.root / at["penalty"] / f"seed={at['seed']}", config

    def write(
        self, row, seed, prediction, label, groups=None, targets=("sentiment",), label_range=(-3.0, 3.0), valid=None, floor=99
    ):
        folder, config = self.place([f"penalty={row}", f"seed={seed}"])
        p, y = prediction.reshape(len(label), -1), label.reshape(len(label), -1)
        test = evaluate(p, y, label_range, targets)
        record = {"data": "gaussian", "seed": seed, "test": test, "valid": test | (valid or {}), "label_range": list(label_range)}
        record |= {
            "valid_of_train_mean": {"mae": floor},
            "selected": {"by": "valid/mae"},
            "synthetic": True,
            "data_card": "card",
            "commit": "0123456",
        }
        record |= {"uncommitted_changes": False, "versions": {"torch": "2.9"}}
        names = [""] if len(targets) == 1 else [f"_{target}" for target in targets]
        sides = [(f"{side}{name}", v[:, j]) for side, v in (("label", y), ("prediction", p)) for j, name in enumerate(names)]
        rows = [
            {"id": f"s{i}", **({} if groups is None else {"group": groups[i]})} | {column: float(v[i]) for column, v in sides}
            for i in range(len(y))
        ]
        folder.mkdir(parents=True)
        records.write_atomically(folder / records.CONFIG, claims.dump({**config, "data_card": "card"}))
        records.finish(folder, record, rows)

    def write_errors(self, errors, videos=12):
        """A run's error is the same on every segment; two segments a video, labels between −2 and 2."""
        label = np.array([-2.0, -1.0, 1.0, 2.0] * (videos // 2))
        groups = [f"v{i // 2}" for i in range(2 * videos)]
        for row, of_seeds in errors.items():
            for seed, error in of_seeds.items() if isinstance(of_seeds, dict) else enumerate(of_seeds):
                self.write(row, seed, label + error, label, groups)

    def sheet(self, table, *arguments):
        return build_sheet("t", table, gather_runs(list_cells(table, arguments), self.place))


def contrast_of(sheet, row="kl"):
    return next(line for line in sheet.blocks[0].lines if line.row.name == row).contrast
