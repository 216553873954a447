"""Another installed package brings a backbone, a penalty, a reader and configs, and nothing of ours is edited.

The package is made here: Python files, YAML files, and the dist-info that an installation would leave.
"""

import csv
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from mdm.formats import prepare as preparing
from mdm.formats.prepare import formats, help_text
from mdm.runs import records

ROOT = Path(__file__).resolve().parents[1]

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
            rows.append(RawSegment(f"s{i}", line[0], f"s{i}", np.array([float(line[1])]), {"audio": numbers[0], "video": numbers[1]}))
    return assemble(rows, format="magpie", source=source, files={}, options={"scale": scale}, label_range=(-3.0, 3.0), name=name)
''',
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

[mdm.metrics]
worst = magpie.metrics:WORST

[mdm.formats]
magpie = magpie.files:read_magpie

[mdm.configs]
magpie = magpie.configs
""",
}


@pytest.fixture
def site(tmp_path):
    """A folder of installed packages with magpie in it."""
    for name, text in FILES.items():
        path = tmp_path / "site" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text.lstrip("\n"))
    return tmp_path / "site"


def test_a_package_is_prepared_and_trained_with(site, tmp_path, in_turn):
    here = tmp_path / "here"
    here.mkdir()
    with open(here / "birds.csv", "w", newline="", encoding="utf-8") as file:
        for fold, n in (("train", 24), ("valid", 12), ("test", 12)):
            csv.writer(file).writerows([[fold, i % 7 - 3, *(i * k % 5 for k in range(8))] for i in range(n)])
    said = in_turn(
        [
            ["prepare", "--help"],
            ["prepare", "format=magpie", "source=birds.csv", "out=data/nest", "options.scale=0.5"],
            ["train", "data=nest", "model=magpie", "penalty=peck", "trainer.max_epochs=2", "trainer.select=worst"],
            ["train", "--help"],
        ],
        here,
        [site, ROOT],
    )
    assert "\n  magpie\n      A CSV file: fold, label" in said
    assert "options: scale=1.0" in said
    assert "magbert, magpie, magxlnet" in said
    (folder,) = here.glob("outputs/single/nest/magpie/peck/trainer.max_epochs=2,trainer.select=worst/seed=0")
    record = records.read_record(folder)
    # 8 numbers → 6, and 6 → 1, with biases.
    assert record["parameters"] == {"backbone": 8 // 2 * 6 + 6 + 6 + 1, "critics": 0}
    assert (record["data"], record["model"], record["penalty"]) == ("nest", "magpie", "peck")
    predictions, curve = (records.read_table(folder, name) for name in (records.PREDICTIONS, records.CURVE))
    assert record["test"]["worst"] == pytest.approx((predictions.prediction - predictions.label).abs().max())
    assert record["valid"]["worst"] == curve["valid/worst"].min()


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("csd", "magpie.files:read_magpie", r"Each format has one reader, but magpie\.files:read_magpie is declared as csd"),
        ("magpie", "nobody_has_this:x", r"magpie is an entry point of mdm\.formats, but nobody_has_this:x cannot be imported"),
        (
            "magpie",
            "json:loads",
            r"An entry point of mdm\.formats is a function \(source, .*\) -> Segments, but magpie = json:loads",
        ),
        ("magpie", "json:JSONDecoder", r"but magpie = json:JSONDecoder is none"),
    ],
)
def test_a_declared_format_that_is_none(monkeypatch, name, value, message):
    monkeypatch.setattr(preparing, "entry_points", lambda group: [EntryPoint(name, value, group)])
    with pytest.raises(ValueError, match=message):
        formats()
    with pytest.raises(ValueError, match=message):
        help_text()
