"""After a run: what it trained, with all that it needs to read segments, in one line.

    trained = mdm.load("outputs/single/synthetic/lmf/kl/seed=0")
    trained.predict(trained.segments(language=[["a", "lovely", "film"]], audio=[frames], video=[frames]))

Opens finished records only, so nothing is chosen any more: what studies of robustness and explanations read of the test fold, they
read after the choice. It opens by the record's own selection, which must agree with its curve and its checkpoint.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from omegaconf import DictConfig, OmegaConf
from torch.utils.data import DataLoader

from mdm.backbones.base import Backbone
from mdm.data.base import UNKNOWN, UNLABELED, Ragged, Segments
from mdm.data.seal import select
from mdm.data.splits import Splits
from mdm.runs import records
from mdm.runs.build import build_learner, build_splits
from mdm.runs.checkpoints import restore
from mdm.runs.config import check
from mdm.runs.members import make
from mdm.runs.records import BEST
from mdm.runs.remarks import silence_remarks
from mdm.runs.untrusted import read_config
from mdm.training.learner import Learner
from mdm.training.predict import predict
from mdm.types import Batch


@dataclass(frozen=True)
class Trained:
    """A finished run: its config, record and data; its backbone and penalties at the chosen checkpoint (CPU, evaluation mode)."""

    folder: Path
    cfg: DictConfig
    record: Mapping[str, Any]
    splits: Splits
    learner: Learner

    @property
    def backbone(self) -> Backbone:
        return self.learner.backbone

    def batches(self, fold: str) -> DataLoader[Batch]:
        """A fold of the run's own data, in order."""
        if fold == "test" and not self.splits.opened:
            chosen, curve = self.record["selected"], self.folder / records.CURVE
            value = self.record["valid"][chosen["by"].removeprefix("valid/")]
            key = select(self.folder / BEST, curve, chosen["epoch"], chosen["by"], np.nan if value is None else value)
            return self.splits.open_test(key)
        return self.splits.in_order(fold)

    @cached_property
    def data(self) -> Segments:
        """The run's whole data set, its test fold too."""
        segments = make(self.cfg.data.segments)
        expect_card(self.splits.card_hash, segments.card_hash, segments.name)
        return segments

    def predict(self, segments: Segments) -> Float[np.ndarray, "n targets"]:
        """Predictions for new segments, in their order, in the units of the labels.

        Raises ValueError if they lack a modality of the run or have other features, and for the run's own data.
        """
        return predict(self.backbone, self.splits.like(segments).every())[0]

    def segments(self, **sequences: Sequence[Any]) -> Segments:
        """New segments, without labels.

        sequences: modality → one sequence a segment: words as a list of strings where the run reads words, token ids where it
            reads those, else frames [time, dim] as they come from the extractor that made the training data (the run scales
            them). An empty sequence says that a segment lacks the modality

        Raises ValueError unless there is a sequence a segment of every modality of the run.
        """
        counts = {m: len(each) for m, each in sequences.items()}
        wanted = self.splits.spec.features
        if set(counts) != set(wanted) or len(set(counts.values())) != 1 or 0 in counts.values():
            raise ValueError(
                f"Each segment needs a sequence of {', '.join(wanted)}, got {counts}; give every modality for every segment, "
                "an empty sequence where it is missing."
            )
        text, modalities = {}, {}
        for m, feature in wanted.items():
            each = [look_up_ids(words, feature.vocabulary) for words in sequences[m]] if feature.vocabulary else sequences[m]
            arrays = [np.asarray(values, dtype=np.int32 if feature.tokens else np.float32) for values in each]
            ragged = Ragged.of(arrays, feature.vocabulary, 0 if feature.tokens else feature.dim)
            if m == "language":
                text[str(self.cfg.data.text)] = ragged
            else:
                modalities[m] = ragged
        n, spec = next(iter(counts.values())), self.splits.spec
        aligned = (*text, *modalities) if spec.aligned and len(wanted) > 1 else ()
        return Segments(
            name="new segments",
            ids=tuple(str(i) for i in range(n)),
            fold=np.full(n, UNLABELED),
            group=np.array([str(i) for i in range(n)]),
            label=np.full((n, len(spec.targets)), np.nan, np.float32),
            targets=spec.targets,
            label_range=spec.label_range,
            modalities=modalities,
            text=text,
            aligned=aligned,
        )


def expect_card(trained_on: str, came: str, name: str) -> None:
    """Raise ValueError unless data are those that a run was trained on."""
    if came != trained_on:
        raise ValueError(
            f"A run is read with the data that it was trained on, whose card is {trained_on[:12]}, but {name} is now {came[:12]}; "
            "restore that store, or train again."
        )


def look_up_ids(words: Sequence[str], vocabulary: Sequence[str]) -> list[int]:
    """Words as ids; words outside the vocabulary become the unknown word."""
    index = {word: i for i, word in enumerate(vocabulary)}
    return [index.get(word, UNKNOWN) for word in words]


def load(folder: str | Path) -> Trained:
    """The run that finished in a folder.

    A record is data (`mdm.runs.members`, `mdm.runs.untrusted`): nothing in it runs, whoever wrote it.

    Raises ValueError if none did, if it was a baseline without a checkpoint of weights, if its data are not there any more or have
    changed, and if its config or its checkpoint are not what a run of this package writes.
    """
    folder = Path(folder)
    record = records.read_record(folder)
    config = read_config(folder / records.CONFIG)
    card = config.pop("data_card", None)
    if not isinstance(card, str):
        raise ValueError(f"{folder / records.CONFIG} must have data_card, the hash of its data's card, but has none; train again.")
    cfg = OmegaConf.create(config)
    assert isinstance(cfg, DictConfig)
    check(cfg)
    if "baseline" in cfg.model:
        raise ValueError(f"{folder} is a baseline, which has no weights; load a run of another model.")
    silence_remarks()
    splits = build_splits(cfg)
    expect_card(card, splits.card_hash, cfg.data.name)
    learner = build_learner(cfg, splits)
    restore(learner, folder / BEST, cfg.trainer.precision)
    altered = records.find_problems(folder)
    if altered:
        raise ValueError(altered[0])
    return Trained(folder, cfg, record, splits, learner.eval())
