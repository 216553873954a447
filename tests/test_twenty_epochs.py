"""Every penalty, at its weight and at ten times it, trains for twenty epochs without a number that is not finite."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mdm.runs import records
from mdm.runs.naming import record_folder
from mdm.runs.protocol import run

PENALTIES = sorted(p.stem for p in (Path(__file__).resolve().parents[1] / "configs" / "penalty").glob("*.yaml"))
SIZES = ("data.segments.train=320", "data.segments.valid=64", "data.segments.test=64")


@pytest.mark.slow
@pytest.mark.parametrize("times", [1, 10])
@pytest.mark.parametrize("penalty", [p for p in PENALTIES if p not in ("none", "sum")])
@pytest.mark.parametrize("model", ["eflstm", "lmf", "mfn", "magbert"])
def test_twenty_epochs_are_finite(config, model, penalty, times):
    """What is not finite stops a run with an error that names the term (test_learner); none of these comes to that."""
    weight = config(f"penalty={penalty}", small=False).penalty.weight
    options = ("trainer.max_epochs=20", "trainer.patience=null", f"penalty.weight={times * weight}")
    cfg = config(*SIZES, *options, f"model={model}", f"penalty={penalty}", small=False)
    record = run(cfg)
    curve = pd.read_csv(record_folder(cfg, ()) / records.CURVE)
    assert len(curve) == 20
    assert np.isfinite(curve.to_numpy()).all()
    assert np.isfinite(list(record["test"].values())).all()
