"""Stage one, data: fetching .csd files with the CMU-MultimodalSDK, for those who have it installed.

Nothing else of the framework uses the SDK: `mdm.formats.csd` reads the files with HDF5 alone.
"""

from __future__ import annotations

import json
from importlib import import_module
from pathlib import Path

SEQUENCES = {
    "cmu_mosi": ("COVAREP", "FACET_4.1"),
    "cmu_mosei": ("COVAREP", "FACET 4.2"),
}
"""Data set → the SDK's keys of its usual audio and video features (74 and 47 wide; 74 and 35)."""


def download(dataset: str, folder: str | Path) -> list[Path]:
    """Labels, words, audio, video and standard folds of a data set into a folder, which may be new.

    Files that are there already are kept. Returns what the folder then holds. Raises ValueError if the data
    set is unknown, the SDK is not installed or fails in any way, its server does not answer, or the folder cannot be written.
    """
    if dataset not in SEQUENCES:
        raise ValueError(f"download must be one of {', '.join(SEQUENCES)}, but is {dataset!r}; other data must be fetched by hand.")
    try:
        sdk = import_module("mmsdk.mmdatasdk")
    except ImportError:
        raise ValueError(
            "download needs the CMU-MultimodalSDK (mmsdk), but it is not installed; install it from "
            "https://github.com/CMU-MultiComp-Lab/CMU-MultimodalSDK, or fetch the .csd files by hand into the source folder."
        ) from None
    folder = Path(folder)
    try:
        recipe = getattr(sdk, dataset)
        folder.mkdir(parents=True, exist_ok=True)
        links = {**recipe.labels, "words": recipe.raw["words"], **{key: recipe.highlevel[key] for key in SEQUENCES[dataset]}}
        for key, link in links.items():
            path = folder / link.rsplit("/", 1)[-1]
            if not path.exists():
                _fetch(sdk, key, link, path)
        folds = {fold: list(getattr(recipe.standard_folds, f"standard_{fold}_fold")) for fold in ("train", "valid", "test")}
        (folder / f"{dataset}_standard_folds.json").write_text(json.dumps(folds))
        return sorted(folder.iterdir())
    except (Exception, SystemExit) as error:  # the SDK's code, its server and the disk: it even exits where it should raise
        cause = str(error) or type(error).__name__
        raise ValueError(
            f"download of {dataset} into {folder} must reach the SDK's server, but failed ({cause}); try again later, or "
            "fetch the files by hand into the source folder."
        ) from None


def _fetch(sdk: object, key: str, link: str, path: Path) -> None:
    """One file; what a broken transfer leaves is removed, as the SDK would take it for the whole."""
    try:
        sdk.mmdataset({key: link}, str(path.parent))  # type: ignore[attr-defined]
    except BaseException:
        path.unlink(missing_ok=True)
        raise
