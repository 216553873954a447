"""Before everything: packages that not everybody needs, and the message where one is missing."""

from __future__ import annotations

from importlib.util import find_spec

EXTRAS = {
    "wandb": "wandb",
    "hydra_plugins.hydra_submitit_launcher": "cluster",
    "matplotlib": "plots",
    "h5py": "hdf5",
    "pyarrow": "tables",
}
"""Module → the extra of pyproject.toml that brings it."""


def require_extra(module: str, what: str) -> None:
    """Raise ValueError unless a module of an extra is installed; ``what`` needs it.

    >>> require_extra("h5py", "format=csd")
    """
    try:
        spec = find_spec(module)
    except ModuleNotFoundError:  # the package that it lies in
        spec = None
    if spec is None or spec.origin is None:  # a folder without code, such as wandb/ beside a script, is found too
        raise ValueError(format_missing(module, what))


def format_missing(module: str, what: str) -> str:
    """Which package is missing, and how to install it."""
    name = module.rpartition(".")[2].replace("_", "-")
    return f"{what} needs {name}, which is not installed; run `pip install 'mdm[{EXTRAS[module]}]'`."
