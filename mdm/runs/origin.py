"""The code, libraries and machine that made a number."""

from __future__ import annotations

import platform
import subprocess
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch


def describe_origin() -> dict[str, Any]:
    """The code, libraries and machine that made a number."""
    root = Path(__file__).resolve().parents[2]

    def git(*arguments: str) -> str | None:
        result = subprocess.run(["git", "-C", str(root), *arguments], capture_output=True, text=True, check=False)
        return result.stdout.strip() if result.returncode == 0 else None

    # An installed package may lie in a repository of somebody else's.
    ours = git("rev-parse", "--show-toplevel") == str(root)
    status = git("status", "--porcelain", "--untracked-files=no") if ours else None
    packages = ("mdm", "torch", "pytorch-lightning", "transformers", "numpy", "hydra-core")
    return {
        "commit": git("rev-parse", "HEAD") if ours else None,
        "uncommitted_changes": None if status is None else bool(status),
        "versions": {"python": platform.python_version(), **{p: version(p) for p in packages}},
        "machine": {"platform": platform.platform(), "threads": torch.get_num_threads()},
    }
