"""Segments in the shapes of the field's files, and how seconds of one machine are told on another: for scripts/bench.py."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import numpy as np
import torch
from torch import nn

from mdm.data.base import Ragged, Segments

VOCABULARY = 30520  # word pieces of BERT, less the two that a random encoder adds
ALIKE = 0.15
"""A figure that is off the baseline by less is as it was: the reference itself varies by some per cent on a busy machine."""


def mosi_shaped(text: int = 768, audio: int = 5, video: int = 20, steps: int = 50, n: int = 1284, tokens: bool = False) -> Segments:
    """1284 training segments of 50 aligned steps, the shapes of MOSI's aligned file.

    tokens: text as ids of word pieces instead of vectors
    """
    rng = np.random.default_rng(0)
    total = n + 64
    offsets = np.arange(total + 1, dtype=np.int64) * steps

    def ragged(dim: int) -> Ragged:
        return Ragged(rng.standard_normal((total * steps, dim), dtype=np.float32), offsets)

    return Segments(
        name="bench",
        ids=tuple(str(i) for i in range(total)),
        fold=np.array(["train"] * n + ["valid"] * 32 + ["test"] * 32),
        group=np.array([str(i) for i in range(total)]),
        label=rng.uniform(-3, 3, (total, 1)).astype(np.float32),
        targets=("sentiment",),
        label_range=(-3, 3),
        modalities={"audio": ragged(audio), "video": ragged(video)},
        text={"tokens": Ragged(rng.integers(2, VOCABULARY, total * steps, dtype=np.int32), offsets)}
        if tokens
        else {"vectors": ragged(text)},
        aligned=("tokens" if tokens else "vectors", "audio", "video"),
    )


def unaligned(n: int) -> Segments:
    """Segments of 50 words, 500 audio frames of 74 and 375 video frames of 35."""
    rng = np.random.default_rng(0)
    total = n + 64
    tile = rng.standard_normal(4096, dtype=np.float32)

    def ragged(steps: int, dim: int) -> Ragged:
        return Ragged(np.resize(tile, (total * steps, dim)), np.arange(total + 1, dtype=np.int64) * steps)

    base = mosi_shaped(text=1, audio=1, video=1, steps=1, n=n)
    features = {"audio": ragged(500, 74), "video": ragged(375, 35)}
    return Segments(
        **{k: getattr(base, k) for k in ("name", "ids", "fold", "group", "label", "targets", "label_range")},
        modalities=features,
        text={"vectors": ragged(50, 300)},
    )


class Figures:
    """What was measured, in units of a loop that is measured beside it: so figures of two machines can be compared."""

    def __init__(self, now: Callable[[], float], steps: int = 20):
        self.now, self.steps, self.values = now, steps, dict[str, float]()
        self.units = [self._time_reference()]

    def note(self, key: str, seconds: float) -> float:
        self.values[key] = seconds
        return seconds

    def _time_reference(self) -> float:
        """Seconds of some steps of an LSTM and a matrix product: median of five rounds, after one that warms up."""
        torch.manual_seed(0)
        lstm, square, x = nn.LSTM(256, 128, batch_first=True), nn.Linear(1024, 1024), torch.randn(32, 40, 256)
        rounds = []
        for _ in range(6):
            start = self.now()
            for _ in range(self.steps):
                (lstm(x)[0].mean() + square(x.reshape(-1, 1024)).mean()).backward()
            rounds.append(self.now() - start)
        return median(rounds[1:])

    def write(self, path: Path, baseline: Path) -> str:
        """Keep the figures as JSON; what has changed against a baseline, as Markdown."""
        self.units.append(self._time_reference())
        unit = sum(self.units) / len(self.units)
        figures = {key: round(value / unit, 4) for key, value in self.values.items()}
        path.parent.mkdir(parents=True, exist_ok=True)
        record = {"torch": torch.__version__, "threads": torch.get_num_threads(), "when": time.strftime("%Y-%m-%d"), "unit_s": unit}
        path.write_text(json.dumps({**record, "figures": figures}, indent=1) + "\n", encoding="utf-8")
        if not baseline.is_file():
            return f"{path} has the figures in units of the reference loop ({unit:.3f} s)."
        before = json.loads(baseline.read_text(encoding="utf-8"))["figures"]
        both = {key: figures[key] / before[key] for key in figures if before.get(key)}
        moved = {key: ratio for key, ratio in both.items() if abs(ratio - 1) > ALIKE}
        said = f"{len(moved)} of {len(both)} figures that {baseline.name} has too moved by more than {ALIKE:.0%}, in units of"
        lines = [f"{said} the reference loop ({unit:.3f} s){':' if moved else '.'}"]
        return "\n".join(lines + [f"- {key}: {ratio:.2f} times" for key, ratio in sorted(moved.items(), key=lambda item: item[1])])
