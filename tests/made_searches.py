"""Declared searches, and what was found in them."""

from omegaconf import OmegaConf


def declare_search(**changes):
    """A config with a small search."""
    search = {
        "title": "A title",
        "source": "paper 999, page 1",
        "data": ["synthetic"],
        "seeds": 2,
        "runs": {"lmf_none": ["model=lmf", "penalty=none"], "lmf_kl": ["model=lmf", "penalty=kl"]},
        "grid": {"model.optimizer.lr": [0.01, 0.001], "trainer.gradient_clip": [None, 5.0]},
        "select": "mae",
    } | changes
    return OmegaConf.create({"name": "search/it", "search": {k: v for k, v in search.items() if v != "absent"}})
