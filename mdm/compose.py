"""Before everything: where configs are, and Hydra at work on them.

A config is looked for in these folders, in this order:

    the package's own                   configs/ of the repository, or mdm/configs in an installed package
    those of other installed packages   entry points of the group `mdm.configs`, each a package that holds YAML files (below)
    --config-dir DIR                    as Hydra has it
    hydra.searchpath=[DIR, …]           as Hydra has it

The last two are the *search path* of a command line. A package that brings configs says so in its pyproject.toml:

    [project.entry-points."mdm.configs"]
    magpie = "magpie.configs"          # magpie/configs/model/magpie.yaml: model=magpie

Imports nothing heavy: `mdm train --help` waits for this.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import entry_points
from importlib.util import find_spec
from pathlib import Path

from omegaconf import DictConfig

GROUP = "mdm.configs"
PACKAGE = Path(__file__).resolve().parent
FLAGS = ("--config-dir", "-cd")
KEY = "hydra.searchpath"
JUDGED = ("table.test", "table.zeros")
"""Keys that say how a table is judged, which an experiment's file need not have."""
PROVIDER = "command-line"
"""What Hydra calls the place that a folder of its search path comes from, or how that name ends."""


def find_configs() -> Path:
    """The package's own configs: inside it where it was installed, else those of the repository that it lies in.

    Raises ValueError if there are none.
    """
    for folder in (PACKAGE / "configs", PACKAGE.parent / "configs"):
        if (folder / "train.yaml").is_file():
            return folder
    raise ValueError(f"mdm must have its configs in {PACKAGE / 'configs'}, but they are not there; install it again.")


def is_in_repository() -> bool:
    """Whether the package lies in its repository, and is not an installed copy."""
    return find_configs().parent != PACKAGE


def find_declared_configs() -> list[Path]:
    """The folders of configs that installed packages declare.

    Raises ValueError, naming the entry point, if it does not lead to a folder.
    """
    found = []
    for entry in sorted(entry_points(group=GROUP), key=lambda entry: entry.name):
        try:
            spec = find_spec(entry.value)
        except (ImportError, ValueError):
            spec = None
        if spec is None or not spec.submodule_search_locations:
            raise ValueError(
                f"An entry point of {GROUP} names a package that holds YAML files, but {entry.name} = {entry.value} is not one; "
                "mend or remove the package that declares it."
            )
        found += [Path(folder) for folder in spec.submodule_search_locations]
    return found


# ---- the search path of a command line


def take_search_path(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """A command line without Hydra's own keys, and the search path that it gives, such as ``file:///configs``.

    Hydra's other keys say how runs are launched. A command that only reads runs drops them, so it takes the
    same arguments.

    >>> take_search_path(["model=lmf", "hydra/launcher=joblib", "hydra.searchpath=[pkg://magpie.configs]"])
    (['model=lmf'], ['pkg://magpie.configs'])

    Raises ValueError if a folder is not there, if the search path is no list, and if either is given twice, where Hydra would read
    one of them.
    """
    rest: list[str] = []
    folders: list[str] = []
    lists: list[list[str]] = []
    words = iter(arguments)
    for word in words:
        flag, _, value = word.partition("=")
        if flag in FLAGS:
            folders.append(format_folder_url(value or next(words, ""), flag))
        elif flag.lstrip("+~") == KEY:
            lists.append(read_list(word))
        elif not word.lstrip("+~").startswith(("hydra.", "hydra/")):
            rest.append(word)
    if len(folders) > 1 or len(lists) > 1:
        raise ValueError(
            f"--config-dir and {KEY} are given once each, got {' '.join(arguments):.300}; name all folders in one {KEY}=[…]."
        )
    return rest, [*folders, *(url for urls in lists for url in urls)]


def add_judged(arguments: Sequence[str]) -> list[str]:
    """A command line for Hydra, which by itself refuses a key that the file does not have.

    >>> add_judged(["experiment=mdm/table1", "table.test=wilcoxon"])
    ['experiment=mdm/table1', '++table.test=wilcoxon']
    """
    return [f"++{word}" if word.partition("=")[0] in JUDGED else word for word in arguments]


def format_folder_url(folder: str, said: str) -> str:
    """A folder as Hydra names it.

    Raises ValueError if it is not there.
    """
    if not folder or not Path(folder).is_dir():
        raise ValueError(f"{said} names a folder of configs, but {folder or 'nothing'} is not one; correct the path.")
    return f"file://{Path(folder).absolute()}"


def read_list(override: str) -> list[str]:
    """The entries of ``hydra.searchpath=[…]``; a folder is made absolute, what has another scheme is left to Hydra.

    Raises ValueError if it is not a list of texts, or if a folder does not exist.
    """
    from hydra.core.override_parser.overrides_parser import OverridesParser

    values = OverridesParser.create().parse_override(override).value()
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise ValueError(f"{KEY} is a list of folders, got {override}; write {KEY}=[file:///the/folder].")
    return [value if is_elsewhere(value) else format_folder_url(value.removeprefix("file://"), KEY) for value in map(str, values)]


def is_elsewhere(url: str) -> bool:
    """Whether an entry of a search path lies outside the file system."""
    return "://" in url and not url.startswith("file://")


def read_search_path(cfg: DictConfig) -> list[str]:
    """The search path of the command line that Hydra composed a config for; ``cfg`` has Hydra's own section."""
    sources = cfg.hydra.runtime.config_sources
    return [f"{source.schema}://{source.path}" for source in sources if source.provider.endswith(PROVIDER)]


def format_search_path() -> list[str]:
    """The arguments that give a command line the search path of the Hydra at work: none, or ``hydra.searchpath=[…]``."""
    from hydra.core.global_hydra import GlobalHydra

    places = GlobalHydra.instance().config_loader().get_search_path().get_path()
    urls = [place.path for place in places if place.provider == PROVIDER]
    return [f"{KEY}=[{','.join(urls)}]"] * bool(urls)


# ---- Hydra at work


@contextmanager
def use_configs(path: Sequence[str] = ()) -> Iterator[None]:
    """`hydra.compose` reads our configs, and those of a search path, while the block runs.

    Also where Hydra is at work on another config already, as in a task that does its runs in turn: that one goes on afterwards.
    """
    from hydra import version
    from hydra._internal.hydra import Hydra
    from hydra._internal.utils import create_config_search_path
    from hydra.core.global_hydra import GlobalHydra

    outer, GlobalHydra.instance().hydra = GlobalHydra.instance().hydra, None
    try:
        # As `hydra.initialize_config_dir` does, which takes no further folders.
        version.setbase("1.3")
        places = create_config_search_path(str(find_configs()))
        schema = places.get_path().pop()
        for url in path:
            places.append(PROVIDER, url)
        places.append(schema.provider, schema.path)
        Hydra.create_main_hydra2("mdm", places)
        yield
    finally:
        GlobalHydra.instance().hydra = outer
