"""Every model with every penalty trains two epochs on synthetic data.

What each promises the other is in the contracts of `tests/backbones` and `tests/penalties`; by default every model meets one
penalty here, and every penalty its share of the models. All the others are `slow`.
"""

from pathlib import Path

import numpy as np
import pytest
from omegaconf import OmegaConf

from mdm.runs.protocol import run

CONFIGS = Path(__file__).resolve().parents[1] / "configs"
MODELS = sorted(p.stem for p in (CONFIGS / "model").glob("*.yaml") if "backbone" in OmegaConf.load(p))
PENALTIES = sorted(p.stem for p in (CONFIGS / "penalty").glob("*.yaml") if p.stem != "sum")
CRITICS = [name for name in PENALTIES if name not in ("none", "cca", "hsic", "orthogonal")]
DATA = {
    model: "synthetic_digits" if "images" in OmegaConf.load(CONFIGS / "model" / f"{model}.yaml").backbone else "synthetic"
    for model in MODELS
}
"""Model → what it reads."""
TINY = ("data.segments.train=48", "data.segments.valid=16", "data.segments.test=16", "data.batch_size=16")


def pairs():
    """Each model with each penalty; those that are not on one diagonal are slow."""
    for i, model in enumerate(MODELS):
        for j, penalty in enumerate(PENALTIES):
            yield pytest.param(model, penalty, marks=pytest.mark.slow if (i + j) % len(PENALTIES) else ())


@pytest.mark.parametrize(("model", "penalty"), list(pairs()))
def test_trains_two_epochs(config, model, penalty):
    steps = ["penalty.critic.steps=2"] if penalty in CRITICS else []
    if DATA[model] != "synthetic" and penalty == "infomax":  # its pairs are of language by default
        steps.append("penalty.objective.pairs=[[svhn,mnist]]")
    cfg = config(*TINY, "trainer.max_epochs=2", f"model={model}", f"data={DATA[model]}", f"penalty={penalty}", *steps, small=False)
    record = run(cfg)
    assert (record["model"], record["penalty"], record["selected"]["epochs"]) == (model, penalty, 2)
    assert all(np.isfinite(record[part]["mae"]) for part in ("valid", "test"))
    if penalty != "none":
        assert any(key.startswith(f"{penalty}/") for key in record["valid"])
