"""Stage one, data: opening pickles without running what is in them.

A pickle may name any function of any module and have it called. `mdm.formats.unpickle` knows a short list of names, containers,
scalars and numpy arrays, which is all that published data sets need, and has a function of its own for each; anything else is
refused by name. It runs in a process with limits (`mdm.formats.confined`), so a file that crashes it is refused like any other.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from mdm.formats import unpickle
from mdm.formats.base import ALIASES, require_existing, require_file, split_by_fold
from mdm.formats.confined import Confined, Unreadable
from mdm.formats.damage import describe_damage

logger = logging.getLogger(__name__)


def load_pickle(path: Path) -> Any:
    """The content of a pickle of Python 2 or 3; nothing in it is executed. Ordered and default dictionaries come as plain ones.

    Raises ValueError if the file is missing, is no complete pickle (a pointer, a web page, half of one), names anything but plain
    containers, scalars and numpy arrays, or needs more memory, depth or time than a file of its size can.
    """
    require_file(path, "A pickle")
    try:
        with Confined(unpickle.__name__, [path], unpickle.LIMITS, site=False) as process:
            return process.ask("load", path)
    except Unreadable as error:
        if error.kind == unpickle.RefusedName.__name__:
            raise ValueError(
                f"{path.name}: a pickle may hold containers, numbers, strings and numpy arrays only, because others run code when "
                f"opened, but this one names {error.text}; nothing was run. Convert it where you trust it."
            ) from None
        if error.kind == "Refused":
            raise ValueError(
                f"{path.name}: a pickle may hold containers, numbers, strings and numpy arrays only, but this one holds "
                f"{error.text}; nothing was run. Convert it where you trust it."
            ) from None
        what = describe_damage(path)
        what = f"is {what}" if what else f"cannot be read ({error}); it is damaged, half downloaded, or of another format"
        raise ValueError(f"{path.name} must be a complete pickle, but {what}.") from None


def load_folds(source: str | Path, format: str) -> tuple[dict[str, Any], list[Path], dict[str, list[str]]]:
    """What a pickle of all folds, or a folder of train.pkl, valid.pkl (or dev.pkl) and test.pkl, holds per fold.

    Returns the folds, the files that they were read from, and for the data card the keys beside the folds, which are left.

    Raises ValueError if a file or a fold is missing, or if `load_pickle` refuses one.
    """
    source = require_existing(Path(source), f"format={format}")
    if not source.is_dir():
        content = load_pickle(source)
        folds = split_by_fold(content, source.name, further=True)
        left = [str(key)[:40] for key in content if str(key) not in ALIASES]
        if left:
            logger.info("%s: %d keys beside the folds were left: %s.", source.name, len(left), ", ".join(left[:10]))
        return folds, [source], {"keys_left": left[:100]} if left else {}
    files = [source / f"{name}.pkl" for name in ALIASES if (source / f"{name}.pkl").is_file()]
    split_by_fold({file.stem: None for file in files}, f"{source} (the names of its .pkl files)")  # before opening any
    return split_by_fold({file.stem: load_pickle(file) for file in files}, source.name), files, {}
