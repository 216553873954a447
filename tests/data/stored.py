"""The files of a store, and a change of some arrays of one."""

import numpy as np

FILES = {
    "manifest.json",
    "segments.npz",
    *(f"{feature}.{part}.npy" for feature in ("words", "vectors", "audio", "video") for part in ("values", "offsets")),
}


def edit(path, **changes):
    """Some of the arrays of an .npz file changed, the others left."""
    with np.load(path) as archive:
        arrays = {key: archive[key] for key in archive.files}
    np.savez(path, **(arrays | {key: change(arrays[key]) for key, change in changes.items()}))
