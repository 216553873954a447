"""SVHN and MNIST in their own formats, written small: which images meet in a pair, and in which fold."""

from __future__ import annotations

import gzip
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.io import savemat

from mdm.data.base import Segments
from mdm.data.pairing import pair_digits
from mdm.formats.prepare import card_view, formats, prepare
from mdm.formats.svhn_mnist import read_svhn_mnist

SIZES = {"pairs": 60, "train": 45, "valid": 15}
MNIST = {
    "train": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
    "test": ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
}
COUNTS = {"train": (90, 60), "test": (40, 30)}
"""Images of SVHN and MNIST in each file."""


def idx(magic: int, array: np.ndarray) -> bytes:
    return struct.pack(f">{1 + array.ndim}I", magic, *array.shape) + array.astype(np.uint8).tobytes()


def images(part: str) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Bytes at random; the digits of the k-th image are k modulo 10 in SVHN, and backwards in MNIST."""
    rng = np.random.default_rng(len(part))
    svhn, mnist = COUNTS[part]
    return {
        "svhn": (rng.integers(0, 256, (svhn, 3, 32, 32), dtype=np.uint8), np.arange(svhn) % 10),
        "mnist": (rng.integers(0, 256, (mnist, 28, 28), dtype=np.uint8), 9 - np.arange(mnist) % 10),
    }


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "files"
    path.mkdir()
    for part in ("train", "test"):
        held = images(part)
        x, y = held["svhn"]
        # as published: [height, width, channel, image], 10 for the digit 0, compressed
        content = {"X": x.transpose(2, 3, 1, 0), "y": np.where(y == 0, 10, y)[:, None].astype(np.uint8)}
        savemat(path / f"{part}_32x32.mat", content, do_compression=True)
        x, y = held["mnist"]
        (path / MNIST[part][0]).write_bytes(idx(0x803, x))
        (path / MNIST[part][1]).write_bytes(idx(0x801, y))
    return path


def parts(segments: Segments) -> list[tuple[str, int, str, int]]:
    """(file, index) of the SVHN and of the MNIST image of each pair, from its id."""
    found = []
    for name in segments.ids:
        svhn, mnist = name.split("+")
        svhn, mnist = svhn.removeprefix("svhn-"), mnist.removeprefix("mnist-")
        found.append((svhn[:-5], int(svhn[-5:]), mnist[:-5], int(mnist[-5:])))
    return found


# What a pair is -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("split", ["disjoint", "paper"])
def test_pairs_show_one_digit_and_are_the_images_that_they_name(folder: Path, stored: Callable[..., Segments], split: str) -> None:
    segments = stored("svhn_mnist", folder, split=split, **SIZES)
    held = {part: images(part) for part in ("train", "test")}
    assert segments.targets == tuple("0123456789")
    assert segments.label_range == (0.0, 1.0)
    assert list(segments.modalities) == ["svhn", "mnist"]
    assert {name: ragged.dim for name, ragged in segments.modalities.items()} == {"svhn": 3072, "mnist": 784}
    assert all((ragged.lengths == 1).all() and ragged.values.dtype == np.float32 for ragged in segments.modalities.values())
    assert [(segments.fold == fold).sum() for fold in ("train", "valid", "test")] == [30, 15, 15]
    assert (segments.label.sum(1) == 1).all()
    for k, (a, i, b, j) in enumerate(parts(segments)):
        (x, digit), (z, other) = held[a]["svhn"], held[b]["mnist"]
        assert digit[i] == other[j] == segments.label[k].argmax()
        np.testing.assert_array_equal(segments.modalities["svhn"][k][0], x[i].ravel().astype(np.float32) / 255)
        np.testing.assert_array_equal(segments.modalities["mnist"][k][0], z[j].ravel().astype(np.float32) / 255)
        assert segments.group[k] == f"svhn-{a}{i:05d}"


def test_channels_come_first(folder: Path) -> None:
    """In the file pixel (h, w) of channel c of image k is X[h, w, c, k]."""
    x = np.zeros((32, 32, 3, 90), np.uint8)
    x[3, 5, 1] = 255
    savemat(folder / "train_32x32.mat", {"X": x, "y": np.arange(90)[:, None] % 10 + 1})
    first = read_svhn_mnist(folder, **SIZES).modalities["svhn"][0][0]
    assert np.flatnonzero(first).tolist() == [1 * 32 * 32 + 3 * 32 + 5]


def test_disjoint_folds_share_no_image(folder: Path) -> None:
    segments = read_svhn_mnist(folder, **SIZES)
    of = dict[str, list[set[tuple[str, int]]]]()
    for fold, (a, i, b, j) in zip(segments.fold, parts(segments), strict=True):
        assert (a, b) == (("test", "test") if fold == "test" else ("train", "train"))
        svhn, mnist = of.setdefault(fold, [set(), set()])
        svhn.add((a, i))
        mnist.add((b, j))
    for k in (0, 1):
        assert not of["train"][k] & of["valid"][k]
    assert not any(flags.any() for flags in segments.marks.values())
    assert segments.source["images_also_in_training"] == {style: {"valid": 0, "test": 0} for style in ("svhn", "mnist")}
    assert segments.source["different_images"]["svhn"]["test"] == len(of["test"][0])
    # a third of the pairs validate, so a third of the images do: 30 of 90 and 20 of 60
    assert len(of["valid"][0]) <= 30
    assert len(of["valid"][1]) <= 20


def test_the_papers_division_tests_on_images_that_were_trained_on(folder: Path) -> None:
    """Counted here from the ids: 30 training pairs of 90 SVHN and 60 MNIST images, 15 tested."""
    (folder / "test_32x32.mat").unlink()  # not needed
    segments = read_svhn_mnist(folder, split="paper", **SIZES)
    found = parts(segments)
    assert {a for a, _, b, _ in found} | {b for _, _, b, _ in found} == {"train"}
    for style, at in (("svhn", 1), ("mnist", 3)):
        trained = {pair[at] for pair, fold in zip(found, segments.fold, strict=True) if fold == "train"}
        expected = [fold != "train" and pair[at] in trained for pair, fold in zip(found, segments.fold, strict=True)]
        assert segments.marks[f"{style}_trained_on"].tolist() == expected
        tested = {pair[at] for pair, fold in zip(found, segments.fold, strict=True) if fold == "test"}
        assert segments.source["images_also_in_training"][style]["test"] == len(trained & tested) > 0
        assert segments.source["different_images"][style]["test"] == len(tested)
    assert segments.card["marks"]["svhn_trained_on"] > 0


def test_the_seed_draws_pairs_and_the_card_says_how(folder: Path) -> None:
    first, again, other = (read_svhn_mnist(folder, seed=seed, **SIZES) for seed in (0, 0, 1))
    assert first.card_hash == again.card_hash
    assert first.ids != other.ids
    assert first.source["options"] == {"split": "disjoint", "seed": 0, **SIZES}
    assert set(first.source["files"]) == {path.name for path in folder.iterdir()}
    assert first.truth == {}
    card_view(first.card)


def test_every_pair_of_one_digit_is_as_likely() -> None:
    """Two zeros and a one with a zero and three ones: 2 · 1 + 1 · 3 = 5 pairs: all of them, or one, each in a fifth of draws."""
    svhn, mnist = np.array([0, 1, 0]), np.array([1, 0, 1, 1])
    rng = np.random.default_rng(0)
    assert sorted(zip(*pair_digits(svhn, mnist, 5, rng), strict=True)) == [(0, 1), (1, 0), (1, 2), (1, 3), (2, 1)]
    drawn = [tuple(int(index[0]) for index in pair_digits(svhn, mnist, 1, rng)) for _ in range(2000)]
    for pair in [(0, 1), (1, 0), (1, 2), (1, 3), (2, 1)]:
        assert abs(drawn.count(pair) / 2000 - 1 / 5) < 4 * np.sqrt(0.16 / 2000)
    with pytest.raises(
        ValueError, match=r"6 pairs of one digit were asked for, but 3 SVHN and 4 MNIST images make only 5; ask for"
    ):
        pair_digits(svhn, mnist, 6, rng)


# Files --------------------------------------------------------------------------------------------------


def test_names_with_a_dot_and_gzip(folder: Path) -> None:
    before = read_svhn_mnist(folder, **SIZES)
    for k, name in enumerate(name for names in MNIST.values() for name in names):
        path = folder / name
        if k % 2:
            path = path.rename(folder / name.replace("-idx", ".idx"))
        if k > 1:
            path.with_name(f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes()))
            path.unlink()
    after = read_svhn_mnist(folder, **SIZES)
    assert (after.modalities["mnist"].values == before.modalities["mnist"].values).all()
    assert after.ids == before.ids


def mat(**content: Any) -> Callable[[Path], None]:
    x, y = images("train")["svhn"]
    whole = {"X": x.transpose(2, 3, 1, 0), "y": (y + 1)[:, None]}
    kept = {key: value for key, value in {**whole, **content}.items() if value is not None}
    return lambda folder: savemat(folder / "train_32x32.mat", kept)


def put(name: str, content: bytes) -> Callable[[Path], Any]:
    return lambda folder: (folder / name).write_bytes(content)


X, Y = images("train")["mnist"]


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: (folder / "test_32x32.mat").unlink(), r"in one folder, but .* has no test_32x32\.mat; put it there"),
        (lambda folder: (folder / MNIST["test"][1]).unlink(), r"has no t10k-labels-idx1-ubyte \(or \.gz\); put it there"),
        (put("train_32x32.mat", b"no" * 100), r"train_32x32\.mat must be a MATLAB file, but cannot be read .*download it again"),
        (put("train_32x32.mat", b""), r"train_32x32\.mat must be a MATLAB file"),
        (
            lambda folder: put("train_32x32.mat", (folder / "train_32x32.mat").read_bytes()[:5000])(folder),
            r"train_32x32\.mat must be a MATLAB file",
        ),
        (mat(X=None), r"must hold X, bytes \[32, 32, 3, n\], and y, n labels, but holds y int64 \[90, 1\]; take format 2"),
        (mat(X=None, y=None, z=1), "but holds neither"),
        (mat(X=np.zeros((32, 32, 3, 90))), r"holds X float64 \[32, 32, 3, 90\]"),
        (mat(X=np.zeros((90, 32, 32, 3), np.uint8)), r"holds X uint8 \[90, 32, 32, 3\]"),
        (mat(y=np.ones((80, 1))), r"y float64 \[80, 1\]"),
        (
            mat(y=np.arange(90)[:, None] % 10),
            r"mat: labels must be whole numbers from 1 to 10, but 9 are not \(first: 0\); is this",
        ),
        (mat(y=np.full((90, 1), 1.5)), r"from 1 to 10, but 90 are not \(first: 1\.5\)"),
        (put(MNIST["train"][1], idx(0x801, Y + 1)), r"labels-idx1-ubyte: labels must be whole numbers from 0 to 9, but 6 are not"),
        (put(MNIST["train"][1], idx(0x801, Y[:50])), r"must be of the same images, but hold 60 and 50; they belong to different"),
        (
            put(MNIST["train"][0], idx(0x801, Y)),
            r"must begin with 0x0803, n, 28, 28 and hold as many bytes, but begins with 0x0801, 60",
        ),
        (put(MNIST["train"][0], idx(0x803, X[:, :20])), r"begins with 0x0803, 60, 20, 28 and holds 33600 more; download it again"),
        (put(MNIST["train"][0], idx(0x803, X)[:-1]), r"60, 28, 28 and holds 47039 more"),
        (
            put(MNIST["train"][1], b"\0\0"),
            r"must begin with 0x0801, n and hold as many bytes, but begins with 0x0000, 0 and holds 0",
        ),
        (put(MNIST["train"][0], gzip.compress(idx(0x803, X))[:-9]), "must be whole, but cannot be unpacked .*download it again"),
        (put(MNIST["train"][0], b"\x1f\x8b" + b"no" * 9), "must be whole, but cannot be unpacked"),
    ],
)
def test_damaged_files(folder: Path, damage: Callable[[Path], Any], message: str) -> None:
    damage(folder)
    with pytest.raises(ValueError, match=message):
        read_svhn_mnist(folder, **SIZES)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"valid": 45}, r"Each fold needs at least 1 segment, but train, valid, test = \(0, 45, 15\)"),
        ({"valid": 0}, "Each fold needs at least 1 segment"),
        ({"train": 60}, "Each fold needs at least 1 segment"),
        ({"pairs": 1000}, r"955 pairs of one digit were asked for, but 40 SVHN and 30 MNIST images make only 120; ask for fewer"),
        ({"seed": -1}, "A seed must be a non-negative integer"),
    ],
)
def test_bad_options(folder: Path, change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_svhn_mnist(folder, **{**SIZES, **change})


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"format=svhn_mnist is read from .*nowhere, but nothing is there"):
        read_svhn_mnist(tmp_path / "nowhere")
    assert "svhn_mnist" in formats()
    with pytest.raises(
        ValueError, match="format=svhn_mnist has the options split, pairs, train, valid, seed, but label_range came"
    ):
        prepare("svhn_mnist", tmp_path, tmp_path / "out", options={"label_range": [0, 1]})
