"""One run, in reading order: config → data, backbone, penalties, learner → fit → choose on validation → test once → record."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import platform
import shutil
import signal
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from omegaconf import DictConfig
from pytorch_lightning.callbacks import Callback, Checkpoint, RichProgressBar
from pytorch_lightning.plugins.environments import LightningEnvironment
from pytorch_lightning.plugins.io import TorchCheckpointIO

from mdm.backbones.base import Backbone
from mdm.data.splits import Selection, Splits
from mdm.metrics import evaluate, metric_of
from mdm.ownership import LOCK, InUse, Owner, half_written, own
from mdm.penalties.base import Penalty
from mdm.runs import records
from mdm.runs.config import check, plain
from mdm.runs.loggers import Logger, started
from mdm.runs.members import make
from mdm.runs.naming import folder_of as record_folder
from mdm.runs.naming import penalties, penalty_name
from mdm.runs.records import BEST, LAST
from mdm.runs.untrusted import read_checkpoint
from mdm.seeds import Stream
from mdm.training.learner import Learner, Objective, predict
from mdm.training.product import shifts
from mdm.types import Batch, DataSpec

log = logging.getLogger(__name__)

Predictor = Callable[[Iterable[Batch]], tuple[np.ndarray, np.ndarray]]
"""Batches → predictions and labels, [n, targets] each."""


def run(cfg: DictConfig, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """Do the run that a config describes, or return its record if it is finished; a broken one resumes.

    ``overrides``: those of the command line; ones that are no group and no seed become part of the folder's name.

    Raises ValueError on a config, data or a folder that break a contract, and if a loss is not finite.
    """
    if "cost" in cfg:
        raise ValueError(
            f"{cfg.name} counts what models cost and trains nothing; run `python scripts/cost.py experiment={cfg.name}`."
        )
    if "estimate" in cfg:
        raise ValueError(f"{cfg.name} trains critics and no model; run `python scripts/estimate.py experiment={cfg.name}`.")
    check(cfg)
    quiet()
    splits = build_splits(cfg)
    folder, config, found = place(cfg, overrides, splits.segments.card_hash)
    if found == "finished":
        return finished(folder)
    with own(folder) as owner:
        if records.examine(folder, config) == "finished":  # by another process, since this one looked
            return finished(folder)
        train = run_baseline if "baseline" in cfg.model else run_training
        return train(cfg, config, owner, splits)


def finished(folder: Path) -> dict[str, Any]:
    """The record of a run that is there already."""
    log.info("finished already: %s", folder)
    tidy(folder)
    return records.read_record(folder)


def tidy(folder: Path) -> None:
    """Remove what a process left that was killed right after its record was complete; where nothing may be written it stays."""
    if (folder / LAST).exists() or (folder / LOCK).exists() or half_written(folder):
        with contextlib.suppress(OSError, InUse), own(folder):
            (folder / LAST).unlink(missing_ok=True)


def run_training(cfg: DictConfig, config: dict[str, Any], owner: Owner, splits: Splits) -> dict[str, Any]:
    """Train, or go on from the last epoch, choose on validation, test once, record."""
    folder = owner.folder
    learner = build_learner(cfg, splits)
    loggers = build_loggers(cfg, folder)
    trainer = build_trainer(cfg, owner, splits.spec, loggers)
    # Whatever is wrong with the config or the data has been said by now, and nothing has been written.
    records.claim(folder, config)
    last = folder / LAST
    log.info("%s run: %s", "resuming" if last.is_file() else "new", folder)
    announce(splits)
    if last.is_file():
        learner.curve = read_checkpoint(last)["curve"]
        mend_best(folder, learner.curve, cfg.trainer)
    with started(loggers, **described(cfg, folder, config), curve=learner.curve):
        if not trained(learner.curve, cfg.trainer):
            resumed = str(last) if last.is_file() else None
            trainer.fit(learner, splits.train(epoch=len(learner.curve)), splits.valid(), ckpt_path=resumed, weights_only=True)
            if not trained(learner.curve, cfg.trainer):
                raise RuntimeError(f"The run was stopped after {len(learner.curve)} epochs; the same command resumes it.")
        selection = chosen(learner.curve, cfg.trainer, folder)
        predictor = restored(learner, selection)
        owner.check()
        record = conclude(cfg, folder, splits, selection, learner.curve, predictor, sizes(learner), loggers)
    last.unlink(missing_ok=True)
    return record


def run_baseline(cfg: DictConfig, config: dict[str, Any], owner: Owner, splits: Splits) -> dict[str, Any]:
    """The same protocol for a model without a training loop: fit, choose a setting on validation, test once, record."""
    folder = owner.folder
    check_select(cfg.trainer.select, splits.spec)
    baseline = make(cfg.model.baseline, spec=splits.spec, seed=cfg.seed)
    loggers = build_loggers(cfg, folder)
    records.claim(folder, config)
    announce(splits)
    began = time.monotonic()
    curve = baseline.fit(splits.in_order("train"), splits.valid())
    best, metric = best_row(curve, cfg.trainer), f"valid/{cfg.trainer.select}"
    curve[-1]["seconds"] = time.monotonic() - began
    records.write_atomically(folder / BEST, json.dumps(baseline.settings(best)) + "\n")
    selection = Selection(folder / BEST, best, metric, curve[best][metric])
    predictor, parameters = partial(baseline.predict, best), {"backbone": 0, "critics": 0}
    owner.check()
    with started(loggers, **described(cfg, folder, config), curve=curve):
        return conclude(cfg, folder, splits, selection, curve, predictor, parameters, loggers)


def place(cfg: DictConfig, overrides: Sequence[str], card_hash: str) -> tuple[Path, dict[str, Any], str]:
    """A run's folder, the config to be recorded in it, and what it holds (`mdm.runs.records.examine`); nothing is written.

    Raises ValueError if the folder holds a run of another config.
    """
    folder = record_folder(cfg, overrides)
    # Not where the data lie but what they are belongs to a run: paths stay interpolations, the card's hash is compared. How a table
    # is laid out is no part of its runs.
    config = {key: value for key, value in plain(cfg, resolve=False).items() if key not in records.DECLARED}
    config |= {"paths": plain(cfg.paths), "data_card": card_hash}
    return folder, config, records.examine(folder, config)


# ---- build


def build_splits(cfg: DictConfig) -> Splits:
    """The data set of a config, divided and ready to be read."""
    data = cfg.data
    return Splits(
        make(data.segments),
        batch_size=data.batch_size,
        seed=cfg.seed,
        text=data.text,
        modalities=None if data.modalities is None else list(data.modalities),
        folds=make(data.folds) if data.folds is not None else None,
        scale=data.scale,
        max_steps=data.max_steps,
        workers=cfg.machine.workers,
        by_length=cfg.model.by_length,
        unlabeled=cfg.data.unlabeled,
    )


def build_learner(cfg: DictConfig, splits: Splits) -> Learner:
    """Backbone, then penalties on what it offers; each initialised by a stream of its own."""
    with Stream(cfg.seed, "weights").active():
        backbone = make(cfg.model.backbone, spec=splits.spec)
    own = {} if cfg.model.own_penalty is None else {"own": cfg.model.own_penalty}
    objectives = {}
    for name, node in {**own, **penalties(cfg)}.items():
        with Stream(cfg.seed, f"critic {name}").active():
            penalty = build_penalty(node, backbone)
        if penalty.products:
            # The smallest draw that training and validation will make, so that what cannot be drawn is said now.
            batches = [rows for loader in (splits.train(), splits.valid()) for rows in (loader.batch_sampler or [])]
            fewest = min(len(rows) for rows in batches)
            shifts(np.ones((len(splits.spec.modalities), fewest), int), np.random.default_rng(0))
        objectives[name] = Objective(
            penalty,
            critic_steps=node.critic_steps,
            critic_batches=node.critic_batches,
            interleave=node.interleave,
            optimizer=None if node.optimizer is None else maker(node.optimizer),
            measure_only=node.measure_only,
        )
    return Learner(
        backbone,
        splits.spec,
        loss=make(cfg.model.loss),
        optimizer=maker(cfg.model.optimizer),
        objectives=objectives,
        seed=cfg.seed,
        groups=plain(cfg.model.groups),
        gradient_clip=cfg.trainer.gradient_clip,
        decay=cfg.model.decay,
        schedule=None if cfg.model.schedule is None else make(cfg.model.schedule),
        fresh=splits.train("critic batches") if objectives else None,
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


def maker(node: DictConfig) -> Callable[..., Any]:
    """An optimiser factory: parameters (or groups) → optimiser."""
    return lambda parameters: make(node, params=parameters)


def build_loggers(cfg: DictConfig, folder: Path) -> list[Logger]:
    """Dashboards beside the record; they write below the run's folder."""
    return [make(node, save_dir=str(folder)) for node in cfg.logger.loggers.values()]


def described(cfg: DictConfig, folder: Path, config: dict[str, Any]) -> dict[str, Any]:
    """What dashboards are told (`mdm.runs.loggers.started`): a run's experiment is its group, the rest of its folder its name."""
    tags = [cfg.model.name, penalty_name(cfg), cfg.data.name, f"seed={cfg.seed}"]
    name = folder.relative_to(Path(cfg.paths.outputs) / cfg.name).as_posix()
    return {"name": name, "group": cfg.name, "tags": tags, "config": config}


def build_trainer(cfg: DictConfig, owner: Owner, spec: DataSpec, loggers: Sequence[Logger] = ()) -> pl.Trainer:
    """Lightning's Trainer: it stops and keeps checkpoints by validation, and writes into the run's folder."""
    machine, options = cfg.machine, cfg.trainer
    check_select(options.select, spec)
    check_device(machine.accelerator, options.precision)
    if machine.threads:
        torch.set_num_threads(machine.threads)
    callbacks: list[Callback] = [Progress(owner.folder, options, loggers), Termination(), Checkpoints(owner, options)]
    if sys.stderr.isatty() and machine.progress:
        callbacks.append(RichProgressBar(leave=False))
    try:
        return pl.Trainer(
            accelerator=machine.accelerator,
            devices=machine.devices if isinstance(machine.devices, int) else list(machine.devices),
            strategy=machine.strategy,
            precision=options.precision,
            max_epochs=options.max_epochs,
            callbacks=callbacks,
            logger=False,  # rows of the curve go to ours, whole; Lightning's would get them as 32-bit floats
            # One process, whatever variables of a scheduler are set: a run never spans tasks, and is requeued by mdm.sweeps.sweep.
            plugins=[AtomicCheckpointIO(), LightningEnvironment()],
            default_root_dir=owner.folder,
            enable_model_summary=False,
            enable_progress_bar=sys.stderr.isatty() and machine.progress,
            num_sanity_val_steps=0,
            use_distributed_sampler=False,
            log_every_n_steps=1,
        )
    except Exception as error:  # Lightning's own, which name none of our keys: no such device, no such strategy, …
        said = " ".join(str(error).split())[:400]
        raise ValueError(
            f"machine.* and trainer.precision must suit this machine, but Lightning says of {machine.accelerator}, "
            f"{machine.devices}, {machine.strategy} and {options.precision}: {said}; choose others."
        ) from error


def check_device(accelerator: str, precision: str) -> None:
    """Raise ValueError if a reserved GPU would stand idle, and if this processor lacks a precision."""
    reserved = [name for name in ("SLURM_JOB_GPUS", "SLURM_STEP_GPUS", "SLURM_GPUS_ON_NODE") if os.environ.get(name)]
    on_gpu = accelerator != "cpu" and torch.cuda.is_available()
    if reserved and accelerator != "mps" and not on_gpu:
        raise ValueError(
            f"A GPU that is reserved ({reserved[0]}={os.environ[reserved[0]]}) must be used, but machine.accelerator={accelerator} "
            f"and torch sees {torch.cuda.device_count()} GPUs; use machine=auto, or hydra.launcher.gpus_per_node=null."
        )
    # oneDNN would say so in the middle of the first batch of an LSTM.
    if precision == "bf16-mixed" and accelerator in ("auto", "cpu") and not on_gpu and not bf16_on_cpu():
        raise ValueError("trainer.precision=bf16-mixed needs a GPU or a processor with AVX-512, but here is neither; use 32-true.")


def bf16_on_cpu() -> bool:
    """Whether this processor computes every layer in bfloat16."""
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


# ---- choose, test, record


def check_select(select: str, spec: DataSpec) -> None:
    """Raise ValueError unless a checkpoint can be chosen by this metric."""
    ends = np.array([[end] * len(spec.targets) for end in spec.label_range])
    names = list(evaluate(ends, ends, spec.label_range, spec.targets))
    if select not in names:
        raise ValueError(f"A checkpoint is chosen by one of {', '.join(names)}, but {select} came; set trainer.select.")
    low, high = spec.label_range
    # Necessary of one-hot labels, and enough for labels that are not meant to be: otherwise every epoch would score NaN.
    if metric_of(select).joint and abs(sum(spec.label_mean) - (len(spec.targets) - 1) * low - high) > 1e-3:
        raise ValueError(
            f"Accuracy is of labels that name one class each, but the training labels of {', '.join(spec.targets)} do not; choose "
            "another metric in trainer.select."
        )


def trained(curve: list[dict[str, float]], options: DictConfig) -> bool:
    """Whether training has ended: all epochs done, or none of the last ``patience`` better than the best before them."""
    waited = len(curve) - 1 - best_row(curve, options) if curve else 0
    return len(curve) >= options.max_epochs or (options.patience is not None and waited >= options.patience)


def best_row(curve: list[dict[str, float]], options: DictConfig) -> int:
    """Index of the epoch with the best validation metric; ties go to the earlier one, and NaN is worse than any number."""
    sign, key = (1 if metric_of(options.select).lower_is_better else -1), f"valid/{options.select}"
    # In single precision, so that differences in the last bit of a mean decide nothing.
    values = [np.float32(row[key]) for row in curve]
    return min(range(len(curve)), key=lambda i: (bool(np.isnan(values[i])), sign * values[i]))


def chosen(curve: list[dict[str, float]], options: DictConfig, folder: Path) -> Selection:
    """The checkpoint with the best validation metric.

    Raises RuntimeError unless the checkpoint that lies there is of the curve's best epoch, and of this very training.
    """
    best, key = best_row(curve, options), f"valid/{options.select}"
    checkpoint = read_checkpoint(folder / BEST)
    if repr(checkpoint["curve"]) != repr(curve[: best + 1]):  # to the last bit, and NaN is NaN
        raise RuntimeError(
            f"A test fold opens with the checkpoint of the best epoch, {int(curve[best]['epoch'])}, but {folder / BEST} is of "
            "another epoch or another training; remove the folder and run again."
        )
    return Selection(folder / BEST, int(curve[best]["epoch"]), key, curve[best][key])


def mend_best(folder: Path, curve: list[dict[str, float]], options: DictConfig) -> None:
    """Make the last checkpoint the best one where its epoch is the best: a run may be killed between the two."""
    if best_row(curve, options) == len(curve) - 1:
        copy_whole(folder / LAST, folder / BEST)


def copy_whole(source: Path, target: Path) -> None:
    """Another name for a file's content, in one rename; a copy where the file system knows no second names."""
    if target.exists() and target.samefile(source):  # renaming one name of a file to another does nothing, and leaves both
        return
    temporary = target.with_name(f".{target.name}.{os.getpid()}")
    temporary.unlink(missing_ok=True)
    try:
        os.link(source, temporary)
    except OSError:
        shutil.copyfile(source, temporary)
    os.replace(temporary, target)


def restored(learner: Learner, selection: Selection) -> Predictor:
    """The chosen checkpoint as a predictor."""
    learner.load_state_dict(torch.load(selection.checkpoint, weights_only=True, map_location="cpu")["state_dict"])
    return partial(predict, learner.backbone.cpu())


def sizes(learner: Learner) -> dict[str, int]:
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
    """Read the test fold once with the chosen predictor, write the record, and say what came out."""
    spec = splits.spec
    prediction, label = predictor(splits.open_test(selection))
    floor = np.tile(np.array(spec.label_mean, dtype=np.float32), (len(label), 1))
    row = next(r for r in curve if int(r["epoch"]) == selection.epoch)
    record = {
        "name": cfg.name,
        "data": cfg.data.name,
        "model": cfg.model.name,
        "penalty": penalty_name(cfg),
        "seed": cfg.seed,
        "valid": {key.removeprefix("valid/"): value for key, value in row.items() if key.startswith("valid/")},
        "test": evaluate(prediction, label, spec.label_range, spec.targets),
        "test_of_train_mean": evaluate(floor, label, spec.label_range, spec.targets),
        "selected": {"by": selection.metric, "epoch": selection.epoch, "epochs": len(curve)},
        "seconds": sum(r.get("seconds", 0.0) for r in curve),
        "parameters": parameters,
        "folds": splits.sizes,
        "label_range": list(spec.label_range),
        "modalities": list(spec.modalities),
        "data_card": splits.segments.card_hash,
        "synthetic": bool(splits.segments.truth),
        "truth": splits.segments.truth,
        **origin(),
    }
    records.write_table(folder / records.CURVE, curve)
    predictions = prediction_rows(splits, prediction, label)
    records.finish(folder, record, predictions)
    summarize(record, folder)
    record = records.read_record(folder)
    for logger in loggers:
        logger.conclude(row, record, predictions)
    return record


def prediction_rows(splits: Splits, prediction: np.ndarray, label: np.ndarray) -> list[dict[str, Any]]:
    """One row per test segment; with several targets, ``label_<target>`` and ``prediction_<target>``."""
    targets = splits.spec.targets
    suffixes = [""] if len(targets) == 1 else [f"_{t}" for t in targets]
    columns = splits.describe("test")
    for i, suffix in enumerate(suffixes):
        columns[f"label{suffix}"] = [float(y) for y in label[:, i]]
        columns[f"prediction{suffix}"] = [float(p) for p in prediction[:, i]]
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]


def origin() -> dict[str, Any]:
    """The code, libraries and machine that made a number."""
    root = Path(__file__).resolve().parents[2]

    def git(*arguments: str) -> str | None:
        result = subprocess.run(["git", "-C", str(root), *arguments], capture_output=True, text=True, check=False)
        return result.stdout.strip() if result.returncode == 0 else None

    status = git("status", "--porcelain", "--untracked-files=no")
    packages = ("mdm", "torch", "pytorch-lightning", "transformers", "numpy", "hydra-core")
    return {
        "commit": git("rev-parse", "HEAD"),
        "uncommitted_changes": None if status is None else bool(status),
        "versions": {"python": platform.python_version(), **{p: version(p) for p in packages}},
        "machine": {"platform": platform.platform(), "threads": torch.get_num_threads()},
    }


# ---- what a person sees


class Progress(Callback):
    """One line per epoch in the log and in dashboards, and the curve so far as CSV."""

    def __init__(self, folder: Path, options: DictConfig, loggers: Sequence[Logger]):
        self.folder, self.options, self.loggers = folder, options, loggers

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert isinstance(pl_module, Learner)
        curve = pl_module.curve
        records.write_table(self.folder / records.CURVE, curve)
        for logger in self.loggers:
            logger.epoch(curve[-1])
        row, monitor = curve[-1], f"valid/{self.options.select}"
        # With several targets their metrics are named like that too, but are not measured in training.
        estimates = [key for key in row if key.startswith("valid/") and key.count("/") == 2 and f"train/{key[6:]}" in row]
        parts = "  ".join(f"{key.removeprefix('valid/')} {row[key]:.3f} (train {row[f'train/{key[6:]}']:.3f})" for key in estimates)
        log.info(
            "epoch %3d  train %.3f  %s %.4f  %s%s(%.1f s)",
            row["epoch"],
            row["train/task"],
            monitor,
            row[monitor],
            parts + "  " if parts else "",
            "best  " if best_row(curve, self.options) == len(curve) - 1 else "",
            row["seconds"],
        )


class Checkpoints(Checkpoint):
    """After every epoch the last checkpoint, then, if it is the best so far, the best one; the end of training where it has waited.

    Lightning's own writes the last one only when a new best is saved, so that a run killed after 30 epochs without a better one
    would begin 30 epochs back.
    """

    def __init__(self, owner: Owner, options: DictConfig):
        self.owner, self.options = owner, options

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert isinstance(pl_module, Learner)
        self.owner.check()
        trainer.save_checkpoint(self.owner.folder / LAST, weights_only=False)  # the optimisers too, to go on from
        mend_best(self.owner.folder, pl_module.curve, self.options)
        trainer.should_stop = trained(pl_module.curve, self.options)


class Termination(Callback):
    """Keep the answer to SIGTERM that was there before Lightning's, which ends training as if it were done."""

    def __init__(self) -> None:
        self.before = signal.getsignal(signal.SIGTERM)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, self.before)


class AtomicCheckpointIO(TorchCheckpointIO):
    """Checkpoints that appear in one rename: a killed run leaves the last whole one."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            torch.save(checkpoint, temporary)
            os.replace(temporary, path)
        finally:  # a full disk is not filled further by half a checkpoint
            temporary.unlink(missing_ok=True)


def announce(splits: Splits) -> None:
    """What the run reads, and whether it is real."""
    spec, sizes = splits.spec, splits.sizes
    widths = ", ".join(f"{m} {f.dim}{' words' if f.tokens else ''}" for m, f in spec.features.items())
    log.info("data %s: %s; segments %s", splits.segments.name, widths, ", ".join(f"{k} {v}" for k, v in sizes.items()))
    if splits.segments.truth:
        known = ", ".join(f"{k} {v:.3f}" for k, v in splits.segments.truth.items())
        log.info("these data are SYNTHETIC (%s); a number from them says nothing about people", known)


def summarize(record: dict[str, Any], folder: Path) -> None:
    """The closing table."""
    from rich.console import Console
    from rich.table import Table

    chosen_at = record["selected"]
    data = f"{record['data']}{' (synthetic)' if record['synthetic'] else ''}"
    title = f"{record['model']} · {record['penalty']} · {data} · seed {record['seed']}"
    caption = (
        f"epoch {chosen_at['epoch']} of {chosen_at['epochs']}, chosen by {chosen_at['by']}; test read once; "
        f"{record['seconds']:.0f} s; {folder}"
    )
    table = Table(title=title)
    for column in ("metric", "valid", "test", "train mean on test"):
        table.add_column(column, justify="left" if column == "metric" else "right")
    for name in record["test"]:
        table.add_row(name, *(f"{record[part][name]:.4f}" for part in ("valid", "test", "test_of_train_mean")))
    console = Console(width=None if sys.stdout.isatty() else 120)
    console.print(table)
    console.print(caption, highlight=False, soft_wrap=True)


def quiet() -> None:
    """Silence remarks that are answered elsewhere, and only those."""
    for name in ("pytorch_lightning", "lightning_fabric"):
        logging.getLogger(f"{name}.utilities.rank_zero").setLevel(logging.WARNING)
        logging.getLogger(f"{name}.accelerators.cuda").setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", ".*does not have many workers.*")
    warnings.filterwarnings("ignore", ".*srun.* command is available.*")
    warnings.filterwarnings("ignore", ".*Checkpoint directory .* exists and is not empty.*")
    warnings.filterwarnings("ignore", ".*treespec.*", category=FutureWarning)
