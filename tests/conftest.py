"""Shared by all tests: shapes are checked at run time, and runs are composed as the command line would."""

import gc
import json
import os
import subprocess
import sys
import warnings
from collections.abc import Sequence
from contextlib import ExitStack, contextmanager
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import pytest
from beartype import BeartypeConf, beartype
from jaxtyping import install_import_hook

# What is imported and collected stays to the end, a million objects: to walk them again and again takes a sixth of the time.
gc.disable()


def pytest_collection_finish():
    gc.freeze()
    gc.enable()


# Before anything of mdm is imported: every annotated shape in it becomes a check. An int is a float, as everywhere in Python;
# the hook takes the checker's name only, so the configured one is put where it can be named.
beartype.with_numeric_tower = beartype(conf=BeartypeConf(is_pep484_tower=True))  # type: ignore[attr-defined]
install_import_hook("mdm", "beartype.beartype.with_numeric_tower")

import torch  # noqa: E402
from hydra import compose, initialize_config_dir  # noqa: E402
from hydra._internal.core_plugins.file_config_source import FileConfigSource  # noqa: E402

ROOT = Path(__file__).resolve().parents[1]


def load_once(load):
    """Hydra's reading of a config's file, once for each state of the file: thousands of composed configs read the same few."""
    kept = {}

    def load_config(self, config_path):
        file = Path(self.path, self._normalize_file_name(config_path))
        if not file.is_file():
            return load(self, config_path)
        key = self.provider, file, file.stat().st_mtime_ns, file.stat().st_size
        if key not in kept:
            kept[key] = load(self, config_path)
        return replace(kept[key], config=deepcopy(kept[key].config), header=dict(kept[key].header))

    return load_config


FileConfigSource.load_config = load_once(FileConfigSource.load_config)  # type: ignore[method-assign]
torch.set_num_threads(int(os.environ.get("MDM_TEST_THREADS", "1")))  # one: tests run in parallel processes

SMALL = (
    "data.segments.train=96",
    "data.segments.valid=32",
    "data.segments.test=40",
    "trainer.max_epochs=2",
)
"""A run of a second."""


@pytest.fixture
def config(tmp_path):
    """overrides → a composed config that writes below tmp_path; small unless ``small=False``."""

    def make(*overrides: str, small: bool = True):
        with initialize_config_dir(str(ROOT / "configs"), version_base="1.3"):
            return compose("train", [f"paths.outputs={tmp_path}/outputs", *(SMALL if small else ()), *overrides])

    return make


@pytest.fixture
def fit():
    """(config, folder, change of the learner before it trains) → (learner, splits), trained outside a record."""
    from mdm.ownership import own
    from mdm.runs.build import build_learner, build_splits
    from mdm.runs.trainer import build_trainer

    def train(cfg, folder, change=lambda learner: None):
        splits = build_splits(cfg)
        learner = build_learner(cfg, splits)
        change(learner)
        folder.mkdir(parents=True, exist_ok=True)
        with own(folder) as owner:
            build_trainer(cfg, owner, splits.spec).fit(learner, splits.train(), splits.valid())
        return learner, splits

    return train


@pytest.fixture
def half_precision():
    """Autocast to bfloat16, as a context.

    On a processor without AVX-512 PyTorch asks oneDNN for an LSTM of bfloat16 all the same, and oneDNN has none (RuntimeError);
    there the LSTM is PyTorch's own.
    """

    @contextmanager
    def half():
        with ExitStack() as stack:
            if not torch.ops.mkldnn._is_mkldnn_bf16_supported():
                stack.enter_context(warnings.catch_warnings())
                warnings.filterwarnings("ignore", "TF32")
                stack.enter_context(torch.backends.mkldnn.flags(enabled=False))
            stack.enter_context(torch.autocast("cpu", dtype=torch.bfloat16))
            yield

    return half


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The real files: MDM_REAL_DATA, or a folder ``data`` that has ``mosi``, below a neighbour of the clone or of what it is in."""
    given = os.environ.get("MDM_REAL_DATA")
    beside = (mosi.parent for above in ROOT.parents for mosi in sorted(above.glob("*/data/mosi")))
    folder = Path(given) if given else next(beside, None)
    if folder is None or not folder.is_dir():
        pytest.skip(f"no real data: set MDM_REAL_DATA (looked in {given or f'folders beside {ROOT} and above'})")
    return folder


IN_TURN = """
import json, sys
from mdm.__main__ import run_command
from mdm.boundary import exit_on_error

for arguments in json.loads(sys.argv[1]):
    print("$ mdm", *arguments, flush=True)
    with exit_on_error():
        run_command(arguments)
"""


def run_commands(commands: Sequence[Sequence[str]], cwd: Path, path: Sequence[Path] = ()) -> str:
    """Give commands of `mdm` one after the other, in one process of their own, for torch takes seconds to import; what they print.

    path: folders where packages are looked for first
    """
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, path))} if path else None
    command = [sys.executable, "-c", IN_TURN, json.dumps([list(arguments) for arguments in commands])]
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="session")
def in_turn():
    """`run_commands`."""
    return run_commands
