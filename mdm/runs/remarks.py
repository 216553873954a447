"""Before whatever may import Lightning: its remarks, and torch's, that this package answers."""

from __future__ import annotations

import logging
import warnings


def silence_remarks() -> None:
    """Silence remarks that are answered elsewhere, and only those."""
    for name in ("pytorch_lightning", "lightning_fabric"):
        logging.getLogger(f"{name}.utilities.rank_zero").setLevel(logging.WARNING)
        logging.getLogger(f"{name}.accelerators.cuda").setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", ".*does not have many workers.*")
    warnings.filterwarnings("ignore", ".*srun.* command is available.*")
    warnings.filterwarnings("ignore", ".*sync_dist=True.*")  # every rank has computed the metrics of the whole fold
    warnings.filterwarnings("ignore", ".*Checkpoint directory .* exists and is not empty.*")
    warnings.filterwarnings("ignore", ".*PyTorch Profiler default schedule will be overridden.*")
    warnings.filterwarnings("ignore", ".*treespec.*", category=FutureWarning)
