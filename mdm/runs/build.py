"""Config → data, backbone, penalties and learner, in this order; each initialised by a stream of its own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import DictConfig
from pytorch_lightning.callbacks import Callback
from torch.optim import Adam, AdamW

from mdm.backbones.base import Backbone
from mdm.data.splits import Splits
from mdm.penalties.base import Penalty
from mdm.runs.config import resolve_node, to_plain
from mdm.runs.kinds import list_arguments
from mdm.runs.loggers import Lightning, Logger
from mdm.runs.members import check_member, make
from mdm.runs.naming import list_penalties, name_penalty
from mdm.runs.options import DEBUG, list_debug_reasons, read_options
from mdm.seeds import Stream
from mdm.training.learner import Learner
from mdm.training.objective import CriticTraining, Objective
from mdm.training.product import shifts
from mdm.training.schedules import Plateau


def build_splits(cfg: DictConfig) -> Splits:
    """The data set of a config, divided and ready to be read."""
    data = cfg.data
    return Splits(
        partial(make, data.segments),
        batch_size=data.batch_size,
        seed=cfg.seed,
        text=data.text,
        modalities=None if data.modalities is None else list(data.modalities),
        folds=make(data.folds) if data.folds is not None else None,
        scale=resolve_node(data.scale),
        max_steps=resolve_node(data.max_steps),
        keep=data.keep,
        padding=data.padding,
        order=data.order,
        last_batch=data.last_batch,
        workers=cfg.machine.workers,
        by_length=cfg.model.by_length,
        context=cfg.model.get("context", False),
        unlabeled=cfg.data.unlabeled,
        groups=data.groups,
        overfit=cfg.trainer.get("overfit_batches"),
    )


def build_learner(cfg: DictConfig, splits: Splits) -> Learner:
    """Backbone, then penalties on what it offers; each initialised by a stream of its own."""
    options = read_options(cfg.trainer)
    with Stream(cfg.seed, "weights").active():
        backbone = make(
            cfg.model.backbone, spec=replace(splits.spec, head_start=cfg.model.get("head_start", splits.spec.head_start))
        )
    own = {} if cfg.model.own_penalty is None else {"own": cfg.model.own_penalty}
    objectives = {}
    for name, node in {**own, **list_penalties(cfg)}.items():
        with Stream(cfg.seed, f"critic {name}").active():
            penalty = build_penalty(node, backbone)
        if penalty.products:
            # The smallest draw that training and validation will make, so that what cannot be drawn is said now.
            batches = [rows for loader in (splits.train(), splits.valid()) for rows in (loader.batch_sampler or [])]
            fewest = min(len(rows) for rows in batches)
            shifts(np.ones((len(splits.spec.modalities), fewest), int), np.random.default_rng(0))
        objectives[name] = Objective(
            penalty,
            None
            if node.critic is None
            else CriticTraining(**{**to_plain(node.critic), "optimizer": build_factory(node.critic.optimizer)}),
            measure_only=node.measure_only,
        )
    return Learner(
        backbone,
        splits.spec,
        loss=make(cfg.model.loss),
        optimizer=build_factory(cfg.model.optimizer, mixed=options.precision.endswith("mixed")),
        objectives=objectives,
        seed=cfg.seed,
        groups=to_plain(cfg.model.groups),
        clipping=options.clipping,
        decay=cfg.model.decay,
        schedule=None if cfg.model.schedule is None else make(cfg.model.schedule),
        plateau=None if cfg.model.get("plateau") is None else Plateau(**to_plain(cfg.model.plateau)),
        fresh=splits.train("critic batches") if objectives else None,
        accumulation=options.accumulation,
        frozen=list(cfg.model.get("freeze", [])),
        batch_size=cfg.data.batch_size,
    )


def build_penalty(node: DictConfig, backbone: Backbone) -> Penalty:
    """A penalty on what a backbone offers."""
    penalty: Penalty = make(
        node.objective,
        weight=node.weight,
        z_dim=backbone.z_dim,
        unimodal_dims=backbone.unimodal_dims,
        part_dims=backbone.part_dims,
    )
    return penalty


def build_factory(node: DictConfig, mixed: bool = False) -> Callable[..., Any]:
    """An optimiser factory: parameters (or groups) → optimiser.

    Adam and AdamW walk over all parameters once, where torch's default makes a dozen passes: the same step up to rounding, four
    times as fast for the 11 M parameters of a small BERT. A config that says how (``fused``, ``foreach``, …) is obeyed.

    mixed: whether the precision is mixed. Lightning then clips no gradient of a fused optimiser, so torch's default is taken
    """
    member, given = check_member("optimizer", node)
    said = {"fused", "foreach", "capturable", "differentiable"} & given.keys()
    how = {"fused": True} if member in (Adam, AdamW) and not said and not mixed else {}
    return lambda parameters: make(node, params=parameters, **how)


def build_loggers(cfg: DictConfig, folder: Path) -> list[Logger]:
    """Dashboards beside the record; they write below the run's folder."""
    built = []
    for node in cfg.logger.loggers.values():
        takes = list_arguments(check_member(node._get_full_key(None), node)[0])
        logger = make(node, **({"save_dir": str(folder)} if "save_dir" in takes else {}))
        built.append(logger if isinstance(logger, Logger) else Lightning(logger))
    return built


def build_callbacks(cfg: DictConfig) -> list[Callback]:
    """Lightning's callbacks that watch a run; they are no part of what it is, and nothing builds them when its record is read."""
    return [make(node) for node in cfg.callbacks.callbacks.values()] if cfg.get("callbacks") else []


def describe_run(cfg: DictConfig, folder: Path, config: dict[str, Any]) -> dict[str, Any]:
    """What `mdm.runs.loggers.start_loggers` tells dashboards: a run's experiment is its group, the rest of its path its name."""
    tags = [cfg.model.name, name_penalty(cfg), cfg.data.name, f"seed={cfg.seed}"]
    group = f"{DEBUG}/{cfg.name}" if list_debug_reasons(cfg.trainer) else cfg.name
    name = folder.relative_to(Path(cfg.paths.outputs) / group).as_posix()
    return {"name": name, "group": group, "tags": tags, "config": config}
