"""Stage four, learner: the one training loop, for every backbone and every penalty.

Per batch: encode and fuse the segments; stage one, the critics fit on detached representations; stage two, one step
of the backbone on task loss + own terms + penalties, critics frozen. Algorithm 1 of paper 000, with its wasteful parts as choices.

Every draw of an epoch is a function of (seed, epoch): the global generators (dropout) are set at its start, and all that
a critic or a product sample draws comes from streams of their own. So a penalty changes no draw of the backbone, and a
run resumed at an epoch's start continues as if it had never stopped.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
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
from mdm.training.groups import parameter_groups
from mdm.training.objective import CriticTraining, Objective, OptimizerFactory
from mdm.training.predict import to_numpy
from mdm.training.product import batch_lengths, detach_all, product, shifts
from mdm.training.views import Here, Recent, endless, join_views, keeping_buffers, select_samples, single_precision
from mdm.types import Batch, DataSpec


class Learner(pl.LightningModule):
    """Backbone + objectives → a LightningModule; knows training and validation, and has no test step.

    loss: task loss of (prediction, label), both [batch, targets]
    optimizer: makes the task optimiser from parameter groups
    groups: submodule of the backbone → options of its parameter group, such as ``{"encoder": {"lr": 5e-5}}``
    gradient_clip: largest gradient norm of the backbone's parameters, or None
    decay: what weight decay acts on: ``all`` parameters, or ``matrices``, as is usual for transformers (no bias, no norm)
    schedule: share of training done, in [0, 1) → factor of every learning rate of the task optimiser, before each step
    fresh: a loader of training batches in an order of its own, for critics on fresh batches
    accumulate: batches whose mean gradient is that of one step; the last ones of an epoch, fewer, make one too. Critics are fitted
        on every batch all the same

    ``curve`` holds one row per finished epoch. A loss that is not finite stops training with a ValueError that names the
    term, before any weight has changed.
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
        gradient_clip: float | None = None,
        decay: str = "all",
        schedule: Callable[[float], float] | None = None,
        fresh: DataLoader[Batch] | None = None,
        accumulate: int = 1,
    ):
        super().__init__()
        self.automatic_optimization = False
        self.backbone = backbone
        self.penalties = nn.ModuleDict({name: o.penalty for name, o in objectives.items()})
        self.objectives = dict(objectives)
        self.spec, self.loss, self.make_optimizer, self.groups = spec, loss, optimizer, groups or {}
        self.seed, self.gradient_clip, self.decay, self.schedule, self.fresh = seed, gradient_clip, decay, schedule, fresh
        self.accumulate = accumulate
        self.curve: list[dict[str, float]] = []
        parameter_groups(backbone, self.groups, decay)  # complains of a wrong name before anything has begun
        self._products = max((o.penalty.products for o in objectives.values()), default=0)
        self._start_epoch(0)

    # ---- one epoch

    def _start_epoch(self, epoch: int) -> None:
        self._stream = Stream(derive(self.seed, "penalty", epoch), "dropout")
        self._shifts = np.random.default_rng(derive(self.seed, "shifts", epoch))
        self._recent = {name: Recent(derive(self.seed, f"replay {name}", epoch)) for name in self.objectives}
        for objective in self.objectives.values():
            objective.penalty.start_epoch()
        self._fresh_batches = endless(self.fresh, epoch) if self.fresh is not None else None
        self._sums: dict[str, Tensor] = {}
        self._batches = self._steps = 0
        self._started = time.monotonic()

    def on_train_epoch_start(self) -> None:
        torch.manual_seed(derive(self.seed, "dropout", self.current_epoch))
        self._start_epoch(self.current_epoch)
        for name, objective in self.objectives.items():
            if objective.critic is not None and objective.critic.interleave == "epoch":
                for _ in range(self.trainer.num_training_batches):  # type: ignore[arg-type]
                    self._fit_critic(name, objective.penalty, objective.critic, None)

    def training_step(self, batch: Batch, index: int) -> None:
        now = [(name, o.penalty, o.critic) for name, o in self.objectives.items() if o.critic and o.critic.interleave == "batch"]
        # Fresh batches go first: between a batch's forward and backward pass they would overwrite BatchNorm's statistics.
        for name, penalty, critic in now:
            if critic.batches == "fresh":
                self._fit_critic(name, penalty, critic, None)
        encoded = self.backbone.encode(batch)
        fusion = self.backbone.fuse(encoded)
        here = Here(batch, encoded, fusion, batch_lengths(batch) if self._products else None)
        for name, penalty, critic in now:
            if critic.batches != "fresh":
                self._fit_critic(name, penalty, critic, here)
        labelled = slice(batch.labelled)
        terms = {"task": self.loss(fusion.prediction[labelled], batch.label[labelled])}
        terms |= self.backbone.own_terms(batch, encoded, fusion)
        terms |= self._penalty_terms(here)
        self._step(terms)
        with torch.no_grad():
            self.backbone.after_step(batch, fusion.detach(), self.current_epoch)

    def _penalty_terms(self, here: Here) -> dict[str, Tensor]:
        """Stage two's terms; the same samples of the product serve all penalties."""
        if not self.objectives:
            return {}
        with self._stream.active():
            most = max((o.penalty.products for o in self.objectives.values() if not o.measure_only), default=0)
            view = self._view(here, most)
            terms: dict[str, Tensor] = {}
            for name, objective in self.objectives.items():
                penalty = objective.penalty
                if objective.measure_only:
                    its = self._detached_view(here, penalty.products)
                else:
                    its = select_samples(view, 0, penalty.products, most)
                    with single_precision():
                        found = penalty.requires_grad_(False)(its)
                    terms |= {f"{name}/{part}": value for part, value in found.items()}
                self._recent[name].keep(its.detach())
        return terms

    def _step(self, terms: dict[str, Tensor]) -> None:
        """Add the gradient of the sum of the terms; after the last batch of a step, one step of the backbone.

        With ``accumulate`` n the gradient is ∇(1/n) Σ_b L_b over the n batches of the step, of which the last may have fewer.
        """
        total = torch.stack(list(terms.values())).sum()
        if not torch.isfinite(total):
            bad = [name for name, value in terms.items() if not torch.isfinite(value)]
            raise ValueError(
                f"Every loss term must be finite, but {', '.join(bad) or 'their sum'} is not, in epoch {self.current_epoch}; no "
                "weight was changed by it. Lower model.optimizer.lr or penalty.weight, or look at the data card."
            )
        optimizers: Any = self.optimizers()
        optimizer = optimizers[0] if isinstance(optimizers, list) else optimizers
        batches: int = self.trainer.num_training_batches  # type: ignore[assignment]
        first = self._steps * self.accumulate
        together = min(self.accumulate, batches - first)
        if self._batches == first:
            optimizer.zero_grad()
        self.manual_backward(total / together)
        self._batches += 1
        for name, value in terms.items():
            self._sums[name] = self._sums.get(name, 0.0) + value.detach()
        if self._batches < first + together:
            return
        if self.schedule is not None:
            steps = -(-batches // self.accumulate)
            done = self.current_epoch * steps + self._steps
            factor = self.schedule(done / (self.trainer.max_epochs * steps))  # type: ignore[operator]
            for group in optimizer.param_groups:
                group["lr"] = factor * group.setdefault("initial_lr", group["lr"])
        if self.gradient_clip is not None:
            self.clip_gradients(optimizer, self.gradient_clip, "norm")
        optimizer.step()
        self._steps += 1

    # ---- critics

    def _fit_critic(self, name: str, penalty: Penalty, critic: CriticTraining, here: Here | None) -> None:
        """Stage one for one penalty, on the current batch, or on fresh ones where ``here`` is None.

        Critics step past Lightning, whose hooks around each step cost half as much as the step. So ``global_step`` counts the
        backbone's steps alone, and half precision does not scale a critic's loss, which is computed in full.
        """
        optimizer = self.trainer.optimizers[1 + self._trained().index(name)]
        penalty.requires_grad_(True)
        losses = []
        with self._stream.active():
            for view in self._critic_views(name, penalty.products, critic, here):
                with single_precision():
                    loss = penalty.critic_loss(view)
                optimizer.zero_grad()
                loss.backward()
                if critic.gradient_clip is not None:
                    nn.utils.clip_grad_norm_(penalty.parameters(), critic.gradient_clip)
                optimizer.step()
                losses.append(loss.detach())
        # Asked once, because a device has to finish before it can answer.
        if not torch.stack(losses).isfinite().all():
            raise ValueError(
                f"A critic's loss must be finite, but that of {name} is not, in epoch {self.current_epoch}. An "
                "unbounded critic diverges at strong dependence: use penalty.objective.training=logistic, output=tanh, or a "
                "smaller penalty.critic.optimizer.lr."
            )

    @torch.no_grad()
    def _critic_views(self, name: str, products: int, critic: CriticTraining, here: Here | None) -> Iterator[View]:
        """Detached representations for each critic step."""
        steps = critic.steps
        if here is None:
            for _ in range(steps):
                yield self._detached_view(self._fresh(products), products)
        elif critic.batches == "replay" and self._recent[name]:
            for _ in range(steps):
                yield self._recent[name].draw()
        else:
            # The re-pairings of all steps are fused in one call.
            view = self._detached_view(here, steps * products)
            for step in range(steps):
                yield select_samples(view, step * products, (step + 1) * products, steps * products)

    def _fresh(self, products: int) -> Here:
        """The next fresh batch; it leaves no trace in the backbone."""
        assert self._fresh_batches is not None, "mdm.runs.build gives the learner a loader of fresh batches"
        batch = self.transfer_batch_to_device(next(self._fresh_batches), self.device, 0)
        with keeping_buffers(self.backbone):
            encoded = self.backbone.encode(batch)
        return Here(batch, encoded, self.backbone.fuse(encoded), batch_lengths(batch) if products else None)

    @torch.no_grad()
    def _detached_view(self, here: Here, products: int) -> View:
        return self._view(Here(here.batch, detach_all(here.encoded), here.fusion.detach(), here.lengths), products)

    def _view(self, here: Here, products: int) -> View:
        """The batch, and so many samples of the product, fused in one call."""
        if not products:
            return View(here.fusion, None, here.batch.label)
        assert here.lengths is not None
        index = np.concatenate([shifts(here.lengths, self._shifts) for _ in range(products)], axis=1)
        return View(here.fusion, self.backbone.fuse(product(here.encoded, index, here.lengths)), here.batch.label)

    # ---- validation

    def on_validation_epoch_start(self) -> None:
        self._held_out: list[View] = []
        self._stream = Stream(derive(self.seed, "validation"), "dropout")
        self._shifts = np.random.default_rng(derive(self.seed, "validation shifts"))

    def validation_step(self, batch: Batch, index: int) -> None:
        encoded = self.backbone.encode(batch)
        lengths = batch_lengths(batch) if self._products else None
        here = Here(batch, encoded, self.backbone.fuse(encoded), lengths)
        self._held_out.append(self._view(here, self._products))

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
        optimizers += [o.critic.optimizer(o.penalty.parameters()) for o in self.objectives.values() if o.critic is not None]
        return optimizers

    def _trained(self) -> list[str]:
        return [name for name, objective in self.objectives.items() if objective.critic is not None]

    def transfer_batch_to_device(self, batch: Batch, device: torch.device, dataloader_idx: int) -> Batch:
        return batch.to(device, non_blocking=True, dtype=next(self.backbone.parameters()).dtype)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["curve"] = self.curve

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.curve = checkpoint["curve"]
