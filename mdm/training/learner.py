"""Stage four, learner: the one training loop, for every backbone and every penalty.

Per batch: encode and fuse the segments; stage one, the critics fit on detached representations; stage two, one step
of the backbone on task loss + own terms + penalties, critics frozen. Algorithm 1 of Colombo et al. (2021), with its wasteful parts
as choices.

Every draw of an epoch is a function of (seed, epoch): the global generators (dropout) are set at its start, and all that
a critic or a product sample draws comes from streams of their own. So a penalty changes no draw of the backbone, and a
run resumed at an epoch's start continues as if it had never stopped.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils.data import DataLoader

from mdm.backbones.base import Backbone
from mdm.metrics import evaluate
from mdm.penalties.base import Penalty, View
from mdm.seeds import Stream, derive
from mdm.training.curve import Fold, name_estimate, name_metric, name_term
from mdm.training.groups import Decay, freeze, parameter_groups
from mdm.training.objective import CriticTraining, Objective, OptimizerFactory, check_together, critics_of
from mdm.training.predict import to_numpy
from mdm.training.schedules import Plateau, Progress
from mdm.training.steps import EACH_BATCH, NO_CLIPPING, Accumulation, Clipping, add_up, check_critic
from mdm.training.views import Here, Passes, Recent, endless, join_views, select_samples, single_precision
from mdm.types import Batch, DataSpec


class Learner(pl.LightningModule):
    """Backbone + objectives → a LightningModule; knows training and validation, and has no test step.

    loss: task loss of (prediction, label), both [batch, targets]
    optimizer: makes the task optimiser from parameter groups
    groups: submodule of the backbone → options of its parameter group, such as ``{"encoder": {"lr": 5e-5}}``
    clipping: of gradients, see `Clipping`
    decay: what weight decay acts on where the group does not say, see `mdm.training.groups`
    schedule, plateau: how far training has come, and what validation has said → factor of every learning rate of the task optimiser
    fresh: a loader of training batches in an order of its own, for critics on fresh batches
    accumulation: of batches into one step, see `Accumulation`. Critics are fitted, and `Backbone.after_step` is called, on every
        batch all the same
    frozen: submodules of the backbone that stay as they are
    batch_size: rows of a full batch, for schedules that count these; None: every batch is one

    ``curve`` holds one row per finished epoch. A loss that is not finite stops training with a ValueError that names the term.
    """

    def __init__(
        self,
        backbone: Backbone,
        spec: DataSpec,
        loss: Callable[[Tensor, Tensor], Tensor],
        optimizer: OptimizerFactory,
        objectives: Mapping[str, Objective],
        seed: int,
        groups: Mapping[str, Mapping[str, Any]] | None = None,
        clipping: Clipping = NO_CLIPPING,
        decay: Decay = "all",
        schedule: Callable[[Progress], float] | None = None,
        plateau: Plateau | None = None,
        fresh: DataLoader[Batch] | None = None,
        accumulation: Accumulation = EACH_BATCH,
        frozen: Sequence[str] = (),
        batch_size: int | None = None,
    ):
        super().__init__()
        self.automatic_optimization = False
        self.backbone, self.passes = backbone, Passes(backbone)
        self.penalties = nn.ModuleDict({name: o.penalty for name, o in objectives.items()})
        self.objectives = dict(objectives)
        self.spec, self.loss, self.make_optimizer, self.groups = spec, loss, optimizer, groups or {}
        self.seed, self.clipping, self.decay, self.schedule, self.fresh = seed, clipping, decay, schedule, fresh
        self.accumulation, self.batch_size, self.plateau = accumulation, batch_size, plateau
        self.curve: list[dict[str, float]] = []
        freeze(backbone, frozen)
        parameter_groups(backbone, self.groups, decay)  # complains of a wrong name before anything has begun
        check_together(clipping, accumulation, self.objectives)
        self._products = max((o.penalty.products for o in objectives.values()), default=0)
        self._start_epoch(0)

    # ---- one epoch

    def _start_epoch(self, epoch: int) -> None:
        self._stream = Stream(derive(self.seed, "penalty", epoch), "dropout")
        self.passes.shifts = np.random.default_rng(derive(self.seed, "shifts", epoch))
        self._recent = {name: Recent(derive(self.seed, f"replay {name}", epoch)) for name in self.objectives}
        for objective in self.objectives.values():
            objective.penalty.start_epoch()
        self._fresh_batches = endless(self.fresh, epoch) if self.fresh is not None else None
        self._sums: dict[str, Tensor] = {}
        self._batches = self._steps = 0
        self._started = time.monotonic()

    def on_train_epoch_start(self) -> None:
        torch.manual_seed(derive(self.seed, "dropout", self.current_epoch))
        self.passes.ranks.start_epoch(self, self.current_epoch)
        self._start_epoch(self.current_epoch)
        for name, penalty, critic in critics_of(self.objectives, "epoch"):
            batches: int = self.trainer.num_training_batches  # type: ignore[assignment]
            for _ in range(math.ceil(critic.share * batches)):
                self._fit_critic(name, penalty, critic, None)

    def training_step(self, batch: Batch, index: int) -> None:
        now = critics_of(self.objectives, "batch")
        # Fresh batches go first: between a batch's forward and backward pass they would overwrite BatchNorm's statistics.
        for name, penalty, critic in now:
            if critic.batches == "fresh":
                self._fit_critic(name, penalty, critic, None)
        here = self.passes.look_at(batch, self._products)
        for name, penalty, critic in now:
            if critic.batches != "fresh":
                self._fit_critic(name, penalty, critic, here)
        labelled = slice(batch.labelled)
        terms = {"task": self.loss(here.fusion.prediction[labelled], batch.label[labelled])}
        terms |= self.backbone.own_terms(batch, here.encoded, here.fusion)
        terms |= self._penalty_terms(here)
        self._step(terms)
        with torch.no_grad():
            self.backbone.after_step(batch, here.fusion.detach(), self.current_epoch)
        for name, penalty, critic in critics_of(self.objectives, "after"):
            self._fit_critic(name, penalty, critic, None if critic.batches == "fresh" else here)

    def _penalty_terms(self, here: Here) -> dict[str, Tensor]:
        """Stage two's terms; the same samples of the product serve all penalties."""
        if not self.objectives:
            return {}
        with self._stream.active():
            most = max((o.penalty.products for o in self.objectives.values() if not o.measure_only), default=0)
            view = self.passes.view(here, most)
            terms: dict[str, Tensor] = {}
            for name, objective in self.objectives.items():
                penalty = objective.penalty
                if objective.measure_only:
                    its = self.passes.view_detached(here, penalty.products)
                else:
                    its = select_samples(view, 0, penalty.products, most)
                    with single_precision():
                        found = penalty.requires_grad_(self.clipping.together)(its)
                    terms |= {f"{name}/{part}": value for part, value in found.items()}
                self._recent[name].keep(its.detach())
        return terms

    def _step(self, terms: dict[str, Tensor]) -> None:
        """Add the gradient of the sum of the terms; after the last batch of a step, one step of the backbone."""
        total = add_up(terms, self.current_epoch)
        optimizers: Any = self.optimizers()
        optimizer = optimizers[0] if isinstance(optimizers, list) else optimizers
        batches: int = self.trainer.num_training_batches  # type: ignore[assignment]
        moved = self if self.clipping.together else self.backbone
        if self.accumulation.begins(self._batches):
            moved.zero_grad()
        self.manual_backward(total / self.accumulation.divide_by(self._batches, batches))
        self.passes.ranks.average_gradients(moved)
        for name, value in terms.items():
            self._sums[name] = self._sums.get(name, 0.0) + value.detach()
        self._batches += 1
        if self.accumulation.ends(self._batches - 1, batches):
            if self.schedule is not None or self.plateau is not None:
                self._set_rates(optimizer, batches)
            if self.clipping.together:
                self.clipping.clip_norm(self)
            elif self.clipping.limit is not None:
                self.clip_gradients(optimizer, self.clipping.limit, self.clipping.by)
            optimizer.step()
            self._steps += 1

    def _set_rates(self, optimizer: Any, batches: int) -> None:
        """The learning rates of the step to come."""
        epochs: int = self.trainer.max_epochs  # type: ignore[assignment]
        full = batches if self.batch_size is None else min(batches, len(self.spec.train_ids) // self.batch_size)
        each, full = (self.accumulation.count_steps(n) for n in (batches, full))
        progress = Progress(self.current_epoch * each + self._steps, epochs * each, epochs * full)
        factor = 1.0 if self.schedule is None else self.schedule(progress)
        factor *= 1.0 if self.plateau is None else self.plateau(self.curve)
        for group in optimizer.param_groups:
            group["lr"] = factor * group.setdefault("initial_lr", group["lr"])

    # ---- critics

    def _fit_critic(self, name: str, penalty: Penalty, critic: CriticTraining, here: Here | None) -> None:
        """Stage one for one penalty, on the current batch, or on fresh ones where ``here`` is None.

        Critics step past Lightning, whose hooks around each step cost half as much as the step. So ``global_step`` counts the
        backbone's steps alone, and half precision does not scale a critic's loss, which is computed in full.
        """
        optimizer = self.trainer.optimizers[1 + [each for each, *_ in critics_of(self.objectives)].index(name)]
        penalty.requires_grad_(True)
        losses = []
        with self._stream.active():
            for view in self._critic_views(name, penalty.products, critic, here):
                with single_precision():
                    loss = penalty.critic_loss(view)
                (self if self.clipping.together else penalty).zero_grad()
                loss.backward()
                if self.clipping.together:
                    self.passes.ranks.average_gradients(self)
                    self.clipping.clip_norm(self)
                elif critic.gradient_clip is not None:
                    nn.utils.clip_grad_norm_(penalty.parameters(), critic.gradient_clip)
                optimizer.step()
                losses.append(loss.detach())
        check_critic(losses, name, self.current_epoch)

    @torch.no_grad()
    def _critic_views(self, name: str, products: int, critic: CriticTraining, here: Here | None) -> Iterator[View]:
        """Detached representations for each critic step; critics that are clipped with the backbone reach it through theirs."""
        steps = critic.steps
        if here is None:
            assert self._fresh_batches is not None, "mdm.runs.build gives the learner a loader of fresh batches"
            for _ in range(steps):
                batch = self.transfer_batch_to_device(next(self._fresh_batches), self.device, 0)
                yield self.passes.view_anew(batch, products, self.clipping.together)
        elif critic.batches == "replay" and self._recent[name]:
            yield from (self._recent[name].draw() for _ in range(steps))
        elif critic.interleave == "after":
            yield from (self.passes.view_anew(here.batch, products, self.clipping.together) for _ in range(steps))
        else:
            # The re-pairings of all steps are fused in one call; replay, which has nothing to remember yet, makes one for all.
            held = products if critic.batches == "replay" else steps * products
            view = self.passes.view_detached(here, held)
            for step in range(steps):
                first = step * products % max(held, 1)
                yield select_samples(view, first, first + products, held)

    # ---- validation

    def on_validation_epoch_start(self) -> None:
        self._held_out: list[View] = []
        self._stream = Stream(derive(self.seed, "validation"), "dropout")
        self.passes.shifts = np.random.default_rng(derive(self.seed, "validation shifts"))

    def validation_step(self, batch: Batch, index: int) -> None:
        self._held_out.append(self.passes.view(self.passes.look_at(batch, self._products), self._products))

    def on_validation_epoch_end(self) -> None:
        """Metrics on the whole fold; each penalty's estimate on rows that its critic has not seen, and on as many that it has."""
        view = join_views(self._held_out)
        metrics = evaluate(to_numpy(view.joint.prediction), to_numpy(view.label), self.spec.label_range, self.spec.targets)
        row = {"epoch": float(self.current_epoch)}
        if self._batches:
            row |= {name_term(term): float(value) / self._batches for term, value in self._sums.items()}
        row |= {name_metric(metric): value for metric, value in metrics.items()}
        for name, objective in self.objectives.items():
            looked_at: dict[Fold, View] = {"valid": view}
            if self._batches:
                looked_at["train"] = self._recent[name].last(len(view.label))
            for fold, rows in looked_at.items():
                with single_precision():
                    estimates = objective.penalty.estimate(rows)
                row |= {name_estimate(fold, name, part): float(value) for part, value in estimates.items()}
        row["seconds"] = time.monotonic() - self._started
        self._held_out = []
        self.log_dict({name: value for name, value in row.items() if name != "epoch"}, on_epoch=True, logger=False)
        self.curve.append(row)

    # ---- what Lightning asks for

    def configure_optimizers(self) -> list[Optimizer]:
        optimizers = [self.make_optimizer(parameter_groups(self.backbone, self.groups, self.decay))]
        optimizers += [critic.optimizer(penalty.parameters()) for _, penalty, critic in critics_of(self.objectives)]
        return optimizers

    def transfer_batch_to_device(self, batch: Batch, device: torch.device, dataloader_idx: int) -> Batch:
        return batch.to(device, non_blocking=True, dtype=next(self.backbone.parameters()).dtype)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["curve"] = self.curve

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.curve = checkpoint["curve"]
