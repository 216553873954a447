"""What official means: forward pass, loss parts, gradients, 20 training steps, dropout places and initial spreads of a frozen run.

Each check takes a `Built`, which is what `mdm train tuned=official/… …` would train, with the frozen weights in it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from omegaconf import DictConfig
from oracles.dropout import drop_columns, dropping, keep_all
from oracles.frozen import Frozen, Names, load, of_learner, read, read_gradients
from torch import Tensor, nn
from torch.utils.data import DataLoader, Sampler
from transformers import PreTrainedModel

from mdm.backbones.mult import Layer
from mdm.data.splits import Splits
from mdm.ownership import own
from mdm.runs.build import build_learner, build_splits
from mdm.runs.config import check
from mdm.runs.trainer import build_trainer
from mdm.training.learner import Learner
from mdm.training.steps import NO_CLIPPING, Clipping
from mdm.training.views import Here
from mdm.types import Batch, Fusion

FORWARD, GRADIENT, TRAJECTORY = 1e-5, 1e-4, 0.02
"""Largest differences: of outputs and loss parts, of gradients, and after 20 steps in units of the largest movement."""
STARTS = 20
"""From so many random starts come the frozen initial spreads."""
Compose = Callable[..., DictConfig]
Output = Callable[[Any, Fusion, Batch], Tensor]
"""Of (backbone, fusion, batch): an output that a file has."""


@dataclass(frozen=True)
class System:
    """A frozen run and what reproduces it.

    option: the file of the group ``tuned`` below ``source``
    overrides: of the recipe's values by those of the frozen run, as on a command line
    names: official parameter → ours
    padded: overrides of the case ``padded/``; none if the run has no such case
    order: of a tensor whose dropout CheapDropout draws, our coordinate at each place of the official one
    constants: official parameters that are no parameters here
    rows: which segment of the first batch stands in each row of the official one
    steps: ours → official ones, as the file counts them
    prepare: what else the frozen run needs: folder → overrides, such as that of a text encoder
    """

    option: str
    overrides: Callable[[Frozen], list[str]]
    names: Callable[[Frozen], Names]
    padded: Callable[[Frozen], list[str]] | None = None
    order: Callable[[Frozen], Tensor] | None = None
    constants: tuple[str, ...] = ()
    rows: Callable[[Frozen], Tensor] | None = None
    steps: Mapping[int, int] = field(default_factory=lambda: {1: 1, 20: 20})
    prepare: Callable[[Frozen, Path], list[str]] | None = None
    source: str = "official"


@dataclass(frozen=True)
class Built:
    """A learner with the frozen weights, and batches in the order of the frozen run."""

    frozen: Frozen
    system: System
    case: str
    cfg: DictConfig
    splits: Splits
    learner: Learner
    names: Names

    @property
    def loader(self) -> DataLoader[Batch]:
        return self.load(self.frozen.batches())

    def load(self, batches: Sequence[list[int]]) -> DataLoader[Batch]:
        """Batches of training rows, the same in every epoch."""
        return self.splits._loader(self.splits._folds["train"], Fixed(batches))

    @property
    def first(self) -> Batch:
        """The first batch, in the order of its official rows."""
        rows = self.frozen.batches()[0]
        if self.system.rows is not None:
            rows = [rows[i] for i in self.system.rows(self.frozen)]
        return next(iter(self.load([rows])))


class Fixed(Sampler[list[int]]):
    """The same batches in every epoch, of critics too."""

    def __init__(self, batches: Sequence[list[int]]):
        self.batches = batches

    def set_epoch(self, epoch: int) -> None:
        """Every epoch is the first."""

    def __iter__(self) -> Iterator[list[int]]:
        return iter(self.batches)

    def __len__(self) -> int:
        return len(self.batches)


def build(system: System, frozen: Frozen, compose: Compose, folder: Path, case: str = "", extra: Sequence[str] = ()) -> Built:
    """Compose the official config at the frozen run's size, build what it says and load the weights."""
    padded = [] if not case or system.padded is None else system.padded(frozen)
    data = frozen.write(folder / "data", case)
    prepared = [] if system.prepare is None else system.prepare(frozen, folder)
    cfg = compose(
        *("data=mosi", f"tuned={system.source}/{system.option}", f"paths.data={data}"),
        *(f"data.batch_size={frozen.used['batch']}", *system.overrides(frozen), *prepared, *padded, *extra),
        small=False,
    )
    check(cfg)
    splits = build_splits(cfg)
    learner = build_learner(cfg, splits)
    names = of_learner(system.names(frozen))
    unnamed = frozen.parameters.keys() - names.keys() - set(system.constants)
    assert not unnamed, f"no name here for {sorted(unnamed)}"
    load(learner, names, frozen.parameters)
    for module in learner.modules():
        if isinstance(module, PreTrainedModel):
            module.set_attn_implementation("eager")  # whose dropout is a call that can be replaced, unlike that of a fused kernel
        elif isinstance(module, nn.MultiheadAttention):
            module.dropout = 0.0  # off in the frozen runs
        elif isinstance(module, Layer):
            module.attention_dropout.p = 0.0  # so are these
    built = Built(frozen, system, case, cfg, splits, learner, names)
    if learner.fresh is not None:
        learner.fresh = built.loader
    return built


def largest(found: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> float:
    """The largest difference over all that is expected; infinite where something of it is not there."""
    if set(expected) - set(found):
        return float("inf")
    return max((float((found[key].detach().float() - value).abs().max()) for key, value in expected.items()), default=0.0)


def terms(learner: Learner, batch: Batch) -> dict[str, Tensor]:
    """The parts of the training loss, as `Learner.training_step` adds them up."""
    encoded = learner.backbone.encode(batch)
    fusion = learner.backbone.fuse(encoded)
    found = {"task": learner.loss(fusion.prediction, batch.label)} | learner.backbone.own_terms(batch, encoded, fusion)
    return found | learner._penalty_terms(Here(batch, encoded, fusion, None))


def forward_difference(built: Built, outputs: Mapping[str, Output]) -> float:
    """Largest difference of the named outputs in evaluation mode."""
    expected, batch, backbone = built.frozen.group("out/", built.case), built.first, built.learner.backbone.eval()
    with torch.no_grad():
        fusion = backbone(batch)
        found = {key: of(backbone, fusion, batch) for key, of in outputs.items()}
    return largest(found, {key: expected[key] for key in outputs})


def loss_difference(built: Built, parts: Mapping[str, str]) -> float:
    """Largest difference of the loss parts in evaluation mode; parts: official → ours."""
    built.learner.backbone.eval()
    found = terms(built.learner, built.first)
    expected = built.frozen.group("loss/", built.case)
    return largest({key: found[ours] for key, ours in parts.items()}, {key: expected[key] for key in parts})


def gradient_difference(built: Built, critics: bool = True) -> float:
    """Largest difference of the gradients of the whole loss, dropout off; what has none there has none here, or zero.

    critics: whether those of the critics are of this loss, too
    """
    learner, expected = built.learner, built.frozen.group("grad/", built.case)
    learner.backbone.eval()
    learner.zero_grad()
    learner.clipping = Clipping(1.0, over="all") if critics else NO_CLIPPING  # the first lets critics have a gradient
    torch.stack(list(terms(learner, built.first).values())).sum().backward()
    found = read_gradients(learner, built.names)
    expected = {name: gradient for name, gradient in expected.items() if name not in built.system.constants}
    if not critics:
        expected = {name: gradient for name, gradient in expected.items() if not built.names[name].name.startswith("penalties.")}
    strays = [name for name, gradient in found.items() if name not in expected and gradient.abs().max() > 0]
    return float("inf") if strays else largest(found, expected)


class Snapshots(pl.Callback):
    """The weights under official names after some of the steps."""

    def __init__(self, names: Names, steps: Collection[int]):
        self.names, self.steps = names, steps
        self.taken: dict[int, dict[str, Tensor]] = {}

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
        if trainer.global_step in self.steps and trainer.global_step not in self.taken:
            self.taken[trainer.global_step] = read(pl_module, self.names)


def train(built: Built, folder: Path, callbacks: Sequence[pl.Callback] = ()) -> None:
    """Let the learner train as in a run, dropout off."""
    folder.mkdir(parents=True, exist_ok=True)
    with own(folder) as owner, dropping(keep_all):
        trainer = build_trainer(built.cfg, owner, built.splits.spec)
        trainer.callbacks.extend(callbacks)
        trainer.fit(built.learner, built.loader, built.splits.valid())


def trajectory_differences(built: Built, folder: Path) -> dict[int, float]:
    """Steps → the largest difference of a weight, dropout off, in units of the largest movement of the backbone's or the critics'.

    The learner trains as in a run.
    """
    snapshots = Snapshots(built.names, built.system.steps)
    train(built, folder, [snapshots])
    skip = set(built.frozen.trajectory(built.case)["undetermined"]) | set(built.system.constants)
    trained = {place.name for place in built.names.values()} & dict(built.learner.named_parameters()).keys()
    found: dict[int, float] = {}
    for ours, weights in snapshots.taken.items():
        steps = built.system.steps[ours]
        expected = {name: w.float() for name, w in built.frozen.after(steps, built.case).items() if name not in skip}
        critics = {name for name in expected if built.names[name].name.startswith("penalties.")}
        for part in (critics, expected.keys() - critics):
            wanted = {name: expected[name] for name in part}
            # Running means and counts of batches move further than any weight. A rate that rises from 0 moves nothing in step 1.
            weight = {name: value for name, value in wanted.items() if built.names[name].name in trained}
            unit = largest(built.frozen.parameters, weight) or 1.0
            found[steps] = max(found.get(steps, 0.0), largest(weights, wanted) / unit)
    assert set(found) == set(built.system.steps.values()), "the frozen run is longer"
    return found


def columns_difference(built: Built) -> float:
    """Difference of the predictions in training mode where each dropout of a rate takes the same columns of a width."""
    expected = built.frozen.group("columns/out/", built.case)["prediction"]
    order = None if built.system.order is None else built.system.order(built.frozen)
    with torch.no_grad(), dropping(drop_columns, order):
        found = built.learner.backbone.train()(built.first).prediction
    return float((found - expected).abs().max())


def spread_differences(built: Built) -> list[str]:
    """Official parameters that start from another law: mean, deviation or range of 20 starts differ by more than chance.

    With n entries each, two means differ by 5σ√(2/n) and two deviations (of laws whose kurtosis is at most the normal's) by
    5σ/√n with a chance below 1e-6. Where the largest entry is below 1.75σ the law is uniform (there it is √3 σ at most); its
    range is then off by 20/n of itself with a chance of e^−20.
    """
    starts: list[dict[str, Tensor]] = []
    for seed in range(STARTS):
        cfg = built.cfg.copy()
        cfg.seed = seed
        starts.append(read(build_learner(cfg, built.splits), built.names))
    wrong = []
    for name, (mean, deviation, most) in built.frozen.meta["init"].items():
        if name in built.system.constants or ".text.model." in built.names[name].name:  # of a checkpoint, in a run
            continue
        values = torch.stack([start[name] for start in starts]).double().flatten()
        n = len(values)
        ours = float(values.mean()), float(values.std(correction=0)), float(values.abs().max())
        limits = 5 * deviation * (2 / n) ** 0.5 + 1e-6, 5 * deviation / n**0.5 + 1e-6
        bad = abs(ours[0] - mean) > limits[0] or abs(ours[1] - deviation) > limits[1]
        if deviation and most < 1.75 * deviation:
            bad |= abs(ours[2] - most) > 20 / n * most + 1e-6
        if bad:
            wrong.append(f"{name}: {mean}, {deviation}, {most} became {ours[0]:.6f}, {ours[1]:.6f}, {ours[2]:.6f} (n={n})")
    return wrong
