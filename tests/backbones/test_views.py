"""MARN and MV-LSTM against nn.LSTM, and against what their masks and attentions mean."""

import pytest
import torch
from omegaconf import OmegaConf
from torch import nn

from mdm.backbones.marn import MARN
from mdm.backbones.mv_lstm import MVLSTM, mask_views
from mdm.runs.members import make
from mdm.types import Batch, DataSpec, Feature, Sequence

FEATURES = {"language": Feature(6), "audio": Feature(5), "video": Feature(4)}
HIDDEN = {"language": 4, "audio": 2, "video": 3}
LENGTHS = [4, 1, 6, 3]


def spec(features=FEATURES, aligned=True):
    return DataSpec(features, ("y",), (-3.0, 3.0), (0.25,), aligned)


def batch(lengths=LENGTHS, features=FEATURES, dtype=torch.float64):
    rng = torch.Generator().manual_seed(0)
    time = max(lengths)
    mask = torch.arange(time) < torch.tensor(lengths)[:, None]
    sequences = {
        m: Sequence(torch.randn(len(lengths), time, f.dim, generator=rng, dtype=dtype), mask.clone()) for m, f in features.items()
    }
    return Batch(tuple(map(str, lengths)), sequences, torch.zeros(len(lengths), 1))


def build(kind, features=FEATURES, **options):
    torch.manual_seed(0)
    hidden = {m: HIDDEN[m] for m in features}
    return kind(spec(features), **{"hidden": hidden, **options}).double().eval()


def reorder(gates):
    """From i, f, o, g here to i, f, g, o of torch."""
    i, f, o, g = gates.chunk(4)
    return torch.cat([i, f, g, o])


def states_of(weight_ih, weight_hh, bias, x, lengths):
    """The last real state of an nn.LSTM with these weights."""
    lstm = nn.LSTM(weight_ih.shape[1], weight_hh.shape[1], batch_first=True).double()
    with torch.no_grad():
        lstm.weight_ih_l0.copy_(reorder(weight_ih))
        lstm.weight_hh_l0.copy_(reorder(weight_hh))
        lstm.bias_ih_l0.copy_(reorder(bias))
        lstm.bias_hh_l0.zero_()
        out = lstm(x)[0]
    return out[torch.arange(len(x)), torch.tensor(lengths) - 1]


def test_without_the_code_marn_is_an_lstm_for_each_modality():
    backbone, b = build(MARN), batch()
    with torch.no_grad():
        backbone.from_code.weight.zero_()
        backbone.from_code.bias.zero_()
        h = backbone(b).z.split([*HIDDEN.values(), sum(HIDDEN.values())], dim=1)
        for m, got in zip(HIDDEN, h, strict=False):
            inputs, recurrent = backbone.inputs[m].linear, backbone.recurrent[m]
            want = states_of(inputs.weight, recurrent.weight, inputs.bias + recurrent.bias, b.sequences[m].values, LENGTHS)
            torch.testing.assert_close(got, want)


@pytest.mark.parametrize(("softmax", "share"), [("per_attention", 1 / 9), ("joint", 1 / 45)])
def test_attentions_that_score_all_alike_divide_evenly(softmax, share):
    backbone = build(MARN, attentions=5, softmax=softmax)
    h = torch.randn(2, 9, dtype=torch.float64)
    with torch.no_grad():
        backbone.block.attention.weight.zero_()
        backbone.block.attention.bias.zero_()
        torch.testing.assert_close(backbone.block.attend(h), torch.full((2, 5, 9), share, dtype=torch.float64))


def test_one_attention_and_reductions_that_change_nothing_make_the_code_the_weighted_states():
    """K = 1, C_m = identity, no G: z = a∘h."""
    backbone = build(MARN, attentions=1, reduced=HIDDEN, code="none")
    h = torch.randn(3, 9, dtype=torch.float64)
    with torch.no_grad():
        for reduce in backbone.block.reduce.values():
            reduce.weight.copy_(torch.eye(len(reduce.weight)))
            reduce.bias.zero_()
        scores = backbone.block.attention(h)
        torch.testing.assert_close(backbone.block(h), scores.exp() / scores.exp().sum(1, keepdim=True) * h)


def test_the_second_step_reads_the_code_of_the_first():
    """Two steps by hand: h_1 from x_1 alone; gates of step 2 = W x_2 + U h_1 + V z_1 and all biases."""
    backbone, b = build(MARN), batch([2, 2])
    with torch.no_grad():
        h = c = torch.zeros(2, 9, dtype=torch.float64)
        z = torch.zeros(2, 9, dtype=torch.float64)
        for t in range(2):
            all_h, all_c, start = [], [], 0
            for m, n in HIDDEN.items():
                here = slice(start, start + n)
                s = backbone.inputs[m].linear(b.sequences[m].values[:, t]) + backbone.recurrent[m](h[:, here])
                mixed = backbone.from_code(z).unflatten(1, (4, 9))[:, :, here].flatten(1)
                i, f, o, g = (s + mixed).chunk(4, 1)
                all_c.append(f.sigmoid() * c[:, here] + i.sigmoid() * g.tanh())
                all_h.append(o.sigmoid() * all_c[-1].tanh())
                start += n
            h, c = torch.cat(all_h, 1), torch.cat(all_c, 1)
            z = backbone.block(h)
        torch.testing.assert_close(backbone(b).z, torch.cat([h, z], 1))


@pytest.mark.parametrize(("code", "width"), [("linear", 9), ("none", 12)])
def test_marn_has_as_many_parameters_as_its_equations(code, width):
    backbone = build(MARN, attentions=3, reduced=4, code=code, head=5)
    cells = sum(4 * n * (FEATURES[m].dim + n + width + 3) for m, n in HIDDEN.items())
    block = (9 + 1) * 3 * 9 + sum((3 * n + 1) * 4 for n in HIDDEN.values()) + (code == "linear") * (12 + 1) * 9
    head = (9 + width + 1) * 5 + 6
    assert sum(p.numel() for p in backbone.parameters()) == cells + block + head


def test_the_full_mv_lstm_is_one_lstm_over_views_side_by_side():
    """Its input matrix is block-diagonal in each gate."""
    backbone, b = build(MVLSTM, topology="full", squash=True), batch()
    weights = [backbone.inputs[m].linear.weight.chunk(4) for m in HIDDEN]
    biases = [backbone.inputs[m].linear.bias.chunk(4) for m in HIDDEN]
    weight = torch.cat([torch.block_diag(*gate) for gate in zip(*weights, strict=True)])
    bias = torch.cat([part for gate in zip(*biases, strict=True) for part in gate])
    x = torch.cat([b.sequences[m].values for m in HIDDEN], 2)
    with torch.no_grad():
        torch.testing.assert_close(backbone(b).z, states_of(weight, backbone.recurrent.weight, bias, x, LENGTHS))


def test_the_view_specific_mv_lstm_is_an_lstm_for_each_view():
    backbone, b = build(MVLSTM, topology="view_specific", squash=True), batch()
    start = 0
    with torch.no_grad():
        z = backbone(b).z
        for m, n in HIDDEN.items():
            here, inputs = slice(start, start + n), backbone.inputs[m].linear
            recurrent = torch.cat([gate[here, here] for gate in backbone.recurrent.weight.chunk(4)])
            torch.testing.assert_close(z[:, here], states_of(inputs.weight, recurrent, inputs.bias, b.sequences[m].values, LENGTHS))
            start += n


def test_an_mv_lstm_that_reads_no_state_only_sums_its_candidates():
    """α = β = 0: c_T = Σ_t (Π_{s>t} f_s)∘i_t∘g_t with gates of x alone, and h_T = o_T∘c_T."""
    backbone, b = build(MVLSTM, alpha=0.0, beta=0.0), batch([5, 5])
    with torch.no_grad():
        want = []
        for m in HIDDEN:
            i, f, o, g = backbone.inputs[m].linear(b.sequences[m].values).chunk(4, 2)
            c = sum(f[:, t + 1 :].sigmoid().prod(1) * i[:, t].sigmoid() * g[:, t].tanh() for t in range(5))
            want.append(o[:, -1].sigmoid() * c)
        torch.testing.assert_close(backbone(b).z, torch.cat(want, 1))


def test_masks_choose_what_is_read_or_who_reads():
    """Two views of 2 and 4 units, α = .5, β = .25: own the first half, of others a quarter (none of 2), the last or the first."""
    read = mask_views([2, 4], 0.5, 0.25)
    assert read[0].tolist() == read[1].tolist() == [1, 0, 0, 0, 0, 1]
    assert read[2].tolist() == [0, 0, 1, 1, 0, 0]
    assert mask_views([2, 4], 0.5, 0.25, "official")[0].tolist() == [1, 0, 1, 0, 0, 0]
    write = mask_views([2, 4], 0.5, 0.25, "paper", "write")
    assert write[0].tolist() == [1, 1, 0, 0, 0, 0]
    assert write[5].tolist() == [1, 1, 0, 0, 0, 0]
    assert write[2].tolist() == [0, 0, 1, 1, 1, 1]
    assert mask_views([100], 0.29, 0.0)[0].sum() == 29


def test_published_topologies_differ_from_each_other():
    made = [build(MVLSTM, topology=t, alpha=0.5)(batch()).z for t in ("view_specific", "coupled", "full", "hybrid")]
    for i, first in enumerate(made):
        assert all((first - other).abs().max() > 1e-3 for other in made[:i])


@pytest.mark.parametrize("kind", [MARN, MVLSTM])
def test_unaligned_data_are_refused(kind):
    with pytest.raises(ValueError, match="compares the modalities step by step, so it needs word-aligned data"):
        kind(spec(aligned=False))


@pytest.mark.parametrize(
    ("kind", "option", "value", "known"),
    [
        (MARN, "softmax", "all", "per_attention, joint"),
        (MARN, "code", "deep", "linear, none"),
        (MVLSTM, "topology", "star", "view_specific, coupled, full, hybrid"),
        (MVLSTM, "overlap", "half", "paper, official"),
        (MVLSTM, "mask", "both", "read, write"),
    ],
)
def test_unknown_options_are_refused(kind, option, value, known):
    node = OmegaConf.create({"backbone": {"_target_": f"{kind.__module__}.{kind.__name__}", option: value}})
    with pytest.raises(ValueError, match=f"backbone.{option}: expected one of {known}, got '{value}'"):
        make(node.backbone, spec=spec())
