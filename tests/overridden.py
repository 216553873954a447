"""Configs as the command line composes them, quickly, and what is wrong with them."""

import re
from functools import cache
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf, open_dict

from mdm.runs.config import check

CONFIGS = Path(__file__).resolve().parents[1] / "configs"


@cache
def compose_groups(*groups):
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        return compose("train", list(groups))


def override(words):
    """A config as the command line composes it; groups are composed once, keys are set as Hydra sets them."""
    given = re.split(r" (?=[+~]?\w[\w.@]*=|~)", words)
    groups = [o for o in given if re.match(r"(data|model|penalty|logger)=|\+penalty@", o)]
    cfg = compose_groups(*groups).copy()
    for override in OverridesParser.create().parse_overrides([o for o in given if o not in groups]):
        parent, _, last = override.key_or_group.rpartition(".")
        if override.is_delete():
            node = OmegaConf.select(cfg, parent) if parent else cfg
            with open_dict(node):
                del node[last]
        else:
            OmegaConf.update(cfg, override.key_or_group, override.value(), merge=True, force_add=True)
    return cfg


def read_refusal(words):
    """What is wrong with a config of these overrides: one line."""
    with pytest.raises(ValueError, match=r".") as raised:
        check(override(words))
    assert "\n" not in str(raised.value)
    assert len(str(raised.value)) < 900
    return str(raised.value)
