"""A run's folder: where it is, what it holds, and what is left to clear away."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from mdm.ownership import LOCK, InUse, find_half_written, own
from mdm.runs import claims, records
from mdm.runs.config import to_plain
from mdm.runs.naming import record_folder
from mdm.runs.records import LAST

log = logging.getLogger(__name__)


def locate_run(cfg: DictConfig, overrides: Sequence[str], card_hash: str) -> tuple[Path, dict[str, Any], str]:
    """A run's folder, the config to be recorded in it, and what it holds (`mdm.runs.claims.examine`); nothing is written.

    Raises ValueError if the folder holds a run of another config.
    """
    folder = record_folder(cfg, overrides)
    # Not where the data lie but what they are belongs to a run: paths stay interpolations, the card's hash is compared. How a table
    # is laid out is no part of its runs.
    config = {key: value for key, value in to_plain(cfg, resolve=False).items() if key not in claims.DECLARED}
    config |= {"paths": to_plain(cfg.paths), "data_card": card_hash}
    return folder, config, claims.examine(folder, config)


def reuse_record(folder: Path) -> dict[str, Any]:
    """The record of a run that is there already."""
    log.info("finished already: %s", folder)
    tidy(folder)
    return records.read_record(folder)


def tidy(folder: Path) -> None:
    """Remove what a process left that was killed right after its record was complete; where nothing may be written it stays."""
    if (folder / LAST).exists() or (folder / LOCK).exists() or find_half_written(folder):
        with contextlib.suppress(OSError, InUse), own(folder):
            (folder / LAST).unlink(missing_ok=True)
