"""Before everything: the options of Lightning's Trainer that a run keeps for itself, and the message to whoever sets one."""

from __future__ import annotations

OWNED = {
    "max_steps min_steps min_epochs": (
        "a run trains whole epochs and chooses among them",
        "trainer.max_epochs and trainer.patience",
    ),
    "val_check_interval check_val_every_n_epoch num_sanity_val_steps": (
        "a checkpoint is chosen after every epoch, on validation",
        "trainer.limit_val_batches for a shorter look, in a debug run",
    ),
    "limit_test_batches limit_predict_batches": ("the test fold is read once, and whole", "data with a smaller one"),
    "num_nodes devices accelerator strategy sync_batchnorm use_distributed_sampler": (
        "devices belong to the machine and not to the run, whose result they do not change",
        "machine.accelerator and machine.devices, and a sweep for many runs",
    ),
    "gradient_clip_val gradient_clip_algorithm": ("critics have limits of their own", "trainer.gradient_clip and gradient_clip_by"),
    "enable_checkpointing": ("every run keeps its last and its best checkpoint", "both"),
    "callbacks": ("what watches a run has a group of its own", "callbacks=lr_monitor, say"),
    "logger log_every_n_steps": ("curve.csv has every epoch", "logger=… for a dashboard beside it"),
    "default_root_dir": ("a run writes into its own folder", "paths.outputs"),
    "enable_progress_bar enable_model_summary": (
        "what is shown has keys of its own",
        "machine.progress, and callbacks=model_summary",
    ),
    "barebones plugins reload_dataloaders_every_n_epochs inference_mode model_registry": (
        "a run is repeatable to the last bit, and resumes",
        "none of it",
    ),
}
"""Options of Lightning's Trainer that a run does not leave to it → why, and what to use."""


def refuse_owned(option: str) -> None:
    """Raise ValueError for one of `OWNED`."""
    if any(option in names.split() for names in OWNED):
        raise ValueError(explain_owned(option))


def explain_owned(option: str) -> str:
    """Why an option of Lightning's Trainer is not passed on, and what to use."""
    why, instead = next(said for names, said in OWNED.items() if option in names.split())
    return f"trainer.{option} is not passed on to Lightning, because {why}; use {instead}."
