"""Records that were made up for a report: curves, metrics, predictions and studies of two rows."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from omegaconf import OmegaConf

from mdm.metrics import evaluate
from mdm.report.page import render_page
from mdm.runs import claims, records
from mdm.studies import Frames
from mdm.studies._write import write_figure
from mdm.studies.robustness import Robustness
from mdm.study import Experiment
from mdm.sweeps.experiment import Row, Table, list_cells
from mdm.tables.build import build_sheet
from mdm.tables.gather import gather_runs

SEEDS = 6
LABEL = np.array([-2.0, -1.0, 1.0, 2.0] * 3)
ERRORS = {"none": [0.80 + 0.01 * s for s in range(SEEDS)], "kl": [0.50 + 0.02 * s for s in range(SEEDS)]}
ROWS = {
    "none": Row("none", "<b>plain</b> & simple", ("penalty=none",)),
    "kl": Row("kl", "+ KL", ("penalty=kl",), baseline="none"),
}


def curve(seed, epochs, penalty):
    """Losses fall by a tenth an epoch; a penalty reads 5 on its rows and −5 on others, whose difference must not be lost."""
    for epoch in range(epochs):
        row = {"epoch": float(epoch), "train/task": 1.5 - 0.1 * epoch + 0.01 * seed}
        if penalty == "kl":
            row |= {"train/kl/term": -0.5 * epoch}
        row |= {"valid/mae": 1.4 - 0.1 * epoch + 0.01 * seed, "valid/corr": 0.5, "valid/acc2_pos": 0.75}
        if penalty == "kl":
            row |= {"valid/kl/estimate": -5.0, "train/kl/estimate": 5.0}
        yield {**row, "seconds": 1.0}


class Outputs:
    """Records of an experiment ``t`` with two rows. Seed s trains 5 + s epochs; the last of them is chosen."""

    def __init__(self, root):
        self.root = root

    def place(self, run):
        at = dict(override.split("=", 1) for override in run)
        config = {"name": "t", "seed": int(at["seed"]), "trainer": {"max_epochs": 8, "patience": 3}, "penalty": at["penalty"]}
        return self.root / "t" / at["data"] / at["penalty"] / f"seed={at['seed']}", config

    def write(self, penalty, seed, data="synthetic"):
        folder, config = self.place([f"data={data}", f"penalty={penalty}", f"seed={seed}"])
        prediction = (LABEL + ERRORS[penalty][seed])[:, None]
        metrics = evaluate(prediction, LABEL[:, None], (-3.0, 3.0), ("sentiment",))
        epochs = min(5 + seed, 8)
        record = {"data": data, "seed": seed, "test": metrics, "test_of_train_mean": {**metrics, "corr": None}, "synthetic": True}
        record |= {
            "valid_of_train_mean": {"mae": 99.0},
            "valid": metrics | ({"kl/estimate": -5.0} if penalty == "kl" else {}),
            "label_range": [-3.0, 3.0],
        }
        record |= {"selected": {"by": "valid/mae", "epoch": epochs - 1, "epochs": epochs}, "seconds": 30.0 + seed}
        record |= {
            "folds": {"train": 400, "valid": 100, "test": 12},
            "modalities": ["language", "audio"],
            "commit": "0123456789abc",
        }
        record |= {
            "parameters": {"backbone": 1234, "critics": 0 if penalty == "none" else 56},
            "truth": {"total_correlation": 4.3586},
        }
        record |= {
            "uncommitted_changes": False,
            "versions": {"torch": "2.9"},
            "machine": {"threads": 1},
            "data_card": f"{data}-card",
        }
        folder.mkdir(parents=True)
        records.write_atomically(folder / records.CONFIG, claims.dump({**config, "data_card": f"{data}-card"}))
        records.write_table(folder / records.CURVE, list(curve(seed, epochs, penalty)))
        table = zip([f"s{i}" for i in range(len(LABEL))], LABEL.tolist(), prediction[:, 0].tolist(), strict=True)
        found = [{"id": i, "group": i, "label": label, "prediction": value} for i, label, value in table]
        records.finish(folder, record, found)
        return folder

    def read(self, seeds=SEEDS, rows=ROWS, **judged):
        columns = {"mosi": {"mae": "mae", "acc2_pos": ""}}
        declared = Table("A <title>", seeds, {"synthetic": "mosi"}, columns, {"mosi": "mae"}, rows, **judged)
        gathered = gather_runs(list_cells(declared, ()), self.place)
        return build_sheet("t", declared, gathered), gathered

    def page(self):
        return render_page(*self.read(), self.root / "t", ["experiment=t", "seed=range(6)", "paths.outputs=/some/where"])


def write_outputs(folder):
    """All runs of both rows, with two studies."""
    made = Outputs(folder)
    for penalty in ERRORS:
        for seed in range(SEEDS):
            made.write(penalty, seed)
    drop(made.root / "t" / "robustness")
    disentangle(made.root / "t" / "codes")
    return made


def drop(folder):
    """As its study leaves it: without language .6 is left to ``none``, .7 to ``kl``; the seeds of both lie ±.01 about that."""
    folder.mkdir(parents=True)
    rows = []
    for row in ROWS.values():
        for seed in range(SEEDS):
            base = {
                "data": "synthetic",
                "row": row.name,
                "label": row.label,
                "seed": seed,
                "mae": 1.0,
                "corr": 0.5,
                "constant": False,
                "majority": 0.5,
            }
            rows.append({**base, "kept": "language+audio", "corruption": "none", "level": 0.0, "acc2_pos": 1.0, "ratio": 1.0})
            for corruption, level in (("absent", 1.0), ("noise", 0.5), ("noise", 1.0)):
                ratio = (0.6 if row.name == "none" else 0.7) + (0.01 if seed % 2 else -0.01)
                own = {"kept": "audio", "corruption": corruption, "level": level, "acc2_pos": ratio, "ratio": ratio}
                rows.append({**base, **own})
    study = Robustness([["audio"]], ["absent", "noise"], [0.5, 1.0])
    experiment = Experiment(OmegaConf.create(), Table("A title", SEEDS, {}, {}, {}, ROWS), [], [])
    frames = Frames({"runs": pd.DataFrame(rows)}, experiment, "What is left")
    frames = Frames({**frames.tables, **study.derive(frames)}, experiment, "What is left")
    (folder / "summary.md").write_text(study.summary(frames), encoding="utf-8")
    write_figure(folder, lambda: study.figure(frames))


def disentangle(folder):
    """As any study leaves it."""
    folder.mkdir(parents=True)
    figure = Figure(figsize=(2, 1))
    figure.subplots().plot([0, 1])
    figure.savefig(folder / "figure.png")
    told = "# Clouds\n\n## On *test*\n\n| of | R² |\n|---|---|\n| a <u>pair</u> | 0.5 |\n\nNot <script>alert()</script> obeyed.\n"
    (folder / "summary.md").write_text(told, encoding="utf-8")
