"""What is built and installed: a wheel with everything that commands need, used from an empty folder."""

import configparser
import os
import pickle
import subprocess
import sys
import tomllib
from email.parser import Parser
from pathlib import Path

import numpy as np
import pytest

from mdm.runs import records

ROOT = Path(__file__).resolve().parents[1]
SMALL = ("data.segments.train=40", "data.segments.valid=20", "data.segments.test=24", "trainer.max_epochs=1")


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """A folder that the wheel was installed into, without its requirements, in a repository of somebody else's."""
    folder = tmp_path_factory.mktemp("wheel")
    author = ("-c", "user.name=somebody", "-c", "user.email=else")
    for command in (["init", "--quiet"], [*author, "commit", "--quiet", "--allow-empty", "--message=theirs"]):
        subprocess.run(["git", "-C", folder, *command], check=True)
    quiet = ("--quiet", "--disable-pip-version-check", "--no-deps", "--no-build-isolation", "--no-index")
    pip = [sys.executable, "-m", "pip"]
    done = subprocess.run([*pip, "wheel", *quiet, "-w", folder, ROOT], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (wheel,) = folder.glob("*.whl")
    subprocess.run([*pip, "install", *quiet[:3], "--no-index", "--target", folder / "site", wheel], check=True)
    return folder / "site"


def files_of(folder, *parts):
    return {path.relative_to(folder).as_posix() for part in parts for path in (folder / part).rglob("*") if path.is_file()}


def test_the_wheel_has_what_is_needed_and_nothing_else(site):
    ours = {name for name in files_of(ROOT, "mdm", "hydra_plugins") if "__pycache__" not in name}
    configs = {f"mdm/{name}" for name in files_of(ROOT, "configs")}
    found = {name for name in files_of(site, "mdm", "hydra_plugins") if "__pycache__" not in name}
    assert found == ours | configs
    assert {"mdm/py.typed", "hydra_plugins/mdm_sweeper.py", "mdm/configs/experiment/mdm/table1.yaml"} <= found
    (info,) = site.glob("mdm-*.dist-info")
    assert {path.name for path in site.iterdir()} == {"bin", "mdm", "hydra_plugins", info.name}
    entries = configparser.ConfigParser()
    entries.read(info / "entry_points.txt")
    assert dict(entries["console_scripts"]) == {"mdm": "mdm.__main__:main"}
    said = Parser().parsestr((info / "METADATA").read_text())
    assert said["Version"] == tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert set(said.get_all("Provides-Extra")) == {"all", "cluster", "hdf5", "plots", "tables", "wandb"}


def test_the_console_script(site, tmp_path):
    """It is found, and says its version and what it cannot do, in a folder where nothing is."""
    environment = {**os.environ, "PYTHONPATH": str(site)}

    def mdm(*arguments):
        return subprocess.run(
            [site / "bin" / "mdm", *arguments], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )

    assert "\n  train     Train one run" in mdm("--help").stdout
    assert mdm("--version").stdout.strip() == tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    refused = mdm("trian")
    assert (refused.returncode, refused.stdout) == (2, "")
    assert refused.stderr.startswith("A command of mdm is one of")


def test_every_command_works_in_an_empty_folder(site, tmp_path, in_turn):
    fold = {"raw_text": ["it was fine"], "audio": np.ones((1, 3, 2)), "video": np.ones((1, 4, 1)), "labels": np.array([1.5])}
    (tmp_path / "mosi.pkl").write_bytes(pickle.dumps({"train": fold, "valid": fold, "test": fold}))
    experiment = ("experiment=mdm/table1", "data=synthetic", "seed=0", "penalty=none", *SMALL)
    hunt = ("experiment=search/mdm", "model=lmf", "penalty=none", "seed=0", *SMALL)
    said = in_turn(
        [
            ["train", "model=lmf", "penalty=kl", *SMALL],
            ["train", "-m", *experiment],
            ["table", *experiment],
            ["report", *experiment],
            ["train", "-m", *hunt],
            ["search", *hunt],
            ["train", "--config-dir", "configs", "tuned=search/synthetic/lmf_none", *SMALL],
            ["prepare", "format=mird", "source=mosi.pkl", "out=data/mosi"],
            ["verify", "outputs", "data"],
        ],
        tmp_path,
        [site],
    )
    assert "# Colombo et al., EMNLP 2021, Table 1" in said
    assert "outputs/mdm/table1/report.html: 1 of 1 runs" in said
    assert "→ configs/tuned/search/synthetic/lmf_none.yaml" in said
    assert "7 records and 1 stores read whole" in said
    assert said.rstrip().endswith("0 problems.")
    (folder,) = tmp_path.glob("outputs/single/synthetic/lmf/kl/*/seed=0")
    record = records.read_record(folder)
    assert record["commit"] is None, "which would be that of the repository that the package was installed into"
    assert {path.name for path in tmp_path.iterdir()} == {"mosi.pkl", "outputs", "configs", "data"}
