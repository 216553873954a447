"""Self-MM: its network by equations, and that labels move in training and a resumed run has them."""

import pytest
import torch
from backbones.selfmm import FEATURES, IDS, build
from pytorch_lightning import Callback

from mdm.ownership import own
from mdm.runs.build import build_learner, build_splits
from mdm.runs.trainer import build_trainer
from mdm.types import Batch, Feature, Sequence

WORDS = Feature(9, tokens=True, vocabulary=tuple(f"w{i}" for i in range(9)))


# ---- the network


def test_text_is_read_by_bert_and_vectors_by_an_lstm():
    text = build({"language": WORDS, "audio": Feature(2)}, "ab", dim=7).eval()
    assert text.unimodal_dims == {"language": 64, "audio": 7}
    vectors = build({"language": Feature(4), "audio": Feature(2)}, "ab", dim={"language": 5, "audio": 7}).eval()
    assert vectors.unimodal_dims == {"language": 5, "audio": 7}
    words = Sequence(torch.tensor([[2, 3, 4], [5, 0, 0]]), torch.tensor([[True, True, True], [True, False, False]]))
    audio = Sequence(torch.randn(2, 3, 2), words.mask)
    fusion = text(Batch(("a", "b"), {"language": words, "audio": audio}, torch.zeros(2, 1)))
    hidden = text.text(text.text.pieces(words)).last_hidden_state
    torch.testing.assert_close(fusion.unimodal["language"], hidden[:, 0])
    states = text.encoders["audio"].lstm(audio.values)[0]
    torch.testing.assert_close(fusion.unimodal["audio"], text.encoders["audio"].project(states[[0, 1], [2, 0]]))


def test_heads_by_their_equations():
    net = build({"audio": Feature(2), "video": Feature(3)}, "ab", z_dim=6, feature={"audio": 4, "video": 5}).eval()
    assert net.part_dims == {"feature_audio": 4, "feature_video": 5, "prediction_audio": 1, "prediction_video": 1}
    mask = torch.ones(2, 3, dtype=torch.bool)
    sequences = {"audio": Sequence(torch.randn(2, 3, 2), mask), "video": Sequence(torch.randn(2, 3, 3), mask)}
    fusion = net(Batch(("a", "b"), sequences, torch.zeros(2, 1)))
    both = torch.cat([fusion.unimodal["audio"], fusion.unimodal["video"]], dim=1)
    z = net.fusion[1](both).relu()
    torch.testing.assert_close(fusion.z, z)
    torch.testing.assert_close(fusion.prediction, net.head[2](net.head[0](z).relu()))
    for m in ("audio", "video"):
        head = net.unimodal_heads[m]
        feature = head.feature[1](fusion.unimodal[m]).relu()
        torch.testing.assert_close(fusion.parts[f"feature_{m}"], feature)
        torch.testing.assert_close(fusion.parts[f"prediction_{m}"], head.predict[2](head.predict[0](feature).relu()))


@pytest.mark.parametrize(
    ("features", "options", "match"),
    [
        ({"audio": WORDS}, {}, "needs vectors for what is not language, but audio"),
        (FEATURES, {"z_dim": 0}, "z_dim=0"),
        (FEATURES, {"feature": {"language": 1, "audio": 0, "video": 1}}, "'audio': 0"),
        (FEATURES, {"hidden": {"audio": 3}}, "hidden must be one number, or a number for each of language, audio, video"),
        ({"language": WORDS, "audio": Feature(2)}, {"dim": {"language": 3, "audio": 3}}, "for each of audio"),
    ],
)
def test_refusals(features, options, match):
    with pytest.raises(ValueError, match=match):
        build(features, IDS, **options)


# ---- in training


class Stop(Exception):
    pass


class StopBefore(Callback):
    """Break off at the beginning of an epoch, as a killed process does."""

    def __init__(self, epoch):
        self.epoch = epoch

    def on_train_epoch_start(self, trainer, module):
        if trainer.current_epoch == self.epoch:
            raise Stop


@pytest.mark.filterwarnings("ignore:Checkpoint directory")
def test_labels_move_in_training_and_a_resumed_run_has_them(config, tmp_path):
    cfg = config("model=selfmm", "trainer.max_epochs=4")

    def fit(folder, resumed=None, stop=None):
        folder.mkdir(exist_ok=True)
        splits = build_splits(cfg)
        learner = build_learner(cfg, splits)
        with own(folder) as owner:
            trainer = build_trainer(cfg, owner, splits.spec)
            if stop is not None:
                trainer.callbacks.insert(0, StopBefore(stop))
            if resumed is not None:
                learner.curve = torch.load(resumed, weights_only=True)["curve"]
            trainer.fit(learner, splits.train(epoch=len(learner.curve)), splits.valid(), ckpt_path=resumed)
        return learner

    whole = fit(tmp_path / "whole")
    with pytest.raises(Stop):
        fit(tmp_path / "broken", stop=2)
    again = fit(tmp_path / "broken", resumed=tmp_path / "broken" / "last.ckpt")
    assert [row["epoch"] for row in again.curve] == [0, 1, 2, 3]
    before, after = whole.backbone.state_dict(), again.backbone.state_dict()
    assert all(torch.equal(before[key], after[key]) for key in before)

    backbone = whole.backbone
    assert backbone.known.all()
    moved = (backbone.labels[1:] - backbone.labels[0]).abs().amax(dim=(1, 2))
    assert (moved > 0.01).all()
    assert backbone.labels.abs().max() <= 3
    terms = [{key: row[key] for key in row if key.startswith("train/unimodal")} for row in whole.curve]
    assert set(terms[0].values()) == {0.0}
    assert min(terms[-1].values()) > 0
