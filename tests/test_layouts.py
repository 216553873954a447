"""Each public data set, from a tiny file in its official layout: told by its content, prepared, trained on, put into a table."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import h5py
import numpy as np
import pytest

from mdm.formats.recognize import recognize

FOLDS = {"train": 24, "valid": 8, "test": 8}


def draw_labels(n, k):
    """Labels of which every fold has both ends and the middle."""
    return np.resize([-3.0, 3.0, 0.4, -1.2], n) if k else np.resize([3.0, -3.0, 1.0], n)


def write_pickle(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(pickle.dumps(content))
    return path


def write_mmsa(folder, scale=3.0, text="it was really good"):
    def fold(name, n, seed):
        rng = np.random.default_rng(seed)
        frames = {key: rng.normal(size=(n, 6, d)).astype(np.float32) for key, d in (("text", 4), ("audio", 3), ("vision", 2))}
        bert = np.stack([[[101, 7, 8, 9, 102, 0], [1, 1, 1, 1, 1, 0], [0] * 6]] * n).astype(np.float32)
        ids = np.array([f"{name}{i // 4}$_${i}" for i in range(n)])
        labels = (draw_labels(n, seed) * scale / 3).astype(np.float32)
        return {"raw_text": np.array([text] * n), "id": ids, "text_bert": bert, "regression_labels": labels, **frames}

    return write_pickle(folder / "unaligned_50.pkl", {name: fold(name, n, k) for k, (name, n) in enumerate(FOLDS.items())})


def write_sims(folder):
    return write_mmsa(folder, 1.0, "今天的电影真的很好看")


def write_mult_iemocap(folder):
    def fold(n, seed):
        rng = np.random.default_rng(seed)
        frames = {key: rng.normal(size=(n, 5, d)) for key, d in (("text", 4), ("audio", 3), ("vision", 2))}
        return {**frames, "labels": np.eye(2)[rng.integers(0, 2, (n, 4))]}

    return write_pickle(folder / "iemocap_data.pkl", {name: fold(n, k) for k, (name, n) in enumerate(FOLDS.items())})


def write_ur_funny(folder):
    numbers = range(sum(FOLDS.values()))
    rng = np.random.default_rng(0)
    bounds = np.cumsum([0, *FOLDS.values()]).tolist()
    folds = {name: list(range(a, b)) for name, a, b in zip(("train", "dev", "test"), bounds, bounds[1:], strict=False)}
    entry = {"punchline_sentence": "so it goes", "punchline_embedding_indexes": [0, 1, 2]}
    write_pickle(folder / "data_folds.pkl", folds)
    write_pickle(folder / "humor_label_sdk.pkl", {k: k % 2 for k in numbers})
    write_pickle(folder / "language_sdk.pkl", dict.fromkeys(numbers, entry))
    write_pickle(folder / "word_embedding_list.pkl", [np.ones(4) * k for k in range(3)])
    for name in ("covarep", "openface"):
        frames = {k: {"punchline_features": rng.normal(size=(3, 2)).tolist()} for k in numbers}
        write_pickle(folder / f"{name}_features_sdk.pkl", frames)
    return folder


def write_h5(folder, label):
    folder.mkdir(parents=True)
    for seed, (name, n) in enumerate(FOLDS.items()):
        rng = np.random.default_rng(seed)
        arrays = {f"text_{name}_emb": rng.normal(size=(n, 5, 4)), f"audio_{name}": rng.normal(size=(n, 5, 3))}
        for file, array in {**arrays, f"video_{name}": rng.normal(size=(n, 5, 2)), f"y_{name}": label(rng, n)}.items():
            with h5py.File(folder / f"{file}.h5", "w") as written:
                written["d1"] = array
    return folder


def write_pom(folder):
    return write_h5(folder / "pom", lambda rng, n: np.concatenate([[[1.0] * 17, [7.0] * 17], rng.uniform(1, 7, (n - 2, 17))]))


def write_youtube(folder):
    return write_h5(folder / "youtube", lambda rng, n: np.eye(3)[np.arange(n) % 3])


def write_ict_mmmo(folder):
    return write_h5(folder / "ict_mmmo", lambda rng, n: np.resize([1.0, 5, 2.5, 4], n))


def write_csd_mosi(folder):
    folder.mkdir(parents=True)
    videos = {name: [f"{name}{v}" for v in range(n // 4)] for name, n in FOLDS.items()}
    rng = np.random.default_rng(0)
    with h5py.File(folder / "X_Opinion_Labels.csd", "w") as labels, h5py.File(folder / "X_TimestampedWords.csd", "w") as words:
        for video in [video for those in videos.values() for video in those]:
            starts = np.arange(13.0)  # a word a second, three to each segment; those of the row before are the sentences'
            labels[f"l/data/{video}/intervals"] = np.array([[3.0 * k, 3.0 * k + 3] for k in range(4)])
            labels[f"l/data/{video}/features"] = rng.permutation([-3.0, 3, 0.5, -1])[:, None]
            words[f"w/data/{video}/intervals"] = np.stack([starts, starts + 1], 1)
            words[f"w/data/{video}/features"] = np.array([f"w{k}" for k in rng.integers(0, 9, 13)], dtype="S4")
    (folder / "folds.json").write_text(json.dumps(videos))
    return folder


def write_meld(folder):
    folder.mkdir(parents=True)
    for name, n in (("train", 24), ("dev", 8), ("test", 8)):
        lines = [f'{i},"so, it is {i}",{("neutral", "negative", "positive")[i % 3]},{i // 4},{i % 4}' for i in range(n)]
        text = "\n".join(["Sr No.,Utterance,Sentiment,Dialogue_ID,Utterance_ID", *lines])
        (folder / f"{name}_sent_emo.csv").write_text(text)
    return folder


LAYOUTS = {
    "mosi": (write_csd_mosi, "csd", "words"),
    "mosei": (write_mmsa, "mmsa", "words"),
    "ch_sims": (write_sims, "mmsa", "words"),
    "ch_simsv2": (write_sims, "mmsa", "words"),
    "ur_funny": (write_ur_funny, "ur_funny", "words"),
    "pom": (write_pom, "mfn_h5", "vectors"),
    "iemocap": (write_mult_iemocap, "mult", "vectors"),
    "youtube": (write_youtube, "mfn_h5", "vectors"),
    "ict_mmmo": (write_ict_mmmo, "mfn_h5", "vectors"),
    "meld": (write_meld, "table", "words"),
}


@pytest.mark.parametrize("name", [name if name == "ch_sims" else pytest.param(name, marks=pytest.mark.slow) for name in LAYOUTS])
def test_from_the_official_layout_to_a_table(tmp_path: Path, in_turn, name):
    """What `mdm prepare PATH` tells, a run, and the table that has its row, of metrics that every scale of labels has."""
    write, format, text = LAYOUTS[name]
    found = recognize(write(tmp_path / {"ch_simsv2": "ch-simsv2"}.get(name, name)))
    assert (found.format, found.profile) == (format, name)
    sweep = (
        "experiment=mdm/table1",
        f"data={name}",
        "seed=0",
        "penalty=none",
        "trainer.max_epochs=1",
        f"data.text={text}",
        "~table.metrics.acc7",
        "~table.metrics.acc2_pos",
    )
    said = in_turn(
        [
            ["prepare", str(found.contents.path), f"out=data/{name}"],
            ["train", "-m", *sweep],
            ["table", *sweep],
        ],
        tmp_path,
    )
    assert f"format={format}" in said
    assert "# Colombo et al., EMNLP 2021, Table 1" in said
    (metrics,) = tmp_path.glob(f"outputs/mdm/table1/{name}/**/metrics.json")
    mae = next(value for key, value in json.loads(metrics.read_text())["test"].items() if key == "mae")
    assert np.isfinite(mae)
    row = next(line for line in said.splitlines() if "EF-LSTM" in line and "|" in line)
    assert f"{mae:.3f}" in row
