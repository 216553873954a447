"""Stage one, data: the lines that read a file which no format knows, for people to complete."""

from __future__ import annotations

from mdm.formats.contents import Contents

LOADS = {
    "pickle": (
        "import pickle\nfrom pathlib import Path",
        "pickle.loads(Path({path!r}).read_bytes())  # runs what is in it: open it where you trust it",
    ),
    "HDF5": ("import h5py", "[{{key: group[key][()] for key in group}} for group in h5py.File({path!r}).values()]"),
    "numpy": ("", "np.load({path!r}, allow_pickle=False)"),
    "table": ("import pandas as pd", 'pd.read_csv({path!r}, sep=None, engine="python").to_dict("records")'),
}
"""Kind of contents → what to import, and what reads the rows."""
OTHER = ("", "[]  # one dictionary for each segment of {path!r}")
LINES = """\
{imported}import numpy as np
from mdm.data.base import Ragged, Segments
from mdm.data.writing import write_store
rows = {rows}
write_store(Segments(
    name={name!r}, ids=tuple(str(row["id"]) for row in rows), group=np.array([row["video"] for row in rows]),
    fold=np.array([row["fold"] for row in rows]),  # train, valid or test
    label=np.array([[row["label"]] for row in rows], np.float32), targets=("sentiment",), label_range=(-3.0, 3.0),
    text={{"words": Ragged.of_words([row["text"].split() for row in rows])}},
    modalities={{"audio": Ragged.of([np.asarray(row["audio"]) for row in rows])}},  # [time, dim] each
), {out!r})
"""


def render_template(contents: Contents, out: str = "") -> str:
    """Lines of Python that make a store of what was found, once the names of its parts stand in them.

    >>> from pathlib import Path
    >>> "np.load('clips.npy', allow_pickle=False)" in render_template(Contents(Path("clips.npy"), "numpy"))
    True
    """
    path, name = str(contents.path), contents.path.resolve().stem
    imported, load = LOADS.get(contents.kind, OTHER)
    return LINES.format(
        imported=f"{imported}\n" if imported else "", rows=load.format(path=path), name=name, out=out or f"data/{name}"
    )
