"""Hydra's end of `mdm.compose`: configs of other installed packages are found wherever Hydra composes ours."""

from __future__ import annotations

from hydra.core.config_search_path import ConfigSearchPath
from hydra.plugins.search_path_plugin import SearchPathPlugin


class DeclaredConfigs(SearchPathPlugin):
    """Adds the folders that installed packages declare as entry points of the group ``mdm.configs``.

    Hydra asks it in every application of this environment; those of others are left as they are.
    """

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        from mdm.compose import find_configs, find_declared_configs

        if str(find_configs()) not in [each.path for each in search_path.get_path() if each.provider == "main"]:
            return
        for folder in find_declared_configs():
            search_path.append("mdm.configs", f"file://{folder}")
