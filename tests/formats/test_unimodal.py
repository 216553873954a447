"""Labels by one modality alone, from CH-SIMS' files to a model that learns them: none is changed, lost, or opened too early."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mdm.data.base import UNLABELED, Segments
from mdm.data.checks import check
from mdm.data.splits import Splits
from mdm.data.store import open_store
from mdm.data.synthetic import synthetic
from mdm.data.writing import write_store
from mdm.formats.mmsa import read_mmsa
from mdm.formats.prepare import prepare
from mdm.formats.table import read_table
from mdm.runs.build import build_learner, build_splits
from mdm.runs.protocol import run

SIZES = {"train": 24, "valid": 8, "test": 8}
LETTERS = {"language": "T", "audio": "A", "video": "V"}
WORDS = "今天的电影真的很好看"


def write_labels(n: int, seed: int) -> dict[str, np.ndarray]:
    """ "" and each letter → labels in steps of .2, as CH-SIMS has them."""
    rng = np.random.default_rng(seed)
    return {letter: (rng.integers(-5, 6, n) / 5).astype(np.float32) for letter in ("", *LETTERS.values())}


@pytest.fixture
def sims(dump: Callable[..., Path]) -> Callable[..., Path]:
    """Lacking columns → a pickle in the layout of CH-SIMS' unaligned_39.pkl."""

    def fold(name: str, n: int, seed: int, lacking: tuple[str, ...]) -> dict[str, Any]:
        rng = np.random.default_rng(seed)
        frames = {key: rng.normal(size=(n, 6, d)).astype(np.float32) for key, d in (("text", 4), ("audio", 3), ("vision", 2))}
        labels = {f"regression_labels{'_' if x else ''}{x}": y for x, y in write_labels(n, seed).items()}
        ids = np.array([f"{name}{i // 4}$_${i}" for i in range(n)])
        columns = {"raw_text": np.array([WORDS] * n), "id": ids, **frames, **labels}
        return {key: column for key, column in columns.items() if key not in lacking}

    def write(lacking: tuple[str, ...] = (), only_in: tuple[str, ...] = tuple(SIZES)) -> Path:
        content = {name: fold(name, n, k, lacking if name in only_in else ()) for k, (name, n) in enumerate(SIZES.items())}
        return dump(content, "unaligned_39.pkl")

    return write


def test_a_pickle_of_ch_sims(sims: Any, stored: Callable[..., Segments]) -> None:
    segments = stored("mmsa", sims(), label_range=[-1, 1])
    for k, (fold, n) in enumerate(SIZES.items()):
        labels = write_labels(n, k)
        rows = segments.fold == fold
        assert segments.label[rows, 0].tolist() == labels[""].tolist()
        assert {m: y[rows, 0].tolist() for m, y in segments.unimodal.items()} == {m: labels[x].tolist() for m, x in LETTERS.items()}
    assert segments.card["unimodal_labels"] == ["language", "audio", "video"]
    assert segments.source["columns_left"] == []


def test_columns_that_a_fold_lacks_are_left(sims: Any) -> None:
    segments = read_mmsa(sims(("regression_labels_A",), ("valid",)), label_range=[-1, 1])
    assert list(segments.unimodal) == ["language", "video"]
    assert segments.source["columns_left"] == ["regression_labels_A"]
    blind = read_mmsa(sims(("vision",)), label_range=[-1, 1])
    assert list(blind.unimodal) == ["language", "audio"]  # what has no feature has no label either
    assert "unimodal_labels" not in read_mmsa(sims(tuple(f"regression_labels_{x}" for x in "TAV")), label_range=[-1, 1]).card


HEAD = "video_id,clip_id,text,label,label_T,label_A,label_V,annotation,mode\n"
ROWS = (
    "a,1,很好,0.8,1.0,0.6,,Positive,train\na,2,不好,-1,-0.4,-1.0,-0.8,Negative,train\n"
    "b,1,好,0,0.2,0,0,Neutral,valid\nc,1,好,1,1,1,1,Positive,test\n"
)


@pytest.fixture
def table(tmp_path: Path) -> Callable[..., Path]:
    def write(text: str = HEAD + ROWS) -> Path:
        (tmp_path / "audio").mkdir(exist_ok=True)
        for name in ("a_1", "a_2", "b_1", "c_1"):
            np.save(tmp_path / "audio" / f"{name}.npy", np.eye(2))
        (tmp_path / "label.csv").write_text(text, encoding="utf-8")
        return tmp_path / "label.csv"

    return write


AUDIO = {"audio": "audio/{id}.npy", "label_range": [-1, 1]}


def test_label_csv_of_ch_sims(table: Any, stored: Callable[..., Segments]) -> None:
    segments = stored("table", table(), **AUDIO)
    assert {m: y[:, 0].tolist() for m, y in segments.unimodal.items()} == {
        "language": pytest.approx([1, -0.4, 0.2, 1]),
        "audio": pytest.approx([0.6, -1, 0, 1]),
    }
    video = stored("table", table(), unimodal={"audio": "LABEL_V"}, **AUDIO).unimodal
    assert (list(video), video["audio"][:, 0].tolist()) == (["audio"], pytest.approx([np.nan, -0.8, 0, 1], nan_ok=True))
    assert read_table(table(), unimodal={}, **AUDIO).unimodal == {}
    two = read_table(table(), targets={"whole": "label", "words": "label_T"}, **AUDIO)
    assert (two.targets, two.unimodal) == (("whole", "words"), {})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"unimodal": {"video": "label_V"}},
            r"columns of video_id, .* by modality \(language, audio\), but is {'video': 'label_V'}",
        ),
        ({"unimodal": {"audio": "label_X"}}, r"but is {'audio': 'label_X'} for sentiment; correct it"),
        (
            {"unimodal": {"audio": "label_A"}, "targets": {"a": "label", "b": "label_T"}},
            "names, for one target, .* for a, b; correct",
        ),
    ],
)
def test_columns_that_are_not_there_are_refused(table: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=rf"label\.csv: options\.unimodal .*{message}"):
        read_table(table(), **options, **AUDIO)


def test_a_segment_without_a_label_has_no_unimodal_one(table: Any) -> None:
    segments = read_table(table(HEAD + ROWS + "d,1,好,,0.4,1,1,,train\n"), **AUDIO)
    assert segments.fold[-1] == UNLABELED
    assert np.isnan([y[-1, 0] for y in segments.unimodal.values()]).all()


# The contract and the store ------------------------------------------------------------------------------------


def add_labels(segments: Segments, seed: int = 0) -> Segments:
    rng = np.random.default_rng(seed)
    labels = {m: rng.uniform(-3, 3, segments.label.shape).astype(np.float32) for m in LETTERS}
    return replace(segments, unimodal=labels)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda y: {"acoustic": y}, "unimodal labels are of language, audio, video, but acoustic has some; rename them"),
        (lambda y: {"audio": y[:-1]}, r"of audio must have shape \[segments, targets\] = \[40, 1\], but have \[39, 1\]"),
        (
            lambda y: {"audio": 2 * y},
            r"must lie in the declared range \[-3, 3\], and be NaN in the fold unlabeled, but \d+ of audio do",
        ),
        (lambda y: {"audio": np.inf * y}, r"must lie in the declared range \[-3, 3\]"),
    ],
)
def test_labels_that_break_the_contract_are_refused(change: Any, message: str) -> None:
    segments = add_labels(synthetic(**SIZES))
    check(segments)
    with pytest.raises(ValueError, match=message):
        check(replace(segments, unimodal=change(segments.unimodal["audio"])))
    unlabeled = add_labels(synthetic(**SIZES, unlabeled=3))
    with pytest.raises(ValueError, match="and be NaN in the fold unlabeled, but 3 of language do not"):
        check(unlabeled)


def test_a_store_keeps_and_verifies_them(tmp_path: Path) -> None:
    segments = add_labels(synthetic(**SIZES))
    path = write_store(segments, tmp_path / "store")
    found = open_store(path)
    assert list(found.unimodal) == list(segments.unimodal)
    assert all((found.unimodal[m] == y).all() for m, y in segments.unimodal.items())
    others = replace(segments, unimodal={**segments.unimodal, "video": -segments.unimodal["video"]})
    hashes = {each.card_hash for each in (segments, others, replace(segments, unimodal={}), found.rows(np.arange(40)))}
    assert len(hashes) == 3
    table = dict(np.load(path / "segments.npz"))
    np.savez(path / "segments.npz", **{**table, "unimodal.video": -table["unimodal.video"]})
    with pytest.raises(ValueError, match=r"segments\.npz has changed since"):
        open_store(path)
    for wrong in ({"unimodal.video": table["unimodal.video"].ravel()}, {"unimodal": table["label"]}, {"label.x": table["label"]}):
        np.savez(path / "segments.npz", **{**table, **wrong})
        with pytest.raises(ValueError, match=r"failed at segments\.npz"):
            open_store(path)


def test_batches_have_those_of_their_own_rows() -> None:
    segments = add_labels(synthetic(**SIZES))
    splits = Splits(segments, batch_size=8)
    assert splits.spec.unimodal == ("language", "audio", "video")
    row = {name: i for i, name in enumerate(segments.ids)}
    seen = [batch.to("cpu", dtype=torch.float64) for loader in (splits.train(), splits.valid()) for batch in loader]
    assert sum(map(len, seen)) == 32
    for batch in seen:
        for m, y in batch.unimodal.items():
            assert y[:, 0].tolist() == [segments.unimodal[m][row[name], 0] for name in batch.ids]
    assert Splits(segments, modalities=["audio"], text=None).spec.unimodal == ("audio",)


# The model -----------------------------------------------------------------------------------------------------


@pytest.fixture
def store(sims: Any, tmp_path: Path) -> Path:
    prepare("mmsa", sims(), tmp_path / "data" / "ch_sims", profile="ch_sims")
    return tmp_path / "data"


@pytest.mark.parametrize("model", ["selfmm", "tetfn"])
def test_a_file_of_ch_sims_trains_the_heads_on_its_own_labels(store: Path, config: Any, model: str) -> None:
    """The terms of a batch are those of the file's labels; the run ends in a record."""
    options = ("data=ch_sims", f"paths.data={store}", "trainer.max_epochs=2", "data.batch_size=8")
    cfg = config(f"model={model}", "model.backbone.labels=human", *options, small=False)
    splits = build_splits(cfg)
    backbone = build_learner(cfg, splits).backbone.eval()
    batch = next(iter(splits.train()))
    encoded = backbone.encode(batch)
    fusion = backbone.fuse(encoded)
    terms = backbone.own_terms(batch, encoded, fusion)
    labels = write_labels(SIZES["train"], 0)
    rows = [splits.spec.train_ids.index(name) for name in batch.ids]
    for m, letter in LETTERS.items():
        y_s, y_m = labels[letter][rows], labels[""][rows]
        predicted = fusion.parts[f"prediction_{m}"].detach().numpy()[:, 0]
        expected = (np.tanh(np.abs(y_s - y_m)) * np.abs(predicted - y_s)).mean()
        assert terms[f"unimodal_{m}"].item() == pytest.approx(expected, rel=1e-5)
    record = run(cfg)
    assert record["folds"] == SIZES


def test_a_store_without_them_is_refused(config: Any) -> None:
    message = (
        "labels=human needs labels of each modality alone, but the data have none of language, audio, video; prepare the store"
    )
    with pytest.raises(ValueError, match=message):
        run(config("model=selfmm", "model.backbone.labels=human"))
