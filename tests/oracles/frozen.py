"""Frozen runs of official code: reading one, its segments as a store, and its parameters under our names.

A file holds weights, inputs, outputs, losses, gradients and where the weights stood after 1 and after 20 steps, all under the
official names. They lie in MDM_ORACLES, or beside the repository; those of MMSA (`freeze_mmsa.py`) lie here.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from mdm.data.base import Ragged, Segments
from mdm.data.writing import write_store

FOLDER = Path(os.environ.get("MDM_ORACLES", Path(__file__).resolve().parents[3] / "shared" / "oracles"))
HELD_OUT = 4
"""Segments of the validation and of the test fold, which a run must have: copies of the first ones."""


class Frozen:
    """One file.

    >>> frozen = Frozen("mfn")
    >>> frozen.group("out/")["prediction"].shape
    torch.Size([5, 1])
    """

    def __init__(self, name: str):
        own = Path(__file__).with_name(f"{name}.npz")
        path = own if own.is_file() else FOLDER / own.name
        if not path.is_file():
            pytest.skip(f"no frozen run of official code: set MDM_ORACLES (looked for {path})")
        with np.load(path) as arrays:
            self.arrays = {key: arrays[key] for key in arrays.files}
        self.meta: dict[str, Any] = json.loads(str(self.arrays.pop("meta")))
        self.used: dict[str, Any] = self.meta["used"]
        self.dropout: dict[str, Any] = self.meta["dropout"]

    def group(self, prefix: str, case: str = "") -> dict[str, Tensor]:
        """All arrays below a prefix, by the rest of their keys; of the main case, or of ``padded/``."""
        start = case + prefix
        return {key.removeprefix(start): torch.tensor(value) for key, value in self.arrays.items() if key.startswith(start)}

    @property
    def parameters(self) -> dict[str, Tensor]:
        """The weights and buffers at the start, for every case."""
        return self.group("param/")

    def after(self, steps: int, case: str = "") -> dict[str, Tensor]:
        """The weights after so many steps; what the file leaves out because it has not moved is as at the start."""
        still = [name for name, norm in self.trajectory(case)["norm_of_movement"].items() if norm == 0]
        return {name: self.parameters[name] for name in still if name in self.parameters} | self.group(f"after{steps}/", case)

    def trajectory(self, case: str = "") -> dict[str, Any]:
        return self.meta["trajectory"][case or "main"]

    def sequences(self, modality: str, case: str = "") -> list[np.ndarray]:
        """The real steps of each segment."""
        ends = np.cumsum(self.arrays[f"{case}input/{modality}_lengths"])
        return np.split(self.arrays[f"{case}input/{modality}"], ends[:-1])

    def segments(self, case: str = "") -> Segments:
        """The training fold is the file's segments in their order; vectors of language are the text ``vectors``, ids ``words``."""
        label = self.arrays[f"{case}input/label"].reshape(len(self.arrays[f"{case}input/label"]), -1)
        rows = np.r_[np.arange(len(label)), np.arange(HELD_OUT), np.arange(HELD_OUT)]
        found = {m: [self.sequences(m, case)[i] for i in rows] for m in ("language", "audio", "video")}
        spoken = found.pop("language")
        if spoken[0].ndim == 2:
            text = {"vectors": Ragged.of(spoken)}
        else:  # the first two of `words` are padding and the unknown word, as here
            text = {"words": Ragged.of(spoken, ("<pad>", *self.meta["words"][1:]))}
        n = len(rows)
        aligned = all(len({len(s) for s in each}) == 1 for each in zip(spoken, *found.values(), strict=True))
        low, high = self.used.get("output_range") or (-3.0, 3.0)
        return Segments(
            name="frozen",
            ids=tuple(f"segment_{i}" for i in range(n)),
            fold=np.array(["train"] * len(label) + ["valid"] * HELD_OUT + ["test"] * HELD_OUT),
            group=np.array([f"video_{i}" for i in range(n)]),
            label=label[rows].astype(np.float32),
            targets=("sentiment",),
            label_range=(float(low), float(high)),
            modalities={m: Ragged.of(sequences) for m, sequences in found.items()},
            text=text,
            aligned=(*text, *found) if aligned else (),
        )

    def write(self, folder: Path, case: str = "") -> Path:
        """The segments as the store ``mosi``; returns the folder that ``paths.data`` names."""
        folder.mkdir(parents=True, exist_ok=True)
        write_store(self.segments(case), folder / "mosi")
        return folder

    def batches(self) -> list[list[int]]:
        """Rows of each batch of an epoch: consecutive ones; ``used.order`` says whether a smaller last one is kept."""
        n, size = len(self.arrays["input/label"]), self.used["batch"]
        batches = [list(range(i, min(i + size, n))) for i in range(0, n, size)]
        kept = any(word in self.used["order"] for word in ("kept", "smaller")) or len(batches[-1]) == size
        return batches if kept else batches[:-1]


@dataclass(frozen=True)
class Own:
    """Where an official parameter lies here: ``name`` of the backbone's state, or a part of it.

    index: what of it, such as rows that two official matrices share here, or columns in the official order
    transposed: whether it is a matrix that stands the other way round here

    ``name`` may begin with ``penalties.``, where the learner's critics are.
    """

    name: str
    index: Any = ...
    transposed: bool = False

    def turn(self, value: Tensor) -> Tensor:
        """From here to there, or back."""
        return value.T if self.transposed else value


Names = Mapping[str, Own]
"""Official name → ours."""


def of_learner(names: Names) -> Names:
    """Names below a learner: those of its backbone, and of its critics."""
    return {
        official: own if own.name.startswith("penalties.") else replace(own, name=f"backbone.{own.name}")
        for official, own in names.items()
    }


def load(module: nn.Module, names: Names, values: Mapping[str, Tensor]) -> None:
    """Put official weights in the place of ours."""
    own = module.state_dict(keep_vars=True)
    with torch.no_grad():
        for official, place in names.items():
            # Assigned by index, since an index of columns gives a copy.
            own[place.name][place.index] = place.turn(values[official].to(own[place.name].dtype))


def read(module: nn.Module, names: Names) -> dict[str, Tensor]:
    """Our weights under their official names."""
    own = module.state_dict()
    return {official: place.turn(own[place.name][place.index]).clone() for official, place in names.items()}


def read_gradients(module: nn.Module, names: Names) -> dict[str, Tensor]:
    """The gradients of our parameters under the official names; none for what has no gradient."""
    own = dict(module.named_parameters())
    found = {official: (own[place.name].grad, place) for official, place in names.items() if place.name in own}
    return {
        official: place.turn(gradient[place.index]).clone() for official, (gradient, place) in found.items() if gradient is not None
    }
