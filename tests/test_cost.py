"""Counts against sums done by hand."""

import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import torch
from omegaconf import OmegaConf

from mdm.commands.study import main
from mdm.runs.protocol import run
from mdm.studies.cost import compare
from mdm.studies.cost.counter import count_cost, count_operations, draw_segment

pytestmark = pytest.mark.slow  # whole studies, from training to picture

ROOT = Path(__file__).resolve().parents[1]

SHAPES = {"language": {"dim": 6, "steps": 7}, "audio": {"dim": 5, "steps": 3}, "video": {"dim": 4, "steps": 3}}
ALIGNED = {m: {**shape, "steps": 3} for m, shape in SHAPES.items()}
DIMS = {m: shape["dim"] for m, shape in SHAPES.items()}


def lstm_macs(d, h, steps):
    return steps * 4 * h * (d + h)


def lstm_parameters(d, h):
    """Four gates, each with two matrices and, as torch has them, two biases."""
    return 4 * h * (d + h + 2)


def linear_parameters(d, out):
    return d * out + out


def mfm(variant, own_penalty=None):
    """Codes of 2 (y) and 5, factors of 7 (y) and 3."""
    widths = {"z_y": 2, "f_y": 7, "z_m": 5, "f_m": 3, "hidden": 4, "memory": 6, "attention": 8}
    return OmegaConf.create(
        {"own_penalty": own_penalty, "backbone": {"_target_": "mdm.backbones.mfm.MFM", "variant": variant, **widths}}
    )


def test_lstms_attention_and_transformer_layers_are_seen():
    """Each of them counts as nothing with its fused kernel on a CPU."""
    lstm, layer = torch.nn.LSTM(5, 8, batch_first=True), torch.nn.TransformerEncoderLayer(8, 2, 16, batch_first=True).eval()
    with torch.no_grad(), count_operations() as counter:
        lstm(torch.randn(1, 10, 5))
    assert counter.get_total_flops() == 2 * lstm_macs(5, 8, 10)
    with torch.no_grad(), count_operations() as counter:
        layer(torch.randn(1, 10, 8))
    assert counter.get_total_flops() == 2 * (10 * (4 * 8 * 8 + 2 * 8 * 16) + 2 * 10 * 10 * 8)
    assert torch.backends.mha.get_fastpath_enabled()


def printed(*arguments):
    command = [sys.executable, str(ROOT / "scripts" / "study.py"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_the_table_of_costs_is_printed(tmp_path):
    """At BERT-base size, beside the paper's numbers."""
    done = printed("experiment=mird/table2", f"paths.outputs={tmp_path}")
    assert done.returncode == 0, done.stderr
    rows = {line.split(" | ")[0].strip("| "): line for line in done.stdout.splitlines() if line.startswith("|")}
    assert {"MISA (B)", "Self-MM", "WSA-BERT", "MIRD"} <= set(rows)
    assert "| 121 | -0.4 % |" in rows["MIRD"]
    costs = pd.read_csv(tmp_path / "mird" / "table2" / "cost" / "costs.csv").set_index("model")
    assert costs.loc["MIRD"].printed_parameters == 121
    assert (tmp_path / "mird" / "table2" / "cost" / "figure.png").stat().st_size > 10_000


def test_ours_beside_the_papers():
    assert compare(120.5, 121.0) == ("120.50", "121", "-0.4 %")
    assert compare(1.0, None) == compare(1.0, float("nan")) == ("1.00", "–", "–")


def test_costs_are_of_an_experiment_that_names_models():
    with pytest.raises(ValueError, match="by an experiment that declares one, but single declares none"):
        main(["model=lmf"])


def test_training_an_experiment_of_costs_is_refused(config):
    with pytest.raises(ValueError, match=r"mird/table2 is studied without any run; say `mdm study exp"):
        run(config("experiment=mird/table2", small=False))


def test_lmf_by_hand():
    model = OmegaConf.create(
        {
            "own_penalty": None,
            "backbone": {
                "_target_": "mdm.backbones.lmf.LMF",
                **{"z_dim": 10, "rank": 2, "language_hidden": 8, "hidden": 3},
            },
        }
    )
    cost = count_cost(model, *draw_segment(SHAPES))
    language = lstm_macs(6, 8, 7) + 8 * 4
    pooled = sum(d * 3 + 3 * 3 + 3 * 3 for d in (5, 4))
    fusion = 2 * 10 * (4 + 3 + 3) + 2 * 10
    assert cost.macs == language + pooled + fusion + 10
    assert cost.macs_training == cost.macs
    assert cost.critic == 0
    language = lstm_parameters(6, 8) + linear_parameters(8, 4)
    pooled = sum(2 * d + linear_parameters(d, 3) + 2 * linear_parameters(3, 3) for d in (5, 4))
    fusion = 2 * 10 * (5 + 4 + 4) + 2 + 10
    assert cost.parameters == language + pooled + fusion + linear_parameters(10, 1)


@pytest.mark.parametrize(("variant", "reads", "codes"), [("mfm", 7 + 3, 2 + 3 * 5), ("M_B", 3, 3 * 5), ("M_C", 7, 2)])
def test_training_costs_the_own_terms_too(variant, reads, codes):
    """MFM's: for each modality an LSTM as wide as the factors that it reads and a map of each of its states to a step; and for
    MMD² with the prior, of the single row of codes, its product with itself."""
    cost = count_cost(mfm(variant), *draw_segment(ALIGNED))
    decoders = sum(lstm_macs(reads, reads, 3) + 3 * reads * d for d in DIMS.values())
    assert cost.macs_training - cost.macs == decoders + codes
    assert cost.critic == 0


def test_a_prediction_costs_no_own_term():
    """M_B on steps that do not correspond: an encoder, a factor and, for training only, a decoder of each modality.
    The head reads three factors of 3 through a layer as wide as f_y."""
    cost = count_cost(mfm("M_B"), *draw_segment(SHAPES))
    encoders = sum(lstm_macs(shape["dim"], 5, shape["steps"]) + 5 * 5 for shape in SHAPES.values())
    factors = 3 * (5 * 3 + 3 * 3)
    assert cost.macs == encoders + factors + 9 * 7 + 7
    encoders = sum(lstm_parameters(d, 5) + linear_parameters(5, 5) for d in DIMS.values())
    factors = 3 * (linear_parameters(5, 3) + linear_parameters(3, 3))
    decoders = sum(lstm_parameters(3, 3) + linear_parameters(3, d) for d in DIMS.values())
    assert cost.parameters == encoders + factors + linear_parameters(9, 7) + linear_parameters(7, 1) + decoders


@pytest.mark.parametrize(
    ("objective", "critic"),
    [
        # Mean and log variance of q(y|x), each d_x → hidden → d_y; every two of three representations of 3, then one of a part.
        ({"_target_": "mdm.penalties.club.Club", "hidden": 4}, 3 * 2 * (linear_parameters(3, 4) + linear_parameters(4, 3))),
        (
            {"_target_": "mdm.penalties.club.Club", "hidden": 4, "pairs": [["audio", "z_video"]]},
            2 * (linear_parameters(3, 4) + linear_parameters(4, 5)),
        ),
        # Language with each other one, hidden as wide as y.
        ({"_target_": "mdm.penalties.infomax.InfoMax"}, 2 * 2 * (linear_parameters(3, 3) + linear_parameters(3, 3))),
        # A critic of Z, which is the three factors side by side: 9 → 6 → 6 → 1.
        (
            {"_target_": "mdm.penalties.dependency.Dependency", "hidden": 6},
            linear_parameters(9, 6) + linear_parameters(6, 6) + linear_parameters(6, 1),
        ),
    ],
    ids=["CLUB", "CLUB of a part", "InfoMax", "of Z"],
)
def test_the_critic_of_the_own_penalty_by_hand(objective, critic):
    with_critic = count_cost(mfm("M_B", {"weight": 0.1, "objective": objective}), *draw_segment(SHAPES))
    without = count_cost(mfm("M_B"), *draw_segment(SHAPES))
    assert with_critic.critic == critic
    assert without.critic == 0
    # It is no part of the model, nor of a forward pass.
    assert (with_critic.parameters, with_critic.macs, with_critic.macs_training) == (
        without.parameters,
        without.macs,
        without.macs_training,
    )


@pytest.mark.parametrize("tokens", [False, True])
def test_one_segment_has_the_shapes(tokens):
    shapes = {"language": {"dim": 9, "steps": 4, "tokens": tokens}, "audio": {"dim": 5, "steps": 3}}
    spec, batch = draw_segment(shapes)
    assert batch.sequences["language"].values.shape == ((1, 4) if tokens else (1, 4, 9))
    assert spec.features["language"].tokens is tokens
    assert spec.features["audio"].dim == 5
    assert batch.sequences["audio"].mask.all()


def test_one_segment_is_aligned_if_its_modalities_have_equally_many_steps():
    assert draw_segment(ALIGNED)[0].aligned
    assert not draw_segment(SHAPES)[0].aligned
    with pytest.raises(ValueError, match="needs word-aligned data"):
        count_cost(mfm("mfm"), *draw_segment(SHAPES))
