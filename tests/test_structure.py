"""The tree is the data's path: imports go only back along it (design rule 1). No file is too long (8)."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "mdm"

# Each stage may import from those before it. What the data's path says is this order.
ORDER = [
    "extras",
    "compose",
    "owned",
    "boundary",
    "types",
    "hints",
    "seeds",
    "metrics",
    "workers",
    "ownership",
    "data",
    "formats",
    "estimators",
    "backbones",
    "penalties",
    "training",
    "statistics",
    "runs",
    "sweeps",
    "reference",
    "tables",
    "study",
    "studies",
    "report",
    "commands",
    "__main__",
]
ONLY = {
    "hydra": {"compose", "boundary", "runs", "sweeps", "study", "studies", "commands"},
    "omegaconf": {"compose", "boundary", "runs", "sweeps", "tables", "study", "studies", "commands"},
    "pytorch_lightning": {"training", "runs"},
    "transformers": {"backbones"},
    "wandb": {"runs"},
}


def stage(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(path: Path, top_level_only: bool = False) -> set[str]:
    tree = ast.parse(path.read_text())
    nodes = tree.body if top_level_only else ast.walk(tree)
    found: set[str] = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


FILES = sorted(path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py")


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_go_back_along_the_path(path):
    here = stage(path)
    assert here in ORDER, f"{here} has no place on the path: give it one in ORDER"
    for name in imports(path):
        parts = name.split(".")
        if parts[0] == "mdm" and len(parts) > 1:
            assert parts[1] in ORDER, name
            assert ORDER.index(parts[1]) <= ORDER.index(here), f"{here} must not import {name}"
        if parts[0] in ONLY:
            assert here in ONLY[parts[0]], f"{here} must not import {name}"


def test_every_stage_exists():
    assert {stage(path) for path in FILES} == set(ORDER)


def test_no_file_has_more_than_300_lines():
    folders = ("mdm", "tests", "scripts", "hydra_plugins")
    lengths = {path: len(path.read_text().splitlines()) for folder in folders for path in (ROOT / folder).rglob("*.py")}
    assert {str(path.relative_to(ROOT)): n for path, n in lengths.items() if n > 300} == {}


def test_every_test_file_has_a_test():
    """What a merge has emptied is missed by nobody."""
    assert [path for path in (ROOT / "tests").rglob("test_*.py") if "\ndef test_" not in path.read_text()] == []


def test_no_concrete_class_is_subclassed():
    """A class is abstract or final (rule 5): whatever of ours is a base class declares abstract methods."""
    classes: dict[str, ast.ClassDef] = {}
    for path in FILES:
        classes |= {node.name: node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.ClassDef)}
    for node in classes.values():
        for base in node.bases:
            name = base.id if isinstance(base, ast.Name) else ""
            if name in classes:
                assert any(
                    isinstance(d, ast.Name) and d.id == "abstractmethod"
                    for method in classes[name].body
                    if isinstance(method, ast.FunctionDef)
                    for d in method.decorator_list
                ), f"{node.name} subclasses {name}, which is concrete"


def test_the_command_line_imports_nothing_heavy():
    """`mdm --help` and `mdm train --help` must not wait for torch."""
    code = "import sys, mdm.__main__, mdm.commands.train; sys.exit(str({'torch', 'numpy', 'pandas'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stderr == "set()\n"


LOOKED_AT = """
import sys
from pathlib import Path
from mdm.commands import verify
from mdm.runs import claims, records

def check(*names):
    assert not set(names) & set(sys.modules), sorted(set(names) & set(sys.modules))

folder = Path("outputs/a")
claims.claim(folder, {"name": "a", "seed": 0})
records.write_table(folder / records.CURVE, [{"epoch": 0, "train/task": 2.0, "valid/mae": 1.0}])
(folder / records.BEST).write_bytes(b"weights")
chosen = {"by": "valid/mae", "epoch": 0, "epochs": 1}
said = {"model": "lmf", "penalty": "none", "data": "synthetic", "seed": 0, "selected": chosen}
records.finish(folder, {**said, "test": {"mae": 1.0}}, [{"id": "v0", "label": 0.0}])
verify.main(["outputs"])
check("torch", "pandas", "scipy", "matplotlib")

from mdm.commands import report, study, table

table.main(["experiment=mdm/table1", "data=synthetic", "seed=0"])
check("pandas", "matplotlib")
report.main(["experiment=mdm/table1", "data=synthetic", "seed=0"])
study.main(["study=traces", f"folder={folder}"])
check("pytorch_lightning", "torchmetrics", "transformers", "sklearn")
"""


def test_what_reads_records_imports_no_more_than_it_needs(tmp_path):
    """Lightning takes five seconds, torch one: neither is waited for by what trains nothing, and verifying waits for no library."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", LOOKED_AT], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "outputs" / "a" / "traces" / "summary.md").is_file()
