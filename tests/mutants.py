"""Which faults do the tests find? Each of `mutants.yaml` is put into a copy of the tree, one at a time, and its tests run with -x.

    make mutants
    python tests/mutants.py [file=mdm/training] [jobs=2] [limit=600] [slow=false]

file: only mutants of files whose path contains this
jobs: so many at a time
limit: seconds a mutant; one that takes longer counts as killed, for its tests do not end
slow: the tests of the marker ``slow`` too

A mutant is a line ``old`` that occurs once in its file and becomes ``new``. It is ``killed`` by the test that fails, or has
``survived``; it is ``missing`` where the line does not occur once, so that the list follows the code, and ``broken`` where tests
did not run at all. Exits with 1 if one is not killed. The working tree is only read.

Tools that make all mutants by themselves (mutmut, cosmic-ray) would take days: 26,000 lines give tens of thousands of mutants, and
each process waits for torch. Here torch is imported once, by the server that all are forked from.
"""

import multiprocessing
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from queue import SimpleQueue

import yaml

ROOT = Path(__file__).resolve().parents[1]
HEAVY = [
    "beartype",
    "jaxtyping",
    "torch",
    "pytorch_lightning",
    "transformers",
    "scipy.stats",
    "sklearn",
    "pandas",
    "matplotlib",
    "hydra",
]
"""What is imported once. Nothing of mdm, which the tests import from the copy."""
FAILED = {1, 2}
"""pytest's exit codes where tests failed, or could not be collected."""


def copy_tree(folder: Path) -> Path:
    """The files that git knows or would take, as they are, below a folder."""
    listed = subprocess.run(["git", "ls-files", "-coz", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True, check=True)
    copy = folder / ROOT.name
    for name in listed.stdout.split("\0"):
        if name and (ROOT / name).is_file():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, copy / name)
    return copy


def run_tests(copy: str, tests: list[str], marks: str, log: str) -> None:
    """Run tests of a copy in this process, which is a fork of the server, and exit with pytest's code."""
    import pytest

    assert "mdm" not in sys.modules, "the copy's mdm must be imported, no other"
    os.chdir(copy)
    sys.path[:0] = [copy]
    os.environ |= {"PYTHONPATH": copy, "OMP_NUM_THREADS": "1"}
    with open(log, "w") as file, redirect_stdout(file), redirect_stderr(file):
        quiet = ["--tb=line", "-p", "no:cacheprovider", "-p", "no:xdist", "-W", "ignore::pytest.PytestAssertRewriteWarning"]
        code = pytest.main(["-x", "-m", marks, *quiet, *tests])
        file.flush()
    os._exit(code)


def write(path: Path, text: str) -> None:
    """Write a module; what Python keeps compiled of it goes, for that is known by size and whole second alone."""
    path.write_text(text)
    for compiled in (path.parent / "__pycache__").glob(f"{path.stem}.*"):
        compiled.unlink()


def find_failure(copy: Path, tests: list[str], marks: str, limit: float) -> str:
    """The first test of a copy that fails, empty if none does. Raises RuntimeError if the tests did not run."""
    log = copy.parent / "log"
    child = multiprocessing.get_context("forkserver").Process(target=run_tests, args=(str(copy), tests, marks, str(log)))
    child.start()
    child.join(limit)
    if child.is_alive():
        child.kill()
        child.join()
        return f"no end within {limit:.0f} s"
    if child.exitcode == 0:
        return ""
    said = re.search(r"^(?:FAILED|ERROR) (.*?)(?: - .*)?$", text := log.read_text(), re.MULTILINE)
    if child.exitcode not in FAILED or not said:
        raise RuntimeError(f"exit code {child.exitcode}: {text[-300:]}")
    return said[1]


def try_mutant(mutant: dict[str, str], copy: Path, marks: str, limit: float) -> tuple[str, str]:
    """killed, survived, missing or broken; and by which test, or why it is."""
    path = copy / mutant["file"]
    text = path.read_text() if path.is_file() else ""
    if text.count(mutant["old"]) != 1:
        return "missing", f"the line occurs {text.count(mutant['old'])} times"
    write(path, text.replace(mutant["old"], mutant["new"]))
    try:
        failed = find_failure(copy, mutant["tests"].split(), marks, limit)
        write(path, text)
        # A test that fails without the fault has not found it.
        if "::" in failed and find_failure(copy, [failed], marks, limit):
            return "broken", f"{failed} fails without it"
    except RuntimeError as error:
        return "broken", str(error)
    finally:
        write(path, text)
    return ("killed", failed) if failed else ("survived", "")


def main(arguments: list[str]) -> int:
    """Print a line for each mutant, and how many were killed; whether one was not."""
    options = {"file": "", "jobs": "2", "limit": "600", "slow": "false"}
    given = dict(argument.partition("=")[::2] for argument in arguments)
    if set(given) - set(options):
        raise SystemExit(
            f"Expected {', '.join(f'{key}=…' for key in options)}, got {' '.join(arguments)}; see the module's docstring."
        )
    options |= given
    mutants = [m for m in yaml.safe_load((ROOT / "tests/mutants.yaml").read_text()) if options["file"] in m["file"]]
    marks = "not slurm" if options["slow"] == "true" else "not slow and not slurm"
    multiprocessing.get_context("forkserver").set_forkserver_preload(HEAVY)
    began, copies, counts = time.monotonic(), SimpleQueue[Path](), dict.fromkeys(("killed", "survived", "missing", "broken"), 0)
    with tempfile.TemporaryDirectory() as folder:
        for number in range(int(options["jobs"])):
            copies.put(copy_tree(Path(folder) / str(number)))

        def attempt(mutant: dict[str, str]) -> None:
            copy, since = copies.get(), time.monotonic()
            state, said = try_mutant(mutant, copy, marks, float(options["limit"]))
            copies.put(copy)
            counts[state] += 1
            print(f"{state:9}{time.monotonic() - since:5.0f} s  {mutant['file']}: {mutant['why']}  {said}", flush=True)

        with ThreadPoolExecutor(int(options["jobs"])) as pool:
            list(pool.map(attempt, mutants))
    print(
        ", ".join(f"{n} {state}" for state, n in counts.items()), f"of {len(mutants)} mutants in {time.monotonic() - began:.0f} s"
    )
    return int(counts["killed"] < len(mutants))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
