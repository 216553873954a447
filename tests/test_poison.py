"""Training is a function of the training fold: whatever changes in another fold, no weight does, bit for bit.

Each column of a store is poisoned, fold by fold: features, lengths, labels, words (those of the vocabulary go, others come before
and behind all that were there), ids and groups, and the number of rows.
"""

import csv
import json
import pickle
from dataclasses import replace

import numpy as np
import pytest
import torch
from pytorch_lightning.callbacks import Callback

from mdm.data.base import Ragged
from mdm.data.folds import KFold
from mdm.data.store import open_store
from mdm.data.synthetic import synthetic
from mdm.data.writing import write_store
from mdm.formats.prepare import prepare
from mdm.runs import trainer
from mdm.runs.naming import record_folder
from mdm.runs.protocol import run

COLUMNS = ("features", "lengths", "labels", "words", "ids", "rows")
MAY_DIFFER = {"test", "test_of_train_mean", "seconds", "data_card", "folds"}
"""Of a record where the test fold differs: what is measured there, the hash of the data and the number of rows."""


@pytest.fixture
def train(config, monkeypatch, tmp_path):
    """(store, overrides) → the record, the curve and the weights after each epoch."""

    class Keep(Callback):
        def on_train_epoch_end(self, trainer, pl_module):
            kept.append({name: value.clone() for name, value in pl_module.state_dict().items()})

    kept: list[dict[str, torch.Tensor]] = []
    monkeypatch.setattr(trainer, "build_callbacks", lambda cfg: [Keep()])

    def train(store, *overrides):
        kept.clear()
        paths = (f"paths.data={store.parent}", f"paths.outputs={store.parent}/outputs")
        cfg = config("data=mosi", "data.batch_size=8", "trainer.max_epochs=2", *paths, *overrides, small=False)
        record = run(cfg)
        folder = record_folder(cfg, ())
        curve = list(csv.DictReader((folder / "curve.csv").read_text().splitlines()))
        return record, [{k: v for k, v in row.items() if k != "seconds"} for row in curve], list(kept)

    return train


def poison(segments, rows, columns=COLUMNS, seed=0):
    """The table with the columns of some rows changed; folds stay, and so does everything else."""
    rng, rows = np.random.default_rng(seed), set(np.asarray(rows).tolist())
    order = [i for i in range(len(segments)) if i not in rows]
    # Rows leave, and the others come in another order and before all else, but no group is emptied.
    here = sorted(rows)
    kept = [i for k, i in enumerate(here) if k % 5 or list(segments.group[here]).count(segments.group[i]) < 3]
    order = [*rng.permutation(kept).tolist(), *order] if "rows" in columns else list(range(len(segments)))
    poisoned = segments.rows(np.array(order))
    mine = np.array([i in rows for i in order])
    if "labels" in columns:
        label = np.where(mine[:, None], np.clip(-1.7 * poisoned.label + 0.6, *segments.label_range), poisoned.label)
        alone = {m: np.where(mine[:, None], -y, y) for m, y in poisoned.unimodal.items()}
        poisoned = replace(poisoned, label=label.astype(np.float32), unimodal=alone)
    if "ids" in columns:
        ids = tuple(f"{'!' if here else ''}{i}" for here, i in zip(mine, poisoned.ids, strict=True))
        group = np.array([f"{'!' if here else ''}{g}" for here, g in zip(mine, poisoned.group, strict=True)])
        poisoned = replace(poisoned, ids=ids, group=group)
    steps = {i: rng.integers(0, n, n + 60) if n else np.arange(0) for i, n in enumerate(poisoned.text["words"].lengths)}

    def change(ragged, name):
        vocabulary = list(ragged.vocabulary)
        if vocabulary and "words" in columns:
            vocabulary += ["!before", *(f"zz{k}" for k in range(9))]
        sequences = [ragged[i] for i in range(len(ragged))]
        for i in np.flatnonzero(mine):
            if "lengths" in columns:
                sequences[i] = sequences[i][steps[i]]
            if ragged.tokens and "words" in columns:
                sequences[i] = rng.integers(len(ragged.vocabulary), len(vocabulary), len(sequences[i]))
            if not ragged.tokens and "features" in columns:
                sequences[i] = 40 * sequences[i] + 9
        return Ragged.of(sequences, tuple(vocabulary), 0 if ragged.tokens else ragged.dim)

    return replace(
        poisoned,
        text={name: change(ragged, name) for name, ragged in poisoned.text.items()},
        modalities={name: change(ragged, name) for name, ragged in poisoned.modalities.items()},
    )


def small(**options):
    return synthetic(train=40, valid=16, test=20, **options)


def assert_same_weights(one, two, what):
    assert len(one) == len(two) == 2
    for epoch, (a, b) in enumerate(zip(one, two, strict=True)):
        differing = [n for n in a.keys() | b.keys() if n not in a or n not in b or not torch.equal(a[n], b[n])]
        assert not differing, f"{what}: {differing[:3]} differ in epoch {epoch}"


def assert_untouched(clean, poisoned, fold):
    """What is not of the fold is as it was: of the test fold all but its metrics, of validation the weights of every epoch."""
    assert_same_weights(clean[2], poisoned[2], fold)
    if fold == "test":
        assert poisoned[1] == clean[1]
        assert {k: v for k, v in poisoned[0].items() if k not in MAY_DIFFER} == {
            k: v for k, v in clean[0].items() if k not in MAY_DIFFER
        }
        assert {**poisoned[0]["folds"], "test": 0} == {**clean[0]["folds"], "test": 0}
        assert poisoned[0]["test"] != clean[0]["test"], "the poison works"
    else:
        estimated = {name.removeprefix("valid/") for name in clean[1][0] if name.startswith("valid/")}
        for before, after in zip(clean[1], poisoned[1], strict=True):
            own = [n for n in before if n.startswith("train/") and n.removeprefix("train/") not in estimated]
            assert own
            assert {n: after[n] for n in own} == {n: before[n] for n in own}
            assert before["valid/mae"] != after["valid/mae"], "the poison works"


def check_folds(train, tmp_path, segments, options, columns=COLUMNS):
    clean = train(write_store(segments, tmp_path / "clean" / "mosi"), *options)
    for fold in ("valid", "test"):
        other = poison(segments, np.flatnonzero(segments.fold == fold), columns)
        store = write_store(other, tmp_path / f"{fold}-{'-'.join(columns)}" / "mosi")
        assert_untouched(clean, train(store, *options), fold)


@pytest.mark.parametrize(
    "options",
    [
        ("model=eflstm", "penalty=kl", "model.backbone.embedding_dim=8"),  # a word embedding
        ("model=mmim",),  # a small transformer from its config, and a penalty of its own
        ("model=mfm", "model.backbone.embedding_dim=8"),  # a decoder that has an output for each word
    ],
)
def test_no_weight_sees_another_fold(train, tmp_path, options):
    check_folds(train, tmp_path, small(), options)


def test_no_weight_sees_unimodal_labels_of_another_fold(train, tmp_path):
    segments = small()
    alone = {m: np.roll(segments.label, k) for k, m in enumerate(("language", "audio", "video"), start=1)}
    check_folds(train, tmp_path, replace(segments, unimodal=alone), ("model=selfmm", "model.backbone.labels=human"))


def test_the_training_fold_is_seen(train, tmp_path):
    """The same comparison finds the poison where it may work: one word of one training segment is another."""
    segments = small()
    one = np.flatnonzero(segments.fold == "train")[:1]
    clean = train(write_store(segments, tmp_path / "clean" / "mosi"), "model=eflstm")
    other = train(write_store(poison(segments, one, ("words",)), tmp_path / "other" / "mosi"), "model=eflstm")
    with pytest.raises(AssertionError, match="differ in epoch 0"):
        assert_same_weights(clean[2], other[2], "train")


def test_no_weight_sees_the_tested_part_of_a_k_fold(train, tmp_path):
    """Ids and groups stay: a division is drawn from all groups, so other groups are another division."""
    segments, columns = small(), tuple(c for c in COLUMNS if c != "ids")
    options = ("model=lmf", "penalty=club", "+data.folds._target_=mdm.data.folds.KFold", "+data.folds.k=3")
    part = KFold(k=3)(segments)
    clean = train(write_store(segments, tmp_path / "clean" / "mosi"), *options)
    for fold in ("valid", "test"):
        other = poison(segments, np.flatnonzero(part == fold), columns)
        # The rows that stay are in their order, as those of training must be.
        assert [i for i, f in zip(other.ids, KFold(k=3)(other), strict=True) if f == "train"] == [
            i for i, f in zip(segments.ids, part, strict=True) if f == "train"
        ]
        assert_untouched(clean, train(write_store(other, tmp_path / fold / "mosi"), *options), fold)


def segment_of(rng, fold, k, words, scale=1.0):
    sentence = rng.choice(words, rng.integers(2, 9)).tolist()
    frames = [scale * rng.standard_normal((len(sentence), dim)) for dim in (4, 3)]
    return (sentence, *frames), np.array([[rng.uniform(-3, 3) / scale]]), f"{fold}{k // 4}[{k}]"


def test_no_weight_sees_another_fold_of_a_pickle(train, tmp_path):
    """A store that is prepared from a pickle, whose other folds hold other words, frames, labels, ids and numbers of segments."""
    stores, sizes = {}, {"train": 30, "dev": 12, "test": 14}
    for poisoned in ("clean", "dev", "test"):
        content = {}
        for seed, (fold, n) in enumerate(sizes.items()):
            strange = fold == poisoned
            words = ["aa", "mm", "zz"] if strange else ["good", "bad", "film", *(["rare"] if fold != "train" else [])]
            rng = np.random.default_rng(seed + 10 * strange)
            name = f"other {fold}" if strange else fold
            content[fold] = [segment_of(rng, name, k, words, 30.0 if strange else 1.0) for k in range(n - 3 * strange)]
        path = tmp_path / f"{poisoned}.pkl"
        path.write_bytes(pickle.dumps(content, protocol=4))
        prepare("mag", path, tmp_path / poisoned / "mosi")
        stores[poisoned] = train(tmp_path / poisoned / "mosi", "model=eflstm", "model.backbone.embedding_dim=8")
    assert "rare" in open_store(tmp_path / "clean" / "mosi").text["words"].vocabulary
    assert_untouched(stores["clean"], stores["dev"], "valid")
    assert_untouched(stores["clean"], stores["test"], "test")


def test_a_baseline_sees_the_training_fold_alone(train, tmp_path):
    """Its curve is one of settings, and what is kept of it names the chosen one."""
    segments = small()
    found = {}
    for name, other in (("clean", segments), ("test", poison(segments, np.flatnonzero(segments.fold == "test")))):
        store = write_store(other, tmp_path / name / "mosi")
        record, curve, _ = train(store, "model=baseline")
        kept = next((store.parent / "outputs").rglob("best.ckpt"))
        found[name] = curve, json.loads(kept.read_text()), {k: v for k, v in record.items() if k not in MAY_DIFFER}
    assert found["test"] == found["clean"]


@pytest.mark.slow
@pytest.mark.parametrize("columns", [(column,) for column in COLUMNS])
@pytest.mark.parametrize("model", ["eflstm", "mmim", "mfm"])
def test_no_weight_sees_one_column(train, tmp_path, model, columns):
    segments = small()
    clean = train(write_store(segments, tmp_path / "clean" / "mosi"), f"model={model}")
    for fold in ("valid", "test"):
        other = poison(segments, np.flatnonzero(segments.fold == fold), columns)
        poisoned = train(write_store(other, tmp_path / fold / "mosi"), f"model={model}")
        assert_same_weights(clean[2], poisoned[2], f"{columns[0]} of {fold}")


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [
        *((f"model={model}",) for model in ("lmf", "tfn", "mfn", "mult", "misa", "selfmm", "magbert", "magxlnet", "wsabert")),
        ("model=mird", "data.unlabeled=1"),
        *(("model=lmf", f"penalty={penalty}") for penalty in ("f", "wasserstein", "club", "hsic", "infonce", "orthogonal")),
        *(("model=lmf", f"penalty={penalty}") for penalty in ("infomax", "synergy_kl", "synergy_mmd", "sum")),
        ("model=eflstm", "data.scale=maxabs", "data.max_steps=5"),
    ],
    ids=lambda options: " ".join(options),
)
def test_no_weight_of_any_model_sees_another_fold(train, tmp_path, options):
    check_folds(train, tmp_path, small(unlabeled=40 if "data.unlabeled=1" in options else 0), options)
