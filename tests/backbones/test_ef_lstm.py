"""EF-LSTM against a loop over nn.LSTMCell that only ever sees real steps."""

import pytest
import torch
from torch import nn

from mdm.backbones.ef_lstm import EFLSTM, concatenate_steps
from mdm.types import Batch, DataSpec, Feature, Sequence

FEATURES = {"language": Feature(11, tokens=True), "audio": Feature(5), "video": Feature(4)}
SIZES = {"S": (2, False), "B": (1, True), "SB": (2, True), "plain": (1, False)}
"""The supplement's names → (num_layers, bidirectional)."""


def spec(aligned=True, **features):
    return DataSpec(features or FEATURES, ("y",), (-3.0, 3.0), (0.25,), aligned)


def batch(lengths, time=None, **features):
    """Random segments, padded behind with garbage."""
    rng = torch.Generator().manual_seed(0)
    have = torch.tensor(lengths)
    time = time or int(have.max()) + 2
    sequences = {}
    for name, f in (features or FEATURES).items():
        if f.tokens:
            values = torch.randint(1, f.dim, (len(have), time), generator=rng)
        else:
            values = torch.randn(len(have), time, f.dim, generator=rng)
        sequences[name] = Sequence(values, torch.arange(time) < have[:, None])
    return Batch(tuple(map(str, have.tolist())), sequences, torch.zeros(len(have), 1))


def build(**options):
    torch.manual_seed(0)
    return EFLSTM(**{"spec": spec(), "hidden": 6, "embedding_dim": 3, **options}).eval()


def run_cells(lstm, steps):
    """Top layer's last states after the steps of one segment, [time, width] → [hidden or 2·hidden]: cell by cell."""
    for layer in range(lstm.num_layers):
        directions = []
        for suffix in ("", "_reverse") if lstm.bidirectional else ("",):
            cell = nn.LSTMCell(steps.shape[1], lstm.hidden_size)
            for kind in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
                getattr(cell, kind).data = getattr(lstm, f"{kind}_l{layer}{suffix}").data
            h = c = torch.zeros(1, lstm.hidden_size)
            states = []
            for x in steps.flip(0) if suffix else steps:
                h, c = cell(x[None], (h, c))
                states.append(h[0])
            directions.append((torch.stack(states[::-1] if suffix else states), h[0]))
        steps = torch.cat([states for states, _ in directions], 1)
    return torch.cat([last for _, last in directions])


def embedded(backbone, b, row):
    """modality → real steps of one segment as vectors."""
    out = {}
    for name, s in b.sequences.items():
        values = s.values[row][s.mask[row]]
        out[name] = backbone.steps[name].embedding(values) if values.ndim == 1 else values
    return out


@pytest.mark.parametrize("size", SIZES)
def test_concat_is_a_loop_of_cells_over_the_real_steps(size):
    layers, bidirectional = SIZES[size]
    backbone, b = build(num_layers=layers, bidirectional=bidirectional), batch([4, 1, 6])
    with torch.no_grad():
        fusion = backbone(b)
        for row in range(3):
            steps = torch.cat(list(embedded(backbone, b, row).values()), 1)
            torch.testing.assert_close(fusion.z[row], run_cells(backbone.lstms["all"], steps), atol=1e-5, rtol=1e-5)
    assert backbone.z_dim == (12 if bidirectional else 6)
    assert backbone.unimodal_dims == dict.fromkeys(("language", "audio", "video"), backbone.z_dim)


@pytest.mark.parametrize("bidirectional", [False, True])
def test_a_modalitys_share_is_its_columns_of_the_candidate_on_its_mean_step(bidirectional):
    """Of 4 · 6 rows the third 6 are g's; of 3 + 5 + 4 columns language has the first 3, and so on."""
    backbone, b = build(bidirectional=bidirectional), batch([4, 1, 6])
    columns = {"language": slice(0, 3), "audio": slice(3, 8), "video": slice(8, 12)}
    with torch.no_grad():
        fusion = backbone(b)
        for row in range(3):
            for m, steps in embedded(backbone, b, row).items():
                weights = [getattr(backbone.lstms["all"], f"weight_ih_l0{d}") for d in ["", "_reverse"][: 1 + bidirectional]]
                expected = torch.cat([w[12:18, columns[m]] @ steps.mean(0) for w in weights])
                torch.testing.assert_close(fusion.unimodal[m][row], expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("size", SIZES)
def test_separate_runs_each_modality_through_its_own_lstm(size):
    layers, bidirectional = SIZES[size]
    hidden = {"language": 6, "audio": 2, "video": 3}
    backbone = build(variant="separate", hidden=hidden, num_layers=layers, bidirectional=bidirectional)
    b = batch([4, 1, 6])
    with torch.no_grad():
        fusion = backbone(b)
        for row in range(3):
            for name, steps in embedded(backbone, b, row).items():
                expected = run_cells(backbone.lstms[name], steps)
                torch.testing.assert_close(fusion.unimodal[name][row], expected, atol=1e-5, rtol=1e-5)
    assert backbone.unimodal_dims == {m: units * (1 + bidirectional) for m, units in hidden.items()}
    torch.testing.assert_close(fusion.z, torch.cat([fusion.unimodal[m] for m in ("language", "audio", "video")], 1))


def test_separate_takes_one_number_for_all_and_unaligned_data():
    backbone = build(variant="separate", spec=spec(aligned=False))
    assert backbone.unimodal_dims == {"language": 6, "audio": 6, "video": 6}
    assert backbone.z_dim == 18


def test_heads_are_those_of_the_papers():
    """mlp: W₂·ReLU(W₁·Z); linear: A·Z. Both start at the mean label."""
    b = batch([3, 5])
    with torch.no_grad():
        mlp, linear = build(head="mlp"), build(head="linear")
        z = mlp(b).z
        first, last = [layer for layer in mlp.head if isinstance(layer, nn.Linear)]
        torch.testing.assert_close(mlp(b).prediction, last(torch.relu(first(z))))
        assert first.weight.shape == (6, 6)
        (a,) = [layer for layer in linear.head if isinstance(layer, nn.Linear)]
        torch.testing.assert_close(linear(b).prediction, a(linear(b).z))
        assert last.bias.tolist() == a.bias.tolist() == [0.25]


def test_dropout_acts_in_the_head_and_between_layers_only():
    assert build(num_layers=2, dropout=0.3).lstms["all"].dropout == 0.3
    backbone, b = build(num_layers=1, dropout=0.9).train(), batch([3, 5])
    assert backbone.lstms["all"].dropout == 0
    torch.testing.assert_close(backbone(b).z, backbone(b).z)
    assert (backbone(b).prediction != backbone(b).prediction).any()


def test_side_by_side_is_zero_where_a_segment_lacks_a_modality():
    a = Sequence(torch.tensor([[[1.0], [2.0]], [[3.0], [4.0]]]), torch.tensor([[True, True], [True, False]]))
    b = Sequence(torch.tensor([[[9.0], [9.0], [9.0]], [[9.0], [9.0], [5.0]]]), torch.tensor([[False] * 3, [False, False, True]]))
    both = concatenate_steps([a, b])
    assert both.mask.tolist() == [[True, True, False], [True, False, False]]
    # Row 0 has no b. Row 1 has one step of each, b's behind padding.
    assert both.values[both.mask].tolist() == [[1, 0], [2, 0], [3, 5]]


def test_an_absent_modality_is_a_zero_input_and_a_segment_of_nothing_a_zero_state():
    backbone, b = build(), batch([4, 3])
    b.sequences["audio"].mask[0] = False
    for s in b.sequences.values():
        s.mask[1] = False
    with torch.no_grad():
        z = backbone(b).z
        parts = embedded(backbone, b, 0)
        parts["audio"] = torch.zeros(4, 5)
        torch.testing.assert_close(z[0], run_cells(backbone.lstms["all"], torch.cat(list(parts.values()), 1)), atol=1e-5, rtol=1e-5)
    assert (z[1] == 0).all()


def test_separate_gives_an_absent_modality_a_zero_state():
    backbone, b = build(variant="separate"), batch([4, 3])
    b.sequences["audio"].mask[0] = False
    with torch.no_grad():
        audio = backbone(b).unimodal["audio"]
    assert (audio[0] == 0).all()
    assert (audio[1] != 0).any()


def test_unknown_words_and_padding_are_told_apart():
    """Id 0 is padding and embedded as zero, without gradient; id 1 is a word that the training fold has not."""
    backbone = build()
    table = backbone.steps["language"].embedding
    assert (table.weight[0] == 0).all()
    assert (table.weight[1] != 0).any()
    backbone(batch([3])).prediction.sum().backward()
    assert (table.weight.grad[0] == 0).all()
    assert set(backbone.steps) == {"language", "audio", "video"}
    assert backbone.steps["audio"].embedding is None


def test_concat_refuses_unaligned_data():
    with pytest.raises(ValueError, match="unaligned"):
        build(spec=spec(aligned=False))


@pytest.mark.parametrize("hidden", [{"language": 6, "audio": 2}, {"language": 6, "audio": 2, "video": 3, "smell": 1}, {}])
def test_a_mapping_of_sizes_must_name_every_modality(hidden):
    with pytest.raises(ValueError, match="a number for each of language, audio, video"):
        build(variant="separate", hidden=hidden)


def test_concat_refuses_a_mapping_of_sizes():
    with pytest.raises(ValueError, match="hidden must be one number"):
        build(hidden={"language": 6, "audio": 2, "video": 3})


def test_number_of_parameters_is_that_of_its_parts():
    """LSTM of width 3 + 5 + 4 = 12 and 6 units: 4·6·(12 + 6) weights and 2·4·6 biases. Head 6·6 + 6 + 6 + 1. Words 11·3."""
    lstm = 4 * 6 * (12 + 6) + 2 * 4 * 6
    assert sum(p.numel() for p in build().parameters()) == lstm + 6 * 6 + 6 + 6 + 1 + 11 * 3


# ---- MMSA's norm of time positions; tests/oracles/test_mmsa.py holds it against MMSA

FILLED = {"audio": Feature(5, steps=4), "video": Feature(3, steps=4)}


def test_each_position_is_normalised_over_the_batch_and_all_features():
    backbone, b = build(spec=spec(**FILLED), norm="positions").train(), batch([4] * 6, time=4, **FILLED)
    encoded = backbone.encode(b)
    together = torch.cat([encoded[m]["steps"].values for m in FILLED], 2).transpose(0, 1).flatten(1)
    torch.testing.assert_close(together.mean(1), torch.zeros(4), atol=1e-6, rtol=0)
    torch.testing.assert_close(together.var(1, correction=0), torch.ones(4), atol=1e-4, rtol=0)


def test_moved_rows_are_normalised_as_they_would_be_in_a_batch_of_their_own():
    """A position's statistics are those of the same rows; so a sample of the product is that of a batch whose audio has moved."""
    backbone, b = build(spec=spec(**FILLED), norm="positions").train(), batch([4] * 6, time=4, **FILLED)
    order = torch.tensor([3, 4, 5, 0, 1, 2])
    moved = Batch(b.ids, b.sequences | {"audio": b.sequences["audio"][order]}, b.label)
    torch.testing.assert_close(
        backbone.encode(b)["audio"]["steps"].values[order], backbone.encode(moved)["audio"]["steps"].values, atol=1e-6, rtol=0
    )


@pytest.mark.parametrize(
    ("features", "variant", "found"),
    [
        ({"audio": Feature(5), "video": Feature(3)}, "concat", "audio any, video any"),
        ({"audio": Feature(5, steps=4), "video": Feature(3, steps=6)}, "concat", "audio 4, video 6"),
        (FILLED, "separate", "audio 4, video 4"),
    ],
)
def test_positions_of_no_one_length_are_refused(features, variant, found):
    with pytest.raises(ValueError, match=rf"norm=positions .* variant={variant} and these lengths came: {found}; use"):
        build(spec=spec(**features), norm="positions", variant=variant)


def test_the_dropout_before_the_head_is_one_of_its_own():
    backbone, b = build(z_dropout=0.5, dropout=0.0).train(), batch([4, 1, 6])
    first, second = (backbone(b) for _ in range(2))
    assert torch.equal(first.z, second.z)
    assert not torch.equal(first.prediction, second.prediction)
