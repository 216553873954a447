"""Every published constant of a frozen run that can be read is that of its file under `tuned/official`, or on the file's list."""

from __future__ import annotations

import pytest
from omegaconf import OmegaConf
from oracles.frozen import Frozen
from oracles.recipes import read_recipe

RECIPES = {
    **{name: f"mosi/{name}" for name in ("mfn", "eflstm", "mfm", "tfn", "lmf", "mult", "mmim", "misa", "selfmm", "wsabert")},
    **{"magbert": "mosi/magbert", "magxlnet": "mosi/magxlnet", "mird_bert": "mosi/mird"},
}
ON_MOSEI = {"misa": "mosei/misa", "mmim": "mosei/mmim"}
"""Where a file says of MOSEI what differs there; of MAG, WSA-BERT and Self-MM it gives the constants of MOSI."""


@pytest.mark.parametrize(("name", "option"), [*RECIPES.items(), *ON_MOSEI.items()], ids=lambda value: value)
def test_what_departs_is_listed_and_what_is_listed_departs(config, name, option):
    cfg = config("data=mosi", f"tuned=official/{option}", small=False)
    published = read_recipe(Frozen(name), option.split("/")[0])
    assert len(published) > 8, "hardly anything could be read"
    differing = set()
    for key, value in published.items():
        ours = cfg.model.groups["text.model"].lr if key == "model.groups.text.model.lr" else OmegaConf.select(cfg, key)
        if (OmegaConf.to_container(ours) if OmegaConf.is_config(ours) else ours) != value:
            differing.add(key)
    listed = set(cfg.departs)
    unlisted = {key for key in differing if key not in listed}
    assert not unlisted, {key: (published[key], OmegaConf.select(cfg, key)) for key in unlisted}
    # How a fold's metric is averaged, and ties, are no value of this key.
    stale = (listed & published.keys()) - differing - {"trainer.select"}
    assert not stale, f"listed, but as published: {stale}"
