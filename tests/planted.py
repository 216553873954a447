"""Data whose test fold has a label, frames and names that occur nowhere else."""

import types
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import torch

from mdm.data.base import Ragged, Segments

LABEL, FRAME, NAME = float(np.float32(-2.876543)), 54321.0, "zqxtest"
"""A label, a frame and a part of names, of the test fold alone."""
SIZES = {"train": 96, "valid": 32, "test": 40}


def plant(segments: Segments) -> Segments:
    """The same segments; labels, audio and names of the test fold are told from all others."""
    test = segments.fold == "test"
    audio = segments.modalities["audio"]
    values = np.where(np.repeat(test, audio.lengths)[:, None], np.float32(FRAME), audio.values)
    label = np.where(test[:, None], np.float32(LABEL), segments.label)
    return replace(
        segments,
        label=label,
        unimodal={"audio": label},
        ids=tuple(f"{NAME}{i}" if here else name for i, (here, name) in enumerate(zip(test, segments.ids, strict=True))),
        group=np.where(test, f"{NAME}group", segments.group),
        modalities={**segments.modalities, "audio": Ragged(values, audio.offsets)},
    )


class Walk:
    """Everything that a value leads to: attributes, slots, properties of arrays, containers, closures, bound objects, frames."""

    def __init__(self):
        self.seen, self.kept, self.found = set(), [], []

    def __call__(self, *values):
        waiting = list(values)
        while waiting:
            value = waiting.pop()
            if id(value) in self.seen or isinstance(value, types.ModuleType):
                continue
            self.seen.add(id(value))
            self.kept.append(value)  # or another object may get its id
            self.look(value)
            waiting += self.steps(value)
        return self.found

    def look(self, value):
        if isinstance(value, torch.Tensor):
            value = value.detach().numpy() if value.device.type == "cpu" and value.layout == torch.strided else np.zeros(0)
        if isinstance(value, str) and NAME in value:
            self.found.append(value[:80])
        if isinstance(value, np.ndarray) and value.dtype.kind == "f":
            self.found += [wanted for wanted in (LABEL, FRAME) if (value == wanted).any()]
        if isinstance(value, np.ndarray) and value.dtype.kind == "U" and any(NAME in text for text in value.ravel()):
            self.found.append("names")
        if isinstance(value, float) and value in (LABEL, FRAME):
            self.found.append(value)

    def steps(self, value):
        if isinstance(value, str | bytes | int | float | bool | None | type):
            return []
        found = [getattr(value, "__dict__", None), getattr(value, "base", None), getattr(value, "__self__", None)]
        found += [getattr(value, name, None) for kind in type(value).__mro__ for name in getattr(kind, "__slots__", ())]
        found += [cell.cell_contents for cell in getattr(value, "__closure__", None) or () if holds(cell)]
        found += [
            getattr(value, name, None) for name in ("__wrapped__", "__defaults__", "__kwdefaults__", "func", "args", "keywords")
        ]
        if isinstance(value, types.GeneratorType) and value.gi_frame is not None:
            found.append(dict(value.gi_frame.f_locals))
        if isinstance(value, memoryview) and value.obj is not None:
            found.append(np.asarray(value.obj))
        if isinstance(value, Mapping):
            found += [*value.keys(), *value.values()]
        elif isinstance(value, list | tuple | set | frozenset):
            found += value
        elif isinstance(value, torch.Tensor):
            found += [value.grad_fn] if value.grad_fn is not None else []
        return [step for step in found if step is not None]


def holds(cell):
    try:
        cell.cell_contents  # noqa: B018
    except ValueError:
        return False
    return True
