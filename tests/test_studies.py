"""What every study keeps: it is found by being there, is built of plain values, and measures, says and draws."""

import importlib
import inspect
import pkgutil
import sys
import textwrap
import types
from importlib.metadata import EntryPoint
from pathlib import Path

import pandas as pd
import pytest
from hydra import initialize_config_dir
from matplotlib.figure import Figure
from omegaconf import OmegaConf

import mdm.studies
from mdm.commands.study import main
from mdm.runs import members, records
from mdm.runs.kinds import is_study
from mdm.runs.members import build
from mdm.runs.naming import record_folder
from mdm.runs.protocol import run
from mdm.studies import Study
from mdm.studies._conduct import choose_section
from mdm.studies._options import check_option
from mdm.study import compose_experiment

CONFIGS = Path(__file__).resolve().parents[1] / "configs"
SMALL = ["data.segments.train=40", "data.segments.valid=20", "data.segments.test=24", "trainer.max_epochs=1"]


def studies():
    """Every class of mdm/studies that can be a study."""
    modules = [importlib.import_module(found.name) for found in pkgutil.walk_packages(mdm.studies.__path__, "mdm.studies.")]
    return [each for m in modules for each in vars(m).values() if is_study(each) and each.__module__ == m.__name__]


STUDIES = studies()
DECLARED = {
    path.relative_to(CONFIGS / "experiment").with_suffix("").as_posix(): OmegaConf.load(path).study._target_
    for path in sorted((CONFIGS / "experiment").rglob("*.yaml"))
    if "study" in OmegaConf.load(path)
}


@pytest.fixture(autouse=True)
def hydra_has_the_configs(request):
    if "main" not in request.node.name:
        with initialize_config_dir(str(CONFIGS), version_base="1.3"):
            yield
    else:
        yield


@pytest.mark.parametrize("study", STUDIES, ids=lambda study: study.__name__)
def test_every_study_measures_says_and_draws(study):
    assert issubclass(study, Study)
    for name in ("measure", "summary", "figure"):
        assert inspect.getdoc(vars(study)[name]), f"{study.__name__}.{name} says nothing of what it does"
    assert "mdm study " in inspect.getdoc(study)
    assert study.__doc__.splitlines()[0].endswith((".", ":"))


@pytest.mark.parametrize("study", STUDIES, ids=lambda study: study.__name__)
def test_every_study_is_chosen_by_a_file_or_an_experiment(study):
    target = f"{study.__module__}.{study.__qualname__}"
    file = CONFIGS / "study" / f"{study.__name__.lower()}.yaml"
    assert file.is_file() or target in DECLARED.values()
    if file.is_file():
        assert OmegaConf.load(file).study._target_ == target
        assert isinstance(build(choose_section(None, [f"study={file.stem}"]), check_option), study)


@pytest.mark.parametrize("name", DECLARED)
def test_every_declaration_can_be_built(name):
    study = build(choose_section(compose_experiment([f"experiment={name}"]), []), check_option)
    assert f"{type(study).__module__}.{type(study).__qualname__}" == DECLARED[name]


def test_the_folders_of_studies_have_names_of_their_own():
    names = [study.__name__.lower() for study in STUDIES]
    assert len(names) == len(set(names))


# ---- which study


def test_the_command_line_comes_before_the_experiment():
    cfg = compose_experiment(["experiment=mdm/figure2"])
    assert choose_section(cfg, []).kept == [["audio"], ["video"], ["audio", "video"]]
    other = choose_section(cfg, ["study=explanation", "study.examples=2"])
    assert other == {"_target_": "mdm.studies.explanation.Explanation", "examples": 2}
    # The same study: the experiment's options over the file's, the command line's over both.
    same = choose_section(cfg, ["study=robustness", "study.corruptions=[zero]", "~study.levels"])
    assert (same.title, same.corruptions) == ("Colombo et al., EMNLP 2021, Figure 2: MAG-BERT without language", ["zero"])
    assert "levels" not in same
    assert "levels" in cfg.study  # which is left as it was


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([], "A study is chosen by study=…, or by an experiment that declares one, but mdm/table1 declares none; say study="),
        (
            ["study=explanation", "study=robustness"],
            "One study is made at a time, named by a file of configs/study",
        ),
        (["study=explanation,robustness"], "One study is made at a time, named by a file of configs/study"),
        (["study=explanation", "~study.examples"], "A key can be removed only where it is set, got ~study.examples"),
    ],
)
def test_what_is_no_choice(given, message):
    with pytest.raises(ValueError, match=message):
        choose_section(compose_experiment(["experiment=mdm/table1"]), given)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["study._target_=mdm.studies.nothing.Nothing"], "study must be a subclass of mdm.studies.Study .*Nothing'; only these"),
        (["study._target_=mdm.studies.Study"], "study must be a subclass of mdm.studies.Study"),
        (["study._target_=os.system"], "study must be a subclass of mdm.studies.Study"),
        (["~study._target_"], "study must be a subclass of mdm.studies.Study, by its _target_"),
        (["study.foo=1"], "as study is built, has no key foo"),
        (["~study.kept"], "but lacks kept; add study.kept"),
        (["study.levels=[2]"], "study.levels must be a list .*between 0 and 1"),
    ],
)
def test_what_is_no_study(options, message):
    section = choose_section(compose_experiment(["experiment=mdm/figure2"]), options)
    with pytest.raises(ValueError, match=message):
        build(section, check_option)


# ---- of another package


@pytest.fixture
def length(monkeypatch):
    """The study of the docstring of `mdm.studies.Study`, in an installed package."""
    source = inspect.getdoc(Study)
    text = textwrap.dedent(source[source.index("    class Length") : source.index("The file ``")])
    module = types.ModuleType("magpie")
    names = {"Study": Study, "records": records, "Figure": Figure, "__name__": "magpie"}
    exec(text, names)
    module.Length = names["Length"]
    monkeypatch.setitem(sys.modules, "magpie", module)
    entry = EntryPoint("length", "magpie:Length", members.GROUP)
    monkeypatch.setattr(members, "find_declared", lambda: {"magpie.Length": entry})
    return module.Length


def test_main_makes_the_study_of_another_package(length, config, capsys):
    overrides = ["model=lmf", *SMALL]
    cfg = config(*overrides, small=False)
    run(cfg, overrides)
    folder = record_folder(cfg, overrides)
    capsys.readouterr()
    main([f"folder={folder}", "study._target_=magpie.Length"])
    assert capsys.readouterr().out == "# lmf · none on synthetic\n\n1.0 epochs.\n"
    made = folder / "length"
    assert {path.name for path in made.iterdir()} == {"epochs.csv", "summary.md", "figure.pdf", "figure.png"}
    assert pd.read_csv(made / "epochs.csv").to_dict("records") == [
        {"data": "synthetic", "row": "none", "label": "lmf · none", "seed": 0, "epochs": 1}
    ]
