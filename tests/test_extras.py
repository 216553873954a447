"""What lacks a package of an extra says which extra, in one message, before anything is written."""

import ast
import tomllib
from pathlib import Path

import h5py
import numpy as np
import pytest

from mdm import extras
from mdm.__main__ import list_commands
from mdm.boundary import explain_hydra
from mdm.commands import report
from mdm.extras import require_extra
from mdm.formats.prepare import prepare
from mdm.runs import protocol as runs
from mdm.sweeps import sweep

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def without(monkeypatch):
    """As if a package were not installed: its name → from now on."""

    def lack(module):
        found = extras.find_spec
        monkeypatch.setattr(extras, "find_spec", lambda name: None if name.split(".")[-1] == module else found(name))

    return lack


def test_every_extra_is_declared():
    """Those that a message names are those of pyproject.toml, and [all] has them."""
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert set(extras.EXTRAS.values()) | {"all"} == set(declared)
    assert declared["all"] == [f"mdm[{','.join(name for name in declared if name != 'all')}]"]
    for module, extra in extras.EXTRAS.items():
        package = module.rpartition(".")[2].replace("_", "-")
        assert [each.partition(">")[0] for each in declared[extra]] == [package]
        require_extra(module, "this test")


def test_a_folder_of_the_same_name_is_no_package(tmp_path, monkeypatch):
    """Runs with logger=wandb leave a folder wandb/."""
    (tmp_path / "mdm_nothing").mkdir()
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(extras.EXTRAS, "mdm_nothing", "plots")
    for module in ("mdm_nothing", "mdm_nothing.inner"):
        monkeypatch.setitem(extras.EXTRAS, module, "plots")
        with pytest.raises(ValueError, match=r"this needs .*, which is not installed; run `pip install 'mdm\[plots\]'`"):
            require_extra(module, "this")


def test_wandb(without, config, tmp_path):
    without("wandb")
    cfg = config("logger=wandb")
    for begin in (lambda: runs.run(cfg), lambda: sweep.plan([["seed=0"]], lambda overrides: cfg)):
        with pytest.raises(ValueError, match=r"logger=wandb needs wandb, which is not installed; run `pip install 'mdm\[wandb\]'`"):
            begin()
    assert not list((tmp_path / "outputs").rglob("config.yaml"))


def test_matplotlib(without, tmp_path):
    without("matplotlib")
    with pytest.raises(ValueError, match=r"needs matplotlib, which is not installed; run `pip install 'mdm\[plots\]'`"):
        report.main(["experiment=mdm/table1", f"paths.outputs={tmp_path}"])
    assert not list(tmp_path.iterdir())


def test_h5py(without, tmp_path):
    without("h5py")
    for fold in ("train", "valid", "test"):
        for name, value in (("y", np.ones((2, 1))), ("audio", np.ones((2, 3, 4)))):
            with h5py.File(tmp_path / f"{name}_{fold}.h5", "w") as file:
                file["data"] = value
    with pytest.raises(ValueError, match=r"HDF5 files needs h5py, which is not installed; run `pip install 'mdm\[hdf5\]'`"):
        prepare("mfn_h5", tmp_path, tmp_path / "store")
    assert not (tmp_path / "store").exists()


def test_the_launcher_of_a_cluster():
    """Hydra's own words where hydra-submitit-launcher is not there."""
    from hydra.errors import ConfigCompositionException

    lacks = ConfigCompositionException(
        "In 'hydra/launcher/slurm': Could not load 'hydra/launcher/submitit_slurm'.\n\n"
        "Available options in 'hydra/launcher':\n\tlocal"
    )
    assert explain_hydra(lacks) == (
        "hydra/launcher=slurm needs hydra-submitit-launcher, which is not installed; run `pip install 'mdm[cluster]'`."
    )


def test_all_but_reports_and_studies_does_without():
    """No module that the other commands or `prepare` import at their start imports one of them at its own."""
    formats = [f"mdm.formats.{path.stem}" for path in (ROOT / "mdm" / "formats").glob("*.py") if path.stem != "hdf5"]
    commands = [f"mdm.commands.{name}" for name in list_commands()]
    reached, left = (
        set(),
        [*commands, "mdm.runs.protocol", "mdm.sweeps.sweep", *formats],
    )
    while left:
        name = left.pop()
        path = ROOT.joinpath(*name.split("."))
        file = path.with_suffix(".py") if path.with_suffix(".py").is_file() else path / "__init__.py"
        if name in reached or not file.is_file():  # what a module defines
            continue
        reached.add(name)
        for node in ast.parse(file.read_text()).body:
            if isinstance(node, ast.Import | ast.ImportFrom):
                module = getattr(node, "module", None)
                named = (
                    [alias.name for alias in node.names]
                    if module is None
                    else [module, *(f"{module}.{a.name}" for a in node.names)]
                )
                assert not {each.split(".")[0] for each in named} & {"wandb", "submitit", "matplotlib", "h5py"}, name
                left += [each for each in named if each.startswith("mdm.")]
    assert {"mdm.training.learner", "mdm.tables.page", "mdm.study", "mdm.formats.csd", "mdm.sweeps.attempt"} <= reached
