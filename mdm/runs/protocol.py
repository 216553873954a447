"""One run, in reading order: config → data, backbone, penalties, learner → fit → choose on validation → test once → record."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from omegaconf import DictConfig

from mdm.data.seal import Selection, select
from mdm.data.splits import Splits
from mdm.metrics import evaluate
from mdm.ownership import Owner, own
from mdm.runs import claims, records
from mdm.runs.build import build_learner, build_loggers, build_splits, describe_run
from mdm.runs.checkpoints import choose_checkpoint, mend_best
from mdm.runs.config import check
from mdm.runs.devices import share_training
from mdm.runs.folder import locate_run, reuse_record
from mdm.runs.loggers import Logger, start_loggers
from mdm.runs.members import make
from mdm.runs.naming import name_penalty
from mdm.runs.options import check_limits, list_debug_reasons, read_options
from mdm.runs.origin import describe_origin
from mdm.runs.progress import announce, announce_debug, summarize
from mdm.runs.records import BEST, LAST
from mdm.runs.remarks import silence_remarks
from mdm.runs.selection import check_select, find_best_row, has_ended
from mdm.runs.trainer import build_trainer
from mdm.runs.untrusted import read_checkpoint
from mdm.training.curve import describe_columns, name_metric
from mdm.training.learner import Learner
from mdm.training.predict import predict
from mdm.types import Batch, DataSpec

log = logging.getLogger(__name__)

Predictor = Callable[[Iterable[Batch]], tuple[np.ndarray, np.ndarray]]
"""Batches → predictions and labels, [n, targets] each."""


def run(cfg: DictConfig, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """Do the run that a config describes, or return its record if it is finished; a broken one resumes.

    ``overrides``: those of the command line; ones that are no group and no seed become part of the folder's name.

    Raises ValueError on a config, data or a folder that break a contract, and if a loss is not finite.
    """
    if "study" in cfg and "table" not in cfg:
        raise ValueError(f"{cfg.name} is studied without any run; say `mdm study experiment={cfg.name}`.")
    check(cfg)
    silence_remarks()
    splits = build_splits(cfg)
    folder, config, found = locate_run(cfg, overrides, splits.card_hash)
    if found == "finished":
        return reuse_record(folder)
    with own(folder) as owner:
        if claims.examine(folder, config) == "finished":  # by another process, since this one looked
            return reuse_record(folder)
        train = run_baseline if "baseline" in cfg.model else run_training
        return train(cfg, config, owner, splits)


def run_training(cfg: DictConfig, config: dict[str, Any], owner: Owner, splits: Splits) -> dict[str, Any]:
    """Train, or go on from the last epoch, choose on validation, test once, record."""
    folder, options = owner.folder, read_options(cfg.trainer)
    check_limits(options, {"limit_train_batches": len(splits.train()), "limit_val_batches": len(splits.valid())})
    learner = build_learner(cfg, splits)
    loggers = build_loggers(cfg, folder)
    trainer = build_trainer(cfg, owner, splits.spec, loggers)
    # Whatever is wrong with the config or the data has been said by now, and nothing has been written.
    claims.claim(folder, config)
    last = folder / LAST
    log.info("%s run: %s", "resuming" if last.is_file() else "new", folder)
    announce(splits)
    announce_debug(list_debug_reasons(cfg.trainer), folder)
    if last.is_file():
        learner.curve = read_checkpoint(last)["curve"]
        mend_best(folder, learner.curve, options)
    with start_loggers(loggers, **describe_run(cfg, folder, config), curve=learner.curve):
        if not has_ended(learner.curve, options):
            resumed = str(last) if last.is_file() else None
            with share_training(cfg, learner, resumed):
                trainer.fit(learner, splits.train(epoch=len(learner.curve)), splits.valid(), ckpt_path=resumed, weights_only=True)
            if not has_ended(learner.curve, options):
                raise RuntimeError(f"The run was stopped after {len(learner.curve)} epochs; the same command resumes it.")
        selection = choose_checkpoint(learner, options, folder)
        predictor = partial(predict, learner.backbone.cpu())
        owner.check()
        record = conclude(cfg, folder, splits, selection, learner.curve, predictor, count_parameters(learner), loggers)
    last.unlink(missing_ok=True)
    return record


def run_baseline(cfg: DictConfig, config: dict[str, Any], owner: Owner, splits: Splits) -> dict[str, Any]:
    """The same protocol for a model without a training loop: fit, choose a setting on validation, test once, record."""
    folder = owner.folder
    check_select(cfg.trainer.select, splits.spec)
    baseline = make(cfg.model.baseline, spec=splits.spec, seed=cfg.seed)
    loggers = build_loggers(cfg, folder)
    claims.claim(folder, config)
    announce(splits)
    began = time.monotonic()
    curve = baseline.fit(splits.in_order("train"), splits.valid())
    best, metric = find_best_row(curve, read_options(cfg.trainer)), name_metric(cfg.trainer.select)
    curve[-1]["seconds"] = time.monotonic() - began
    records.write_atomically(folder / BEST, json.dumps(baseline.settings(best)) + "\n")
    selection = select(folder / BEST, folder / records.CURVE, best, metric, curve[best][metric])
    predictor, parameters = partial(baseline.predict, best), {"backbone": 0, "critics": 0}
    owner.check()
    with start_loggers(loggers, **describe_run(cfg, folder, config), curve=curve):
        return conclude(cfg, folder, splits, selection, curve, predictor, parameters, loggers)


def count_parameters(learner: Learner) -> dict[str, int]:
    """Parameters of the backbone and of the critics."""
    return {
        "backbone": sum(p.numel() for p in learner.backbone.parameters()),
        "critics": sum(p.numel() for p in learner.penalties.parameters()),
    }


def conclude(
    cfg: DictConfig,
    folder: Path,
    splits: Splits,
    selection: Selection,
    curve: list[dict[str, float]],
    predictor: Predictor,
    parameters: dict[str, int],
    loggers: Sequence[Logger],
) -> dict[str, Any]:
    """Open the test fold, once, read it with the chosen predictor, write the record, and say what came out."""
    spec = splits.spec
    records.write_table(folder / records.CURVE, curve)
    prediction, label = predictor(splits.open_test(selection))
    row = next(r for r in curve if int(r["epoch"]) == selection.epoch)
    record = {
        "name": cfg.name,
        "data": cfg.data.name,
        "model": cfg.model.name,
        "penalty": name_penalty(cfg),
        "seed": cfg.seed,
        "valid": {c.quantity: row[name] for name, c in describe_columns(row).items() if c.fold == "valid"},
        "valid_of_train_mean": evaluate_mean(spec, np.concatenate([batch.label.numpy() for batch in splits.valid()])),
        "test": evaluate(prediction, label, spec.label_range, spec.targets),
        "test_of_train_mean": evaluate_mean(spec, label),
        "selected": {"by": selection.metric, "epoch": selection.epoch, "epochs": len(curve)},
        "seconds": sum(r.get("seconds", 0.0) for r in curve),
        "parameters": parameters,
        "folds": splits.sizes,
        "label_range": list(spec.label_range),
        "modalities": list(spec.modalities),
        "data_card": splits.card_hash,
        "synthetic": bool(splits.truth),
        "truth": splits.truth,
        **describe_origin(),
    }
    if cfg.departs:
        record["departs"] = dict(cfg.departs)
    if splits.shared_groups:
        record["shared_groups"] = splits.shared_groups
    if list_debug_reasons(cfg.trainer):
        record["debug"] = list_debug_reasons(cfg.trainer)
    predictions = build_prediction_rows(splits, prediction, label)
    records.finish(folder, record, predictions)
    summarize(record, folder)
    record = records.read_record(folder)
    for logger in loggers:
        logger.conclude(row, record, predictions)
    return record


def evaluate_mean(spec: DataSpec, label: Float[np.ndarray, "n targets"]) -> dict[str, float]:
    """Metrics of the constant that the training labels have for a mean: what a run must beat to have learned anything."""
    floor = np.tile(np.array(spec.label_mean, dtype=np.float32), (len(label), 1))
    return evaluate(floor, label, spec.label_range, spec.targets)


def build_prediction_rows(splits: Splits, prediction: np.ndarray, label: np.ndarray) -> list[dict[str, Any]]:
    """One row per test segment; with several targets, ``label_<target>`` and ``prediction_<target>``."""
    targets = splits.spec.targets
    suffixes = [""] if len(targets) == 1 else [f"_{t}" for t in targets]
    columns = splits.describe("test")
    for i, suffix in enumerate(suffixes):
        columns[f"label{suffix}"] = [float(y) for y in label[:, i]]
        columns[f"prediction{suffix}"] = [float(p) for p in prediction[:, i]]
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
