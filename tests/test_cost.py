"""Counts against sums done by hand."""

import pytest
import torch
from omegaconf import OmegaConf

from mdm.cost import cost_of, counted, one_segment

SHAPES = {"language": {"dim": 6, "steps": 7}, "audio": {"dim": 5, "steps": 3}, "video": {"dim": 4, "steps": 3}}


def lstm_macs(d, h, steps):
    return steps * 4 * h * (d + h)


def test_lstms_attention_and_transformer_layers_are_seen():
    """Each of them counts as nothing with its fused kernel on a CPU."""
    lstm, layer = torch.nn.LSTM(5, 8, batch_first=True), torch.nn.TransformerEncoderLayer(8, 2, 16, batch_first=True).eval()
    with torch.no_grad(), counted() as counter:
        lstm(torch.randn(1, 10, 5))
    assert counter.get_total_flops() == 2 * lstm_macs(5, 8, 10)
    with torch.no_grad(), counted() as counter:
        layer(torch.randn(1, 10, 8))
    assert counter.get_total_flops() == 2 * (10 * (4 * 8 * 8 + 2 * 8 * 16) + 2 * 10 * 10 * 8)
    assert torch.backends.mha.get_fastpath_enabled()


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
    cost = cost_of(model, *one_segment(SHAPES))
    language = lstm_macs(6, 8, 7) + 8 * 4
    pooled = sum(d * 3 + 3 * 3 + 3 * 3 for d in (5, 4))
    fusion = 2 * 10 * (4 + 3 + 3) + 2 * 10
    assert cost.macs == language + pooled + fusion + 10
    assert cost.macs_training == cost.macs
    assert cost.critic == 0


@pytest.mark.parametrize("tokens", [False, True])
def test_one_segment_has_the_shapes(tokens):
    shapes = {"language": {"dim": 9, "steps": 4, "tokens": tokens}, "audio": {"dim": 5, "steps": 3}}
    spec, batch = one_segment(shapes)
    assert batch.sequences["language"].values.shape == ((1, 4) if tokens else (1, 4, 9))
    assert spec.features["language"].tokens is tokens
    assert spec.features["audio"].dim == 5
    assert batch.sequences["audio"].mask.all()
