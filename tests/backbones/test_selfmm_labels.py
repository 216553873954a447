"""Self-MM's labels move as its equations say, by hand and against a loop over single segments."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from backbones.selfmm import FEATURES, IDS, build, spec
from omegaconf import OmegaConf

from mdm.backbones.selfmm import SelfMM, generated_label, relative_nearness
from mdm.runs.members import make
from mdm.types import Batch, Feature, Fusion, Sequence


def batch_of(ids, label, there, labelled=None):
    """Segments of which only the ids, labels and present modalities (modality → one boolean per row) are read."""
    sequences = {m: Sequence(torch.zeros(len(ids), 1, 2), torch.tensor(rows)[:, None]) for m, rows in there.items()}
    return Batch(tuple(ids), sequences, torch.tensor(label, dtype=torch.float32).reshape(len(ids), -1), labelled)


def fusion_of(z, features, predictions=None):
    """A fusion with given Z, features (modality → rows) and predictions of the modalities."""
    z = torch.tensor(z, dtype=torch.float32)
    parts = {f"feature_{m}": torch.tensor(rows, dtype=torch.float32) for m, rows in features.items()}
    parts |= {f"prediction_{m}": torch.tensor(rows, dtype=torch.float32) for m, rows in (predictions or {}).items()}
    return Fusion(torch.zeros(len(z), 1), z, {}, parts)


def one_modality(**options):
    return build({"audio": Feature(2)}, "ab", z_dim=2, feature=2, hidden=2, dim=2, **options)


def step(net, ids, label, z, audio, epoch):
    rows = batch_of(ids, label, {"audio": [True] * len(ids)})
    net.after_step(rows, fusion_of(z, {"audio": audio}), epoch)
    return net.labels[1, :, 0].tolist()


def test_three_epochs_by_hand():
    """Two segments, so each is a centre: a (y = 2) and b (y = −2).

    Epoch 2 (n = 2), a at Z = (1, 0) with centres (0, 0), (4, 0): δ_m = (3 − 1)/1 = 2. At F = (4, 0) with centres (0, 0), (8, 0):
    δ_s = 0. y_new = ½·0·2 + ½(2 + 0 − 2) = 0, so y_s = 2/3 + 0.
    Epoch 3, now with centres (1, 0), (4, 0) and (4, 0), (8, 0): Z = (2, 0) gives δ_m = (2 − 1)/1 = 1, F = (9, 0) gives δ_s =
    (1 − 5)/5 = −0.8. y_new = ½·(−0.8)·2 + ½(2 − 0.8 − 1) = −0.7, so y_s = ½·2/3 − ½·0.7 = −1/60.
    Epoch 4: that made a negative for its modality, which has no positive segment left, so no label moves.
    """
    net = one_modality()
    assert step(net, "ab", [2, -2], [[0, 0], [4, 0]], [[0, 0], [8, 0]], epoch=0) == [2, -2]
    assert step(net, "a", [2], [[1, 0]], [[4, 0]], epoch=1) == pytest.approx([2 / 3, -2])
    assert step(net, "a", [2], [[2, 0]], [[9, 0]], epoch=2) == pytest.approx([-1 / 60, -2], abs=1e-6)
    assert step(net, "a", [2], [[0, 0]], [[0, 0]], epoch=3) == pytest.approx([-1 / 60, -2], abs=1e-6)
    assert net.labels[0, :, 0].tolist() == [2, -2]


def test_first_epoch_only_gathers():
    net = one_modality()
    for _ in range(3):
        assert step(net, "ab", [2, -2], [[0, 0], [4, 1]], [[1, 0], [8, 0]], epoch=0) == [2, -2]
    assert net.known.all()
    assert net.features.tolist() == [[0, 0, 1, 0], [4, 1, 8, 0]]


def test_a_segment_first_seen_later_starts_from_its_label():
    net = build({"audio": Feature(2)}, "abc", z_dim=1, feature=1)
    step(net, "ab", [2, -2], [[0], [4]], [[0], [8]], epoch=0)
    # δ_m = (3 − 1)/1 = 2 and δ_s = (6 − 2)/2 = 2 agree: y_new is the label itself.
    assert step(net, "c", [1.5], [[1]], [[2]], epoch=1) == pytest.approx([2, -2, 1.5])


@pytest.mark.parametrize(("centres", "positive"), [("official", [[1.0, 1.0]]), ("exclude_zero", [[2.0, 0.0]])])
def test_neutral_segments_and_the_positive_centre(centres, positive):
    net = build({"audio": Feature(2)}, "abc", z_dim=2, feature=2, centres=centres)
    step(net, "abc", [1, 0, -1], [[2, 0], [0, 2], [5, 5]], [[2, 0], [0, 2], [5, 5]], epoch=0)
    sums = net.sums / net.counts[0][:, :, None]
    assert sums[:, :, :2].tolist() == [positive, [[5.0, 5.0]]]


def test_terms_by_hand():
    """y_m = 1 and 2, y_s = 0 and 2, ŷ_s = 3 and −5: (tanh 1 · 3 + tanh 0 · 7) / 2. The third row has no label and no part."""
    net = build({"audio": Feature(2)}, "ab", z_dim=2, feature=2)
    rows = batch_of(["a", "b", "none"], [1, 2, float("nan")], {"audio": [True] * 3}, labelled=2)
    fusion = fusion_of([[0, 0]] * 3, {"audio": [[0, 0]] * 3}, {"audio": [[3], [-5], [9]]})
    assert net.own_terms(rows, {}, fusion) == {"unimodal_audio": 0}
    net.after_step(rows, fusion, 0)
    assert net.known.all()
    net.labels[1] = torch.tensor([[0.0], [2.0]])
    (term,) = net.own_terms(rows, {}, fusion).values()
    assert float(term) == pytest.approx(1.5 * np.tanh(1))


def test_terms_of_human_labels_by_hand():
    """y_m = 1, 2 and −1, y_s = 0, none and −1, ŷ_s = 3, −5 and 0: (tanh 1 · 3 + tanh 0 · 1) / 2, whatever labels would move to."""
    torch.manual_seed(0)
    net = SelfMM(replace(spec({"audio": Feature(2)}, "abc"), unimodal=("audio",)), z_dim=2, feature=2, labels="human")
    nan = float("nan")
    rows = batch_of(["a", "b", "c", "none"], [1, 2, -1, nan], {"audio": [True] * 4}, labelled=3)
    rows = replace(rows, unimodal={"audio": torch.tensor([[0], [nan], [-1], [nan]])})
    fusion = fusion_of([[0, 0]] * 4, {"audio": [[0, 0]] * 4}, {"audio": [[3], [-5], [0], [9]]})
    for epoch in range(3):
        (term,) = net.own_terms(rows, {}, fusion).values()
        assert float(term) == pytest.approx(1.5 * np.tanh(1))
        net.after_step(rows, fusion, epoch)
    assert not dict(net.named_buffers())
    assert net.own_terms(replace(rows, unimodal={"audio": torch.full((4, 1), nan)}), {}, fusion) == {"unimodal_audio": 0}


def test_human_labels_of_every_modality_are_needed():
    features = {"audio": Feature(2), "video": Feature(2)}
    some = replace(spec(features, "ab"), unimodal=("audio",))
    with pytest.raises(
        ValueError, match=r"labels=human needs labels of each modality alone, but the data have none of video; prep"
    ):
        SelfMM(some, labels="human")
    SelfMM(replace(some, unimodal=("audio", "video")), labels="human")
    node = OmegaConf.create({"backbone": {"_target_": "mdm.backbones.selfmm.SelfMM", "labels": "people"}})
    with pytest.raises(ValueError, match=r"backbone\.labels: expected one of generated, human, got 'people'"):
        make(node.backbone, spec=some)


def test_a_segment_that_is_no_training_segment_is_our_mistake():
    with pytest.raises(KeyError, match="stranger"):
        step(one_modality(), ["stranger"], [1], [[0, 0]], [[0, 0]], epoch=0)


def test_generated_label():
    """Equal distances leave a label; a scaled δ scales and shifts it; the ends of the range hold; δ_m = 0 divides by ±ε."""

    def new(y, s, m):
        return float(generated_label(torch.tensor([[y]]), torch.tensor([[s]]), torch.tensor([[m]]), 3.0))

    assert new(1.2, 0.7, 0.7) == pytest.approx(1.2)
    assert new(1.0, 0.5, 2.0) == pytest.approx(0.5 * 0.25 + 0.5 * -0.5)
    assert new(2.0, 9.0, 1.0) == 3.0
    assert new(1.0, 1.0, 0.0) == 3.0
    assert new(1.0, 1.0, -1e-30) == -3.0
    assert new(1.0, 1.0, -1e-8) == -3.0
    assert new(0.0, 1.0, 0.0) == pytest.approx(0.5)
    assert new(0.0, 0.0, 0.0) == 0.0


def test_relative_nearness():
    """On the positive centre it is as large as the distance between the centres over ε; halfway it is 0."""
    got = relative_nearness(torch.tensor([[1.0], [2.0], [4.0], [0.0]]), torch.tensor([[0.0]]), torch.tensor([[4.0]]))[:, 0]
    torch.testing.assert_close(got[:3], torch.tensor([2.0, 0.0, -1.0]))
    assert got[3] == pytest.approx(4e8)


class Slow:
    """Self-MM's rule with Python numbers: dictionaries by segment, every centre a mean over all that is kept."""

    def __init__(self, centres, limit):
        self.centres, self.limit = centres, limit
        self.label, self.feature = {}, {}  # (kind, segment)

    def centre(self, kind, target, sign):
        def inside(y):
            return y < 0 if sign < 0 else (y > 0 if self.centres == "exclude_zero" else y >= 0)

        found = [self.feature[k, s] for k, s in self.feature if k == kind and inside(self.label[k, s][target])]
        return np.mean(found, axis=0) if found else None

    def delta(self, kind, target, f):
        p, n = self.centre(kind, target, +1), self.centre(kind, target, -1)
        if p is None or n is None:
            return None
        to_p, to_n = np.linalg.norm(f - p), np.linalg.norm(f - n)
        return (to_n - to_p) / (to_p + 1e-8)

    def step(self, ids, label, features, there, epoch):
        """features: kind → rows, the fusion's under "m"; there: kind → rows."""
        new = {}
        for i, s in enumerate(ids):
            for kind in features:
                y = self.label.get((kind, s), label[i]).copy()
                for t in range(len(y)):
                    delta_s = self.delta(kind, t, features[kind][i])
                    delta_m = self.delta("m", t, features["m"][i])
                    if kind == "m" or epoch == 0 or not there[kind][i] or delta_s is None or delta_m is None:
                        continue
                    y_m = label[i][t]
                    guess = 0.5 * delta_s / delta_m * y_m + 0.5 * (y_m + delta_s - delta_m)
                    n = epoch + 1
                    y[t] = (n - 1) / (n + 1) * y[t] + 2 / (n + 1) * np.clip(guess, -self.limit, self.limit)
                new[kind, s] = y, features[kind][i], there[kind][i]
        for key, (y, f, here) in new.items():
            self.label[key] = y
            if here:
                self.feature[key] = f


def play(net, slow, epochs, middle=0.0):
    """The same random training on both: 12 segments, batches of 4, two targets with neutral labels, video missing in some."""
    rng = np.random.default_rng(0)
    label = np.round(rng.normal(size=(12, 2)), 1)
    label[[1, 5], [0, 1]] = 0.0
    has_video = rng.random(12) < 0.7
    for epoch in range(epochs):
        order = rng.permutation(12)
        for rows in order.reshape(3, 4):
            ids = [IDS[i] for i in rows]
            features = {k: rng.normal(size=(4, 3)).astype(np.float32) + label[rows][:, :1] for k in ("m", *FEATURES)}
            there = {"m": [True] * 4, "language": [True] * 4, "audio": [True] * 4, "video": has_video[rows].tolist()}
            given = batch_of(ids, label[rows] + middle, {m: there[m] for m in FEATURES})
            net.after_step(given, fusion_of(features["m"], {m: features[m] for m in FEATURES}), epoch)
            if slow is not None:
                slow.step(ids, label[rows], features, there, epoch)
    return label


@pytest.mark.parametrize("centres", ["official", "exclude_zero"])
def test_equals_a_loop_over_segments(centres):
    net, slow = build(FEATURES, IDS, ("y", "w"), z_dim=3, feature=3, centres=centres), Slow(centres, 3.0)
    label = play(net, slow, epochs=4)
    for kind, name in enumerate(("m", *FEATURES)):
        want = np.stack([slow.label[name, s] for s in IDS])
        np.testing.assert_allclose(net.labels[kind].numpy(), want, atol=2e-4)
    np.testing.assert_allclose(net.labels[0].numpy(), label, atol=1e-6)
    assert (net.labels[1:] - net.labels[0]).abs().max() > 0.5
    absent = ~net.known[3]
    assert absent.any()
    assert torch.equal(net.labels[3][absent], net.labels[0][absent])


def test_sums_stay_those_of_what_is_kept():
    net = build(FEATURES, IDS, ("y", "w"), z_dim=3, feature=3)
    play(net, None, epochs=20)
    for kind in range(4):
        members = torch.stack([net.labels[kind] >= 0, net.labels[kind] < 0]).permute(0, 2, 1) & net.known[kind]
        assert torch.equal(net.counts[kind], members.double().sum(2))
        want = members.double() @ net.features[:, 3 * kind : 3 * kind + 3].double()
        torch.testing.assert_close(net.sums[:, :, 3 * kind : 3 * kind + 3], want, atol=1e-12, rtol=0)


def test_labels_count_from_the_middle_of_their_range():
    """Labels in [1, 7] are those in [−3, 3] and 4 more, in the rule and in the terms."""
    plain, moved = (build(FEATURES, IDS, ("y", "w"), ends, z_dim=3, feature=3) for ends in ((-3.0, 3.0), (1.0, 7.0)))
    label = play(plain, None, epochs=3)
    play(moved, None, epochs=3, middle=4.0)
    torch.testing.assert_close(moved.labels, plain.labels, atol=1e-4, rtol=1e-4)
    guess = {m: torch.randn(12, 2) for m in FEATURES}
    terms = []
    for net, middle in ((plain, 0.0), (moved, 4.0)):
        there = {m: [True] * 12 for m in FEATURES}
        fusion = fusion_of(np.zeros((12, 3)), {}, {m: (g + middle).tolist() for m, g in guess.items()})
        terms.append(net.own_terms(batch_of(IDS, label + middle, there), {}, fusion))
    assert min(terms[0].values()) > 0.01
    torch.testing.assert_close(terms[0], terms[1], atol=1e-4, rtol=1e-4)
