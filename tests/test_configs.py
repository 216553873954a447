"""Every option of every group composes and keeps the schema: its keys, and the arguments of all that it builds."""

import inspect
from pathlib import Path

import hydra
import pytest
import yaml
from hydra.utils import get_object
from omegaconf import OmegaConf

from mdm.runs.config import check
from mdm.runs.naming import record_folder

ROOT = Path(__file__).resolve().parents[1]
OPTIONS = sorted(
    (path.relative_to(ROOT / "configs").parts[0], "/".join(path.relative_to(ROOT / "configs").with_suffix("").parts[1:]))
    for path in (ROOT / "configs").rglob("*.yaml")
    # Those of Hydra's own groups: tests/test_sweep.py; of studies: tests/test_studies.py; profiles, which `mdm prepare` reads:
    # tests/formats/test_profiles.py. What data sets share is none by itself.
    if path.parent != ROOT / "configs" and not {"hydra", "study", "base", "profile"} & {*path.parts}
)
"""(group, option); in groups with folders the option is a path, such as mosi/mfn."""


@pytest.mark.parametrize(("group", "option"), OPTIONS)
def test_option_composes_and_keeps_the_schema(config, group, option):
    more = ["+penalty@penalty.sum.kl=kl"] if option == "sum" else []
    cfg = config(f"{group}={option}", *more, small=False)
    if "name" in cfg.get(group, {}):
        assert cfg[group].name == option, "a record is filed under the name, so it must be the option's"
    check(cfg)
    record_folder(cfg, [f"{group}={option}"])


@pytest.mark.parametrize("path", sorted((ROOT / "configs" / "tuned").rglob("*.yaml")), ids=lambda p: p.stem)
def test_tuned_values_name_their_source_and_reach_their_model(config, path):
    assert path.read_text().split("\n")[1].startswith("# Source: "), (
        "the first line is Hydra's, the second says whose values these are"
    )
    option = path.relative_to(ROOT / "configs" / "tuned").with_suffix("").as_posix()
    cfg = config(f"tuned={option}", small=False)
    if option.startswith("search/"):
        return  # several runs of a search may have one model, and may choose its defaults (`mdm.sweeps.search`)
    assert cfg.model.name == path.stem
    assert cfg != config(f"model={path.stem}", small=False)


def test_the_stable_override_names(config):
    """Names that people's scripts rely on."""
    cfg = config(
        "seed=3",
        "data=gaussian",
        "model=lmf",
        "penalty=kl",
        "penalty.weight=0.5",
        "trainer.max_epochs=7",
        "paths.data=x",
        small=False,
    )
    assert (cfg.seed, cfg.data.name, cfg.model.name, cfg.penalty.name) == (3, "gaussian", "lmf", "kl")
    assert (cfg.penalty.weight, cfg.trainer.max_epochs, cfg.paths.data) == (0.5, 7, "x")
    assert cfg.paths.outputs.endswith("outputs")


def test_configs_have_no_dimension_of_data():
    """Dimensions flow in code (rule 4): no model or penalty config names one."""
    for path in [*(ROOT / "configs/model").glob("*.yaml"), *(ROOT / "configs/penalty").glob("*.yaml")]:
        for key in ("audio_dim", "video_dim", "language_dim", "input_dim", "in_features"):
            assert key not in path.read_text(), (path, key)


def test_a_model_may_say_what_its_checkpoint_is_chosen_by():
    """Scores of classes have no distance to a label; the command line has the last word."""
    with hydra.initialize_config_dir(str(ROOT / "configs"), version_base="1.3"):
        found = [
            hydra.compose("train", overrides).trainer.select
            for overrides in (
                ["model=mfm_images", "data=synthetic_digits"],
                ["model=lmf"],
                ["model=mfm_images", "trainer.select=mae"],
            )
        ]
    assert found == ["accuracy", "mae", "mae"]


# Each default once ---------------------------------------------------------------------------------------

FILES = [path for group in ("data", "model", "penalty", "logger") for path in sorted((ROOT / "configs" / group).glob("*.yaml"))]


def members(node, key=""):
    """Every mapping with a target, and its key."""
    if isinstance(node, dict):
        if "_target_" in node:
            yield key, node
        for name, inner in node.items():
            yield from members(inner, f"{key}.{name}" if key else name)


def ours():
    """(file, key, mapping) of every member of this package that a file names by its target."""
    for path in FILES:
        for key, node in members(yaml.safe_load(path.read_text())):
            if node["_target_"].startswith("mdm.") and key not in ("loss", "schedule"):  # which many models share
                yield path, key, node


@pytest.mark.parametrize("target", sorted({node["_target_"] for *_, node in ours()}))
def test_a_file_says_what_the_constructor_says(target):
    """Where one file names a member, its values are the constructor's defaults, so that both ways of building it give one thing.
    What several files name is a choice in each (stand-ins of other data sets); variants inherit and name no target."""
    named = [(path, key, node) for path, key, node in ours() if node["_target_"] == target]
    if len(named) > 1:
        assert {path.parent.name for path, *_ in named} == {"data"}
        return
    ((path, key, node),) = named
    parameters = inspect.signature(get_object(target)).parameters
    for name in node.keys() - {"_target_"}:
        default = parameters[name].default if name in parameters else node[name]  # a source's **options keep their own
        default = list(default) if isinstance(default, tuple) else default
        if default is not inspect.Parameter.empty:
            assert node[name] == default, f"{path.stem}: {key}.{name}"


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}={path.stem}")
def test_a_variant_says_only_what_differs(path):
    """A file that inherits from another of its group repeats nothing of it."""
    own = yaml.safe_load(path.read_text())
    bases = [entry for entry in own.pop("defaults", []) if isinstance(entry, str) and (path.parent / f"{entry}.yaml").is_file()]
    if not bases:
        pytest.skip("inherits from nothing")

    def repeated(mine, theirs, key=""):
        for name, value in mine.items():
            if isinstance(value, dict) and isinstance(theirs.get(name), dict):
                yield from repeated(value, theirs[name], f"{key}{name}.")
            elif name in theirs and theirs[name] == value:
                yield f"{key}{name}"

    with hydra.initialize_config_dir(str(ROOT / "configs"), version_base="1.3"):
        base = hydra.compose("train", [f"{path.parent.name}={bases[0]}"])[path.parent.name]
    assert not list(repeated(own, OmegaConf.to_container(base)))
