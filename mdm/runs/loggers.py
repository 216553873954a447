"""Beside the record: dashboards that show a run, Weights & Biases, TensorBoard and whatever else Lightning has a logger for.

They are told every row of the curve when it comes, and the record when it is written, by trained models and baselines alike, and
nothing within an epoch. What they write is never read back: tables come from records alone.
"""

from __future__ import annotations

import logging
import os
import secrets
import shutil
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from mdm.extras import require_extra
from mdm.hints import require_option
from mdm.runs import claims

if TYPE_CHECKING:
    from pytorch_lightning.loggers import Logger as LightningLogger

log = logging.getLogger(__name__)


class Logger(ABC):
    """A dashboard. ``save_dir``: the run's folder, below which it writes.

    >>> class Print(Logger):
    ...     def start(self, name, group, tags, config):
    ...         print(f"{name} begins")
    ...     def epoch(self, row):
    ...         print(row)
    ...     def conclude(self, row, record, predictions):
    ...         print(f"{len(predictions)} test segments")
    ...     def finish(self, failed):
    ...         print("failed" if failed else "finished")
    >>> with start_loggers([Print()], "kl", "first", [], {}, [{"epoch": 0, "valid/mae": 1.2}]):
    ...     pass
    kl begins
    {'epoch': 0, 'valid/mae': 1.2}
    finished
    """

    @abstractmethod
    def start(self, name: str, group: str, tags: Sequence[str], config: Mapping[str, Any]) -> None:
        """The run begins, or goes on after it broke."""

    @abstractmethod
    def epoch(self, row: Mapping[str, float]) -> None:
        """A row of the curve; again the earlier ones, in order, when a run goes on."""

    @abstractmethod
    def conclude(self, row: Mapping[str, float], record: Mapping[str, Any], predictions: Sequence[Mapping[str, Any]]) -> None:
        """The run is finished: the chosen epoch's row, the record (`mdm.runs.records`) and a row for each test segment."""

    @abstractmethod
    def finish(self, failed: bool) -> None:
        """The last call, whatever happened."""


@contextmanager
def start_loggers(
    loggers: Sequence[Logger],
    name: str,
    group: str,
    tags: Sequence[str],
    config: Mapping[str, Any],
    curve: Sequence[Mapping[str, float]],
) -> Iterator[None]:
    """Show a run while the block runs; ``curve``: the rows that there are already."""
    with ExitStack() as stack:
        for logger in loggers:
            logger.start(name, group, tags, config)
            stack.push(lambda error, *_, logger=logger: logger.finish(failed=error is not None))
            for row in curve:
                logger.epoch(row)
        yield


Mode = Literal["offline", "online"]


class Wandb(Logger):
    """Weights & Biases. The step is the epoch; the summary is the chosen epoch's row and the record, test metrics among it.

    Offline, and then without a connection or the wish for one, unless ``mode`` is online; `wandb sync` uploads later. A resumed run
    keeps its id and tells all its rows again, because wandb loses what it had not yet written when its process was killed: offline,
    the new files take the place of the broken run's; online, only rows that the server lacks are sent.

    Raises ValueError on another mode, and if wandb is not installed.
    """

    def __init__(self, save_dir: str, project: str = "mdm", entity: str | None = None, mode: Mode = "offline"):
        require_extra("wandb", "logger=wandb")
        require_option("mode", mode, Mode)
        self.folder, self.project, self.entity, self.mode = Path(save_dir), project, entity, mode

    def start(self, name: str, group: str, tags: Sequence[str], config: Mapping[str, Any]) -> None:
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")  # else it looks up a host, even offline
        import wandb

        # A folder is named after its time and its run's id. An id made of the folder's name would meet that of a removed record.
        earlier = sorted((self.folder / "wandb").glob("*run-*-*"))
        self.run = wandb.init(
            project=self.project,
            entity=self.entity,
            mode=self.mode,
            dir=self.folder,
            id=earlier[0].name.rpartition("-")[2] if earlier else secrets.token_hex(4),
            resume="allow",
            reinit="create_new",  # whatever else of this process logs
            name=name,
            group=group,
            tags=[tag[:64] for tag in tags],  # more is refused
            config=dict(config),
            settings=wandb.Settings(silent=True, console="off", disable_git=True, disable_code=True, symlink=False),
        )
        self.run.define_metric("epoch")
        self.run.define_metric("*", step_metric="epoch")
        for path in earlier:
            if path.name.startswith("offline-") and not any(path.glob("*.synced")):
                shutil.rmtree(path)
        log.info("wandb: run %s, %s, in %s", self.run.id, self.mode, Path(self.run.dir).parent)

    def epoch(self, row: Mapping[str, float]) -> None:
        if row["epoch"] >= self.run.starting_step:
            self.run.log(dict(row), step=int(row["epoch"]), commit=True)

    def conclude(self, row: Mapping[str, float], record: Mapping[str, Any], predictions: Sequence[Mapping[str, Any]]) -> None:
        import wandb

        table = wandb.Table(columns=list(predictions[0]), data=[list(p.values()) for p in predictions])
        with set_environment("WANDB_DATA_DIR", str(self.folder / "wandb")):  # where the table's artifact waits for its upload
            self.run.log({"predictions": table}, step=record["selected"]["epochs"], commit=True)
        self.run.summary.update({**row, **flatten(record)})

    def finish(self, failed: bool) -> None:
        self.run.finish(exit_code=int(failed))


class TensorBoard(Logger):
    """TensorBoard: `tensorboard --logdir outputs`. Scalars by epoch, test metrics at the chosen one; the rest is text.

    Raises ValueError if the package is not installed.
    """

    def __init__(self, save_dir: str):
        self.folder = Path(save_dir) / "tensorboard"
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            raise ValueError(
                "logger=tensorboard writes with the package tensorboard, which is not installed; run `pip install tensorboard`, or "
                "use logger=csv."
            ) from None
        self.writer_of = SummaryWriter

    def start(self, name: str, group: str, tags: Sequence[str], config: Mapping[str, Any]) -> None:
        # All rows come again: whatever a broken run left is hidden.
        self.writer = self.writer_of(str(self.folder), purge_step=0)
        self.writer.add_text("config", f"```\n{claims.dump(config)}```", 0)

    def epoch(self, row: Mapping[str, float]) -> None:
        for key, value in row.items():
            if key != "epoch":
                self.writer.add_scalar(key, value, int(row["epoch"]))
        self.writer.flush()

    def conclude(self, row: Mapping[str, float], record: Mapping[str, Any], predictions: Sequence[Mapping[str, Any]]) -> None:
        for key, value in record["test"].items():
            if value is not None:
                self.writer.add_scalar(f"test/{key}", value, int(row["epoch"]))
        lines = [list(predictions[0]), ["---"] * len(predictions[0]), *(list(p.values()) for p in predictions)]
        self.writer.add_text(
            "predictions", "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines), int(row["epoch"])
        )

    def finish(self, failed: bool) -> None:
        self.writer.close()


class Lightning(Logger):
    """A logger of Lightning's, told what ours are: whole rows by epoch, then the record's numbers at the chosen one.

    >>> from pytorch_lightning.loggers import CSVLogger
    >>> Lightning(CSVLogger("outputs")).logger.save_dir
    'outputs'
    """

    def __init__(self, logger: LightningLogger):
        self.logger = logger

    def start(self, name: str, group: str, tags: Sequence[str], config: Mapping[str, Any]) -> None:
        self.logger.log_hyperparams({"name": name, "group": group, "tags": ", ".join(tags), **flatten(config)})

    def epoch(self, row: Mapping[str, float]) -> None:
        self.logger.log_metrics(dict(row), step=int(row["epoch"]))
        self.logger.save()

    def conclude(self, row: Mapping[str, float], record: Mapping[str, Any], predictions: Sequence[Mapping[str, Any]]) -> None:
        numbers = {key: value for key, value in flatten(record).items() if isinstance(value, int | float)}
        self.logger.log_metrics({f"record/{key}": float(value) for key, value in numbers.items()}, step=int(row["epoch"]))
        self.logger.save()

    def finish(self, failed: bool) -> None:
        self.logger.finalize("failed" if failed else "success")


@contextmanager
def set_environment(name: str, value: str) -> Iterator[None]:
    """An environment variable, set while the block runs."""
    before = os.environ.get(name)
    os.environ[name] = value
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before


def flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested keys joined by slashes: ``{"test": {"mae": 1}}`` → ``{"test/mae": 1}``."""
    found: dict[str, Any] = {}
    for key, value in values.items():
        found |= flatten(value, f"{prefix}{key}/") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return found
