"""BC-LSTM: what it reads of a segment's video, and what not; the videos that batches bring, fold by fold."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from mdm.backbones.bc_lstm import BCLSTM, join_at_own
from mdm.data.splits import Splits
from mdm.data.synthetic import synthetic
from mdm.studies.robustness.corruption import Corruption, corrupt
from mdm.types import Batch, Context, DataSpec, Feature, Sequence

FEATURES = {"language": Feature(6), "audio": Feature(5)}
DATA = {"train": 40, "valid": 20, "test": 20}


def build(**options):
    torch.manual_seed(0)
    spec = DataSpec(FEATURES, ("y",), (-3.0, 3.0), (0.25,), aligned=False)
    return BCLSTM(spec, **{"hidden": 4, "dim": 3, "fusion_hidden": 4, "z_dim": 6, **options}).eval()


def batch(rows=5):
    rng = torch.Generator().manual_seed(0)
    sequences = {
        m: Sequence(torch.randn(rows, 3, f.dim, generator=rng), torch.ones(rows, 3, dtype=torch.bool)) for m, f in FEATURES.items()
    }
    return Batch(tuple(map(str, range(rows))), sequences, torch.zeros(rows, 1))


def with_videos(b, *videos):
    """All rows in these videos, given as lists of rows."""
    places = {row: (video, k) for video in videos for k, row in enumerate(video)}
    index = torch.zeros(len(b), max(map(len, videos)), dtype=torch.long)
    mask = torch.zeros(index.shape, dtype=torch.bool)
    for row, (video, _) in places.items():
        index[row, : len(video)] = torch.tensor(video)
        mask[row, : len(video)] = True
    return replace(b, context=Context(b.sequences, index, mask, torch.tensor([places[row][1] for row in range(len(b))])))


def test_a_video_of_one_segment_is_no_context():
    """By hand: each direction of both LSTMs takes one step from 0, c = σ(i)∘tanh(g), h = σ(o)∘tanh(c)."""
    model, b = build(), batch()

    def take_step(reader, x):
        states = []
        for end in ("", "_reverse"):
            weight, biases = (
                getattr(reader.lstm, f"weight_ih_l0{end}"),
                [getattr(reader.lstm, f"bias_{k}h_l0{end}") for k in "ih"],
            )
            i, _, g, o = (x @ weight.T + biases[0] + biases[1]).chunk(4, 1)
            states.append(o.sigmoid() * (i.sigmoid() * g.tanh()).tanh())
        return reader.project(torch.cat(states, 1))

    with torch.no_grad():
        alone = model(b)
        u = {m: take_step(model.readers[m], b.sequences[m].values.mean(1)) for m in FEATURES}
        torch.testing.assert_close(alone.unimodal, u)
        torch.testing.assert_close(alone.z, take_step(model.joint, torch.cat(list(u.values()), 1)))
        torch.testing.assert_close(model(with_videos(b, *([row] for row in range(5)))).z, alone.z)


def test_neighbours_do_not_matter_without_recurrence():
    """With recurrent matrices of 0 and the past forgotten, σ(f) = 0 by a bias of −1000, a step is that of a lone segment."""
    model, b = build(), batch()
    with torch.no_grad():
        for reader in (*model.readers.values(), model.joint):
            for end in ("", "_reverse"):
                getattr(reader.lstm, f"weight_hh_l0{end}").zero_()
                getattr(reader.lstm, f"bias_hh_l0{end}")[4:8] = -1000.0
        torch.testing.assert_close(model(with_videos(b, [0, 1, 2], [3, 4])).z, model(b).z)


def test_neighbours_change_a_segment_and_other_videos_do_not():
    model, b = build(), batch()
    with torch.no_grad():
        before = model(with_videos(b, [0, 1, 2], [3, 4])).z
        neighbours = model(with_videos(b, [0, 2, 1], [3, 4])).z
        others = model(with_videos(b, [0, 1, 2], [4, 3])).z
    assert (before[0] - neighbours[0]).abs().max() > 1e-5
    assert torch.equal(before[3:], neighbours[3:])
    assert torch.equal(before[:3], others[:3])


def test_own_places_of_paired_videos_meet():
    """Two modalities, the first at 2 of 3 segments, the other at 0 of 2: the joint video has 4, and both stand at 2."""
    a, b = torch.arange(1.0, 4).reshape(1, 3, 1), torch.arange(10.0, 12).reshape(1, 2, 1)
    steps, there, own = join_at_own(
        [(a, torch.ones(1, 3, dtype=torch.bool), torch.tensor([2])), (b, torch.ones(1, 2, dtype=torch.bool), torch.tensor([0]))]
    )
    assert steps[0].tolist() == [[1, 0], [2, 0], [3, 10], [0, 11]]
    assert (there.all(), own.tolist()) == (True, [2])


@pytest.mark.parametrize("detach", [True, False])
def test_the_joint_loss_ends_at_detached_stages(detach):
    model = build(detach_stages=detach)
    model(batch()).prediction.square().sum().backward()
    assert all(p.grad is None for p in model.readers.parameters()) == detach


def test_stages_that_nothing_trains_are_refused():
    with pytest.raises(ValueError, match="detach_stages: expected unimodal_weight > 0"):
        build(detach_stages=True, unimodal_weight=0)


def test_number_of_parameters():
    """BiLSTMs 8h(d + h + 2); maps (2h + 1)·out; scores and head."""
    lstm = sum(8 * 4 * (d + 4 + 2) for d in (6, 5, 6))
    assert sum(p.numel() for p in build().parameters()) == lstm + 9 * (3 + 3 + 6) + 2 * 4 + 7


def splits_of(data, **options):
    return Splits(data, batch_size=8, context=True, **options)


def test_batches_bring_the_videos_of_their_segments_in_order():
    data = synthetic(**DATA)
    splits = splits_of(data)
    group = dict(zip(data.ids, data.group, strict=True))
    frames = splits.in_order("train")
    everything = next(iter(Splits(data, batch_size=40).in_order("train")))
    position = {name: i for i, name in enumerate(everything.ids)}
    for b in splits.train():
        for row, name in enumerate(b.ids):
            video = [other for other in data.ids if other in position and group[other] == group[name]]
            assert int(b.context.mask[row].sum()) == len(video)
            assert video[int(b.context.own[row])] == name
            for k, other in enumerate(video):
                read = b.context.sequences["audio"][b.context.index[row, k : k + 1]]
                want = everything.sequences["audio"][position[other] : position[other] + 1]
                torch.testing.assert_close(read.values[read.mask], want.values[want.mask])
    assert len(next(iter(frames)).ids) == 40


def test_no_fold_sees_segments_of_another_even_of_its_own_video():
    """All segments in one video: what batches of training bring are the training segments, and likewise those of validation."""
    data = synthetic(**DATA)
    data = replace(data, group=np.full(len(data), "one"))
    splits = splits_of(data, groups="shared")
    for b in (*splits.train(), *splits.valid()):
        count = 40 if b.ids[0] in splits.spec.train_ids else 20
        assert len(b.context.sequences["audio"].mask) == count
        assert b.context.mask.sum(1).tolist() == [count] * len(b)


def test_a_row_does_not_depend_on_its_batch():
    splits = splits_of(synthetic(**DATA))
    torch.manual_seed(0)
    model = BCLSTM(splits.spec).eval()
    whole = next(iter(splits.in_order("train")))
    with torch.no_grad():
        together = dict(zip(whole.ids, model(whole).prediction, strict=True))
        for b in splits.train():
            for name, value in zip(b.ids, model(b).prediction, strict=True):
                torch.testing.assert_close(value, together[name], atol=1e-5, rtol=1e-5)


def test_a_modality_is_removed_from_all_of_the_video():
    b = next(iter(splits_of(synthetic(**DATA)).valid()))
    gone = corrupt(b, Corruption(("language", "video"), "absent"), means={})
    assert not gone.context.sequences["audio"].mask.any()
    assert torch.equal(gone.context.sequences["video"].values, b.context.sequences["video"].values)


def test_a_context_moves_with_its_batch():
    b = next(iter(splits_of(synthetic(**DATA)).valid())).to("cpu", dtype=torch.float64)
    assert b.context.sequences["audio"].values.dtype == torch.float64
    assert b.context.index.dtype == torch.long
