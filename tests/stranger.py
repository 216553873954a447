"""An installed package of somebody else's: Python files, YAML files, and the dist-info that an installation would leave."""

FILES = {
    "magpie/__init__.py": "",
    "magpie/backbone.py": '''
import torch
from torch import nn

from mdm.backbones.base import Backbone
from mdm.backbones.layers import masked_mean
from mdm.hints import Size
from mdm.types import Batch, DataSpec, Encoded, Fusion


class Magpie(Backbone):
    """The means of all modalities side by side, through one layer."""

    def __init__(self, spec: DataSpec, feathers: Size = 8):
        super().__init__()
        self.z_dim = feathers
        self.unimodal_dims = {m: feature.dim for m, feature in spec.features.items()}
        self.fusion = nn.Linear(sum(self.unimodal_dims.values()), feathers)
        self.head = nn.Linear(feathers, len(spec.targets))

    def encode(self, batch: Batch) -> Encoded:
        return {m: {"mean": masked_mean(sequence)} for m, sequence in batch.sequences.items()}

    def fuse(self, encoded: Encoded) -> Fusion:
        unimodal = {m: parts["mean"] for m, parts in encoded.items()}
        z = torch.tanh(self.fusion(torch.cat(list(unimodal.values()), dim=1)))
        return Fusion(self.head(z), z, unimodal)
''',
    "magpie/penalty.py": '''
from torch import Tensor

from mdm.penalties.base import Penalty, View


class Peck(Penalty):
    """Adds λ·mean(Z²)."""

    def __init__(self, z_dim: int, weight: float, unimodal_dims: dict[str, int], part_dims: dict[str, int] | None = None):
        super().__init__(weight)

    def estimate(self, view: View) -> dict[str, Tensor]:
        return {"square": view.joint.z.square().mean()}

    def forward(self, view: View) -> dict[str, Tensor]:
        return {"term": self.weight * self.estimate(view)["square"]}
''',
    "magpie/metrics.py": """
import numpy as np

from mdm.metrics.base import Metric

WORST = Metric(heading="Worst", convention="the largest error", better="lower", whole=lambda p, y: float(np.abs(p - y).max()))
""",
    "magpie/files.py": '''
import csv
import sys
from pathlib import Path

import numpy as np

from mdm.data.base import Segments
from mdm.formats.base import RawSegment, assemble


def read_magpie(source: str | Path, *, scale: float = 1.0, name: str = "") -> Segments:
    """A CSV file: fold, label, and two numbers for each of two steps of audio and video."""
    rows = []
    with open(source, newline="") as file:
        for i, line in enumerate(csv.reader(file)):
            numbers = scale * np.array(line[2:], dtype=np.float64).reshape(2, 2, 2)
            label, found = np.array([float(line[1])]), {"audio": numbers[0], "video": numbers[1]}
            rows.append(RawSegment(f"s{i}", line[0], f"s{i}", label, found))
    return assemble(rows, format="magpie", source=source, files={}, options={"scale": scale}, label_range=(-3.0, 3.0), name=name)
''',
    "magpie/tests.py": '''
from scipy.stats import ttest_ind

from mdm.statistics.verdicts import Evidence, Statistic


class Welch(Statistic):
    """Welch's t test, to which runs are no pairs."""

    name = "Welch"

    def compute_p(self, found: Evidence) -> float:
        return float(ttest_ind(*found.values, equal_var=False, nan_policy="omit").pvalue)
''',
    "magpie/perch.py": '''
from matplotlib.figure import Figure

from mdm.runs import records
from mdm.studies import Frames, Study, Tables


class Perch(Study):
    """How many epochs a run had."""

    def measure(self, run) -> Tables:
        return {"epochs": [{**run.keys, "epochs": len(records.read_table(run.folder, records.CURVE))}]}

    def summary(self, frames: Frames) -> str:
        return f"# {frames.title}\\n\\n{frames['epochs'].epochs.sum()} epochs.\\n"

    def figure(self, frames: Frames) -> Figure:
        figure = Figure()
        figure.subplots().hist(frames["epochs"].epochs)
        return figure
''',
    "magpie/configs/study/perch.yaml": """
# @package _global_
study: {_target_: magpie.perch.Perch}
""",
    "magpie/configs/experiment/birds.yaml": """
# @package _global_
name: birds
trainer: {max_epochs: 2, select: worst}
table:
  title: Birds
  seeds: 3
  data: {nest: nest}
  metrics: {mae: "", worst: ""}
  primary: worst
  rows:
    none: {label: Magpie, run: [model=magpie, penalty=none]}
    peck: {label: + peck, run: [model=magpie, penalty=peck, penalty.weight=10], baseline: none}
""",
    "magpie/configs/data/nest.yaml": """
defaults: [base/reading@_here_, _self_]
name: nest
segments: {_target_: mdm.data.store.open_store, path: "${paths.data}/nest"}
text: null
batch_size: 8
""",
    "magpie/configs/model/magpie.yaml": """
name: magpie
backbone: {_target_: magpie.backbone.Magpie, feathers: 6}
own_penalty: null
loss: {_target_: torch.nn.L1Loss}
optimizer: {_target_: torch.optim.AdamW, lr: 0.001}
groups: {}
decay: all
schedule: null
by_length: false
""",
    "magpie/configs/penalty/peck.yaml": """
name: peck
weight: 0.1
measure_only: false
objective: {_target_: magpie.penalty.Peck}
critic: null
""",
    "magpie-1.0.dist-info/METADATA": "Metadata-Version: 2.1\nName: magpie\nVersion: 1.0\n",
    "magpie-1.0.dist-info/entry_points.txt": """
[mdm.members]
backbone = magpie.backbone:Magpie
penalty = magpie.penalty:Peck
study = magpie.perch:Perch

[mdm.statistics]
welch = magpie.tests:Welch

[mdm.metrics]
worst = magpie.metrics:WORST

[mdm.formats]
magpie = magpie.files:read_magpie

[mdm.configs]
magpie = magpie.configs
""",
}
