"""Whatever a command is given, it ends with a status and one message, never with a traceback, and leaves nothing half written."""

import errno
import importlib.util
import json
import os
import shutil
import subprocess
import sys
from importlib import import_module
from importlib.metadata import version
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir

from mdm.__main__ import list_commands, run_command
from mdm.boundary import exit_on_error
from mdm.runs import records
from mdm.runs.protocol import run

ROOT = Path(__file__).resolve().parents[1]
SCRIPTS = sorted(path.stem for path in (ROOT / "scripts").glob("*.py"))
COMMANDS = list_commands()
SMALL = ("data.segments.train=40", "data.segments.valid=20", "data.segments.test=24", "trainer.max_epochs=1")
CHOSEN = ("experiment=mdm/table1", "data=synthetic", "seed=0,1", "penalty=none,kl", *SMALL)
OF = {
    "table": "mdm/table1",
    "report": "mdm/table1",
    "grid": "mird/figure6",
    "traces": "mmim/figure2",
    "robustness": "mdm/figure2",
    "explanation": "mdm/table3_lmf",
    "codes": "mird/figure4",
    "estimates": "mird/figure5",
    "cases": "mird/figure8",
    "generation": "mfm/figure5",
    "factors": "mfm/figure9",
    "search": "search/mdm",
    "cost": "mird/table2",
    "estimation": "mdm/lipschitz",
    "dependence": "mdm/dependence",
}
"""An experiment that each script, or study, reads."""
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


@pytest.fixture(scope="session")
def scripts():
    return {name: script(name) for name in SCRIPTS} | {name: import_module(f"mdm.commands.{name}") for name in COMMANDS}


@pytest.fixture
def refused(scripts, capsys):
    """(name, arguments) → the one message of a command that is refused."""

    def call(name, *arguments, status=2):
        chosen = (ROOT / "configs" / "study" / f"{name}.yaml").is_file() and not any(a.startswith("study=") for a in arguments)
        with pytest.raises(SystemExit) as raised, exit_on_error():
            scripts["study" if name in STUDIES else name].main([*arguments, *[f"study={name}"] * chosen])
        err = capsys.readouterr().err
        assert raised.value.code == status, err
        assert "Traceback" not in err
        assert "mistake in mdm" not in err
        assert err.count("HYDRA_FULL_ERROR") == 1
        return err

    return call


# ---- what is asked for

ARGUMENTS = {
    "experiment=": "Could not find 'experiment/'",
    "experiment=nothing": "Could not find 'experiment/nothing'; experiment= may be mdm/critics",
    "experiment=glob(mdm/*)": "glob",
    "experiment=mdm/table1,mdm/table2": "mdm/table1,mdm/table2",
    "+job=2": "A config has no key job, got job, which nothing would read",
    "job=2": "Could not override 'job': Key 'job' is not in struct",
    "trainer.epochs=3": "Key 'epochs' is not in struct",
    "--bogus": "--bogus",
    "+x": "'+x'",
    "a=[": "ends too early",
    "seed=abc": "hole number",
    "seed=1.5": "hole number",
    "seed=interval(0,1)": "seed=interval(0,1)",
    "model=nothing": "nothing",
    "data=glob(*)": "data=glob(*)",
    "trainer.max_epochs=0": "trainer.max_epochs must be a whole number of at least 1",
    "trainer.max_epochs=1,2": "trainer.max_epochs=1,2",
    "name=../x": "name names a folder of the record",
    "paths.outputs=": "paths.outputs must be a folder",
}
OPTIONS = {
    "jobs=0": "jobs is a number of processes, 1 to 512, got jobs=0",
    "jobs=two": "got jobs=two",
    "jobs=": "got jobs=",
    "mixed=maybe": "mixed is true or false",
    "mixed=": "mixed is true or false",
}
WITH_JOBS = ("robustness", "codes")
QUICK = ("table", "robustness", "explanation", "search", "cost")
"""Those that between them read their arguments in every way that there is."""


@pytest.mark.parametrize("argument", ARGUMENTS)
@pytest.mark.parametrize("name", QUICK)
def test_arguments(refused, tmp_path, name, argument):
    own = [f"experiment={OF[name]}"] * (not argument.startswith("experiment="))
    outputs = [f"paths.outputs={tmp_path}/outputs"] * (not argument.startswith("paths.outputs="))
    assert ARGUMENTS[argument] in refused(name, *own, *outputs, argument)
    assert not (tmp_path / "outputs").exists()


@pytest.mark.parametrize("argument", OPTIONS)
@pytest.mark.parametrize("name", WITH_JOBS)
def test_options(refused, tmp_path, name, argument):
    assert OPTIONS[argument] in refused(name, f"experiment={OF[name]}", f"paths.outputs={tmp_path}/outputs", argument)
    assert not (tmp_path / "outputs").exists()


@pytest.mark.parametrize(("name", "option"), [(name, "mixed=maybe") for name in ("table", "report", "grid", "traces")])
def test_mixed_is_true_or_false(refused, name, option):
    assert "mixed is true or false" in refused(name, f"experiment={OF[name]}", option)


@pytest.mark.parametrize("said", [["overwrite=abc"], ["overwrite="], ["overwrite=True"], ["overwrite=true", "overwrite=false"]])
def test_overwrite_is_true_or_false(refused, said):
    assert "overwrite is true or false" in refused("search", "experiment=search/mdm", *said)


@pytest.mark.parametrize(
    ("name", "key", "message"),
    [
        ("table", "table=null", "table must be a mapping, but is None"),
        ("table", "table=3", "table must be a mapping, but is 3"),
        ("table", "table.product=null", "and 0 rows; set table"),
        ("table", "table.seeds=abc", "table.seeds must be a whole number"),
        ("table", "+table.foo=1", "table has no key foo"),
        ("table", "table.primary=foo", "primary=foo"),
        ("codes", "study.steps=abc", "study.steps must be a whole number"),
        ("codes", "+study.foo=1", "has no key foo"),
        ("generation", "study.draws=0", "study.draws must be a whole number of at least 1"),
        ("generation", "study.of=3", "study.of must be a list"),
        ("factors", "study.donors=1", "study.donors must be a whole number of at least 2"),
        ("robustness", "study=3", "One study is made at a time, named by a file of configs/study"),
        ("robustness", "study=nothing", "Could not find 'study/nothing'; study= may be cases, codes, dependence"),
        ("robustness", "study=a,b", "One study is made at a time"),
        ("robustness", "study.levels=[2]", "study.levels must be a list (each a finite number between 0 and 1)"),
        ("robustness", "study.corruptions=[x]", "study.corruptions is ['x']"),
        ("robustness", "+study.foo=1", "has no key foo"),
        ("robustness", "study.a=[", "ends too early"),
        ("robustness", "study.a=b,c", "of single values"),
        ("explanation", "study.new=abc", "study.new must be a whole number of at least 0"),
        ("explanation", "study.examples=-1", "study.examples must be a whole number of at least 0"),
        ("cost", "study.segment=null", "study.segment must be a mapping"),
        ("cost", "study.segment.audio.dim=0", "study.segment.audio.dim must be a whole number"),
        ("cost", "study.rows.MIRD.overrides=[a]", "Error parsing override 'a'"),
        ("estimation", "jobs=0", "jobs is a number of processes, 1 to 512"),
        ("estimation", "study.laws.two.rhos=[2]", "rho=2"),
        ("estimation", "study.layout.rows=[x]", "study.layout.rows must be a list (each measure, modalities or setting)"),
        ("estimation", "study.layout.rows=[]", "A figure has rows and columns"),
        ("estimation", "+study.cell.foo=1", "study.cell has no key foo"),
    ],
)
def test_sections_of_an_experiment(refused, tmp_path, name, key, message):
    assert message in refused(name, f"experiment={OF[name]}", f"paths.outputs={tmp_path}/outputs", key)
    assert not (tmp_path / "outputs").exists()


@pytest.mark.parametrize("name", ["traces", "factors", "explanation"])
@pytest.mark.parametrize("said", [["folder=/nothing"], ["folder="], ["folder=a", "folder=b"], ["folder=.", "seed=0"], ["folder=."]])
def test_a_folder_that_is_no_run(refused, tmp_path, monkeypatch, name, said):
    monkeypatch.chdir(tmp_path)
    found = refused(name, *said, f"study={name}")
    assert any(text in found for text in ("or one of folder=", "or of one folder=", "A finished run has a metrics.json"))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("name", "said", "message"),
    [
        ("bench", "threads=abc", "threads is a whole number"),
        ("bench", "job=2", "bench.py has no key job"),
        ("bench", "nothing", "but nothing was asked for"),
        ("bench", "models=nothing", "bench.py knows the models"),
        ("verify", "nothing", "mdm verify reads folders"),
    ],
)
def test_options_of_one_script(refused, name, said, message):
    assert message in refused(name, said)


@pytest.mark.parametrize("name", SCRIPTS)
def test_help(scripts, capsys, name):
    with exit_on_error():
        assert not scripts[name].main(["--help"])
    out, err = capsys.readouterr()
    assert f"mdm {name} " in out if name in COMMANDS else f"scripts/{name}.py" in out
    assert not err


@pytest.mark.parametrize("name", SCRIPTS)
def test_every_script_has_the_boundary(name):
    assert (
        (ROOT / "scripts" / f"{name}.py")
        .read_text()
        .endswith(
            (
                'if __name__ == "__main__":\n    with exit_on_error():\n        main(sys.argv[1:])\n',
                'if __name__ == "__main__":\n    with exit_on_error():\n        sys.exit(main(sys.argv[1:]))\n',
            )
        )
    )


def test_mdm_lists_its_commands(capsys):
    """Each is found by being in the folder, and said in its docstring's first line."""
    files = sorted(path.stem for path in (ROOT / "mdm" / "commands").glob("*.py") if not path.stem.startswith("_"))
    assert files == COMMANDS
    assert run_command([]) is run_command(["--help"]) is None
    said = capsys.readouterr().out
    for name in COMMANDS:
        first = import_module(f"mdm.commands.{name}").__doc__.partition("\n")[0]
        assert first.endswith(".")
        assert said.count(f"\n  {name:<10}{first}\n") == 2
    assert run_command(["--version"]) is None
    assert capsys.readouterr().out == f"{version('mdm')}\n"
    with pytest.raises(ValueError, match=r"A command of mdm is one of prepare, report, .*, got trian; see `mdm --help`"):
        run_command(["trian"])


# ---- what lies there


@pytest.fixture(scope="session")
def trained(tmp_path_factory):
    """Four runs of mdm/table1, two of each of two rows."""
    outputs = tmp_path_factory.mktemp("commands") / "outputs"
    rows = ["model=eflstm", "model.backbone.variant=separate", "model.backbone.head=linear"]
    for seed in (0, 1):
        for penalty in ("none", "kl"):
            overrides = ["experiment=mdm/table1", "data=synthetic", *rows, f"penalty={penalty}", *SMALL, f"paths.outputs={outputs}"]
            with initialize_config_dir(str(ROOT / "configs"), version_base="1.3"):
                cfg = compose("train", [*overrides, f"seed={seed}"])
            run(cfg, [*overrides, f"seed={seed}"])
    return outputs


@pytest.fixture
def outputs(trained, tmp_path):
    return Path(shutil.copytree(trained, tmp_path / "outputs"))


def of_seed(outputs, seed=0):
    """The folders of both rows."""
    return sorted(path.parent for path in outputs.rglob(f"seed={seed}/config.yaml"))


def edit(name, content):
    return lambda folder: (folder / name).write_bytes(content)


DAMAGES = {
    "empty metrics": edit(records.METRICS, b""),
    "truncated metrics": lambda folder: (folder / records.METRICS).write_bytes((folder / records.METRICS).read_bytes()[:99]),
    "a list of metrics": edit(records.METRICS, b"[]"),
    "binary metrics": edit(records.METRICS, b"\xff\x00\x81"),
    "nested metrics": edit(records.METRICS, b"[" * 100_000),
    "edited metrics": lambda folder: (folder / records.METRICS).write_text(
        (folder / records.METRICS).read_text().replace('"seed": ', '"seed": 1')
    ),
    "another version": edit(records.METRICS, b'{"stored": {"version": 9}}'),
    "empty config": edit(records.CONFIG, b""),
    "binary config": edit(records.CONFIG, b"\xff\x00"),
    "edited config": lambda folder: (folder / records.CONFIG).write_text((folder / records.CONFIG).read_text() + "a: 1\n"),
    "lost config": lambda folder: (folder / records.CONFIG).unlink(),
}


@pytest.mark.parametrize(
    ("name", "kind"), [*(("table", kind) for kind in DAMAGES), ("traces", "nested metrics"), ("traces", "lost config")]
)
def test_every_damaged_record_is_named(refused, outputs, name, kind):
    for folder in of_seed(outputs):
        DAMAGES[kind](folder)
    before = sorted(outputs.rglob("*"))
    said = refused(name, *CHOSEN, f"paths.outputs={outputs}")
    assert all(str(folder) in said for folder in [*outputs.rglob("seed=0")])
    assert sorted(outputs.rglob("*")) == before


@pytest.mark.parametrize("content", [None, b"", b"epoch\n", b"a,b\n1,2\n", b"\xff"])
def test_a_damaged_curve(refused, outputs, content):
    folder = of_seed(outputs)[0]
    (folder / records.CURVE).unlink() if content is None else (folder / records.CURVE).write_bytes(content)
    assert f"{folder}" in refused("traces", f"folder={folder}")


@pytest.mark.parametrize("name", [records.BEST, records.PREDICTIONS, records.CURVE])
def test_a_script_that_loads_models_names_every_damaged_file(refused, outputs, name):
    for folder in of_seed(outputs):
        (folder / name).write_bytes(b"garbage")
    said = refused("study", "study=explanation", *CHOSEN, f"paths.outputs={outputs}")
    assert all(str(folder / name) in said for folder in of_seed(outputs))


def test_an_error_that_is_no_text_does_not_hide_a_table(scripts, outputs, capsys):
    folder = of_seed(outputs)[0]
    (folder / records.METRICS).unlink()
    (folder / records.ERROR).write_bytes(b"Traceback\nValueError: \xff\xfe")
    with exit_on_error():
        scripts["table"].main([*CHOSEN, f"paths.outputs={outputs}"])
    assert "# Colombo et al., EMNLP 2021, Table 1" in capsys.readouterr().out


@pytest.mark.parametrize("make", ["a folder", "a loop"])
def test_what_is_no_record_counts_as_not_finished(scripts, outputs, capsys, make):
    path = of_seed(outputs)[0] / records.METRICS
    path.unlink()
    path.mkdir() if make == "a folder" else path.symlink_to(path)
    with exit_on_error():
        scripts["table"].main([*CHOSEN, f"paths.outputs={outputs}"])
    assert "# Colombo et al., EMNLP 2021, Table 1" in capsys.readouterr().out


# ---- the system


REFUSALS = {
    errno.ENOSPC: "needs space on its disk, but none is left; free some",
    errno.EROFS: "must be written, but lies on a disk that can only be read",
    errno.EACCES: "must be open to this user, but is not",
    errno.EDQUOT: "the quota is used up",
    errno.EIO: "its disk fails",
    errno.EBADF: "the system says",
}


@pytest.mark.parametrize(
    ("name", "number"), [*(("table", number) for number in REFUSALS), *((n, errno.ENOSPC) for n in ("grid", "traces", "report"))]
)
def test_a_disk_that_refuses(refused, outputs, monkeypatch, name, number):
    """What is said goes by the number, and what is left behind by the command."""

    def fail(source, target):
        raise OSError(number, os.strerror(number))  # without a name, as of a full disk

    monkeypatch.setattr(os, "replace", fail)
    said = refused(name, *CHOSEN, f"paths.outputs={outputs}")
    assert REFUSALS[number] in said
    assert any(str(outputs) in line.split(" ")[0] for line in said.splitlines())  # a study's bar of progress is above
    assert not list(outputs.rglob(".*"))


@pytest.mark.parametrize("name", ["table", "grid", "traces", "report"])
def test_a_file_for_a_folder(refused, outputs, name):
    shutil.rmtree(outputs.parent / "elsewhere", ignore_errors=True)
    folder = outputs / "mdm" / "table1"
    kept = outputs / "kept"
    folder.rename(kept)
    folder.write_text("")
    said = refused(name, *CHOSEN, f"paths.outputs={outputs}")
    assert str(folder) in said or "has none" in said


TRIED = """
import contextlib, io, json, runpy, sys

for arguments in json.loads(sys.argv[1]):
    sys.argv = ["train.py", *arguments]
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(io.StringIO()) as err:
        try:
            runpy.run_path("train.py", run_name="__main__")
            status = 0
        except SystemExit as ended:
            status = ended.code
    print(json.dumps([status, out.getvalue(), err.getvalue()]), flush=True)
"""


def test_train_refuses_in_one_message(tmp_path):
    """Hydra's own, ours, and the system's, through the real command; one process for all, for torch takes seconds to import."""
    (tmp_path / "file").touch()
    outputs = f"paths.outputs={tmp_path}/outputs"
    cases = {
        "Key 'epochs' is not in struct": ["trainer.epochs=3", outputs],
        "must lie in a folder, but there is a file in its place": [f"paths.outputs={tmp_path}/file/x", *SMALL],
        "One experiment is run at a time": ["-m", "experiment=mdm/table1,mdm/table2", outputs],
        "Seeds are whole numbers, got seed=a,b; use seed='range(10)', say.": ["-m", "seed=a,b", outputs],
        "table.test: expected one of crossed, mann_whitney": ["-m", "experiment=mdm/table1", "table.test=welch", outputs],
        "mdm/table1 is many runs: mdm train -m experiment=mdm/table1": ["experiment=mdm/table1", outputs],
    }
    command = [sys.executable, "-c", TRIED, json.dumps(list(cases.values()))]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    tried = [json.loads(line) for line in done.stdout.splitlines()]
    for message, (status, out, err) in zip(cases, tried, strict=True):
        assert (status, out) == (2, ""), err
        assert message in err
        assert err.endswith("(HYDRA_FULL_ERROR=1 shows where.)\n")
        assert len(err.splitlines()) == 2
    assert not (tmp_path / "outputs").exists()
