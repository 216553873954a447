"""The commands and scripts that there are, and small runs that each can read."""

import importlib.util
import sys
from pathlib import Path

import pytest

from mdm.__main__ import list_commands
from mdm.boundary import exit_on_error

ROOT = Path(__file__).resolve().parents[1]
SCRIPTS = sorted(path.stem for path in (ROOT / "scripts").glob("[!_]*.py"))
COMMANDS = list_commands()
STUDIES = (
    "robustness",
    "explanation",
    "grid",
    "traces",
    "codes",
    "estimates",
    "cases",
    "generation",
    "factors",
    "cost",
    "estimation",
    "dependence",
)
"""What scripts/study.py makes; the experiments above declare them."""


def script(name):
    spec = importlib.util.spec_from_file_location(f"commands_{name}", ROOT / "scripts" / f"{name}.py")
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def read_refusal(scripts, capsys, name, *arguments, status=2):
    """The one message of a command that is refused."""
    chosen = (ROOT / "configs" / "study" / f"{name}.yaml").is_file() and not any(a.startswith("study=") for a in arguments)
    with pytest.raises(SystemExit) as raised, exit_on_error():
        scripts["study" if name in STUDIES else name].main([*arguments, *[f"study={name}"] * chosen])
    err = capsys.readouterr().err
    assert raised.value.code == status, err
    assert "Traceback" not in err
    assert "mistake in mdm" not in err
    assert err.count("HYDRA_FULL_ERROR") == 1
    return err
