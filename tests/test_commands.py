"""Whatever a command is given, it ends with a status and one message, never with a traceback."""

from functools import partial
from importlib import import_module
from importlib.metadata import version

import pytest
from made_commands import COMMANDS, ROOT, SCRIPTS, read_refusal, script

from mdm.__main__ import run_command
from mdm.boundary import exit_on_error

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


@pytest.fixture(scope="session")
def scripts():
    return {name: script(name) for name in SCRIPTS} | {name: import_module(f"mdm.commands.{name}") for name in COMMANDS}


@pytest.fixture
def refused(scripts, capsys):
    """(name, arguments) → the one message of a command that is refused."""
    return partial(read_refusal, scripts, capsys)


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


@pytest.mark.parametrize(
    ("name", "argument"),
    # By default `table` meets every argument, and every argument meets one command more.
    [
        pytest.param(name, argument, marks=() if name == "table" or (n + a) % (len(QUICK) - 1) == 0 else pytest.mark.slow)
        for a, argument in enumerate(ARGUMENTS)
        for n, name in enumerate(QUICK)
    ],
)
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
