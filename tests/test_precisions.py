"""Every model in double and half precision, with a penalty and without: it trains, or says in one message why not."""

from pathlib import Path

import numpy as np
import pytest

from mdm.runs import precision
from mdm.runs.protocol import run

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.slow
@pytest.mark.parametrize("weights_of", ["64-true", "bf16-true", "bf16-mixed"])
@pytest.mark.parametrize("penalty", ["none", "kl"])
@pytest.mark.parametrize("model", sorted(path.stem for path in (ROOT / "configs" / "model").glob("*.yaml")))
def test_every_model_trains_in_double_and_half_precision(config, model, penalty, weights_of):
    """Nothing is written where it does not."""
    of = ["data=synthetic_digits"] if model == "mfm_images" else []
    cfg = config(*of, f"model={model}", f"penalty={penalty}", f"trainer.precision={weights_of}", "trainer.max_epochs=1")
    if model == "baseline" and penalty != "none":
        with pytest.raises(ValueError, match="A penalty acts on a fused representation, which model=baseline lacks"):
            run(cfg)
        assert not Path(cfg.paths.outputs).exists()
    elif weights_of.startswith("bf16") and not precision.has_bf16_on_cpu():
        pytest.skip("this processor lacks bfloat16")
    else:
        assert np.isfinite(run(cfg)["test"]["mse" if model != "mfm_images" else "accuracy"])
