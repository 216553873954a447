"""Stage one, data: the files of SVHN and MNIST as published → pairs of images of one digit (Tsai et al., 2019, section 3.2)."""

from __future__ import annotations

import gzip
import re
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int, Shaped

from mdm.data.base import FOLDS, Segments
from mdm.data.gaussian import folds, stream
from mdm.data.pairing import SHAPES, STYLES, Split, build_pairs, pair_digits
from mdm.formats import matlab
from mdm.formats.base import hash_file, require_file, require_folder
from mdm.formats.confined import Confined, Unreadable
from mdm.formats.contents import Contents
from mdm.hints import require_option

IMAGES, LABELS = 0x803, 0x801
"""First four bytes of MNIST's files: unsigned bytes in 3 dimensions, or in 1."""
PURPOSES = (*(f"division {style}" for style in STYLES), *(f"pairs {fold}" for fold in FOLDS))
UNPACKED = (1 << 24, 64)
"""Bytes of an unpacked file: some in any case, and so many for each byte as it lies. The published images have five."""
CHUNK = 4096
"""Pairs whose images are copied at a time."""


def recognize_svhn_mnist(contents: Contents) -> str:
    """Why this is a folder of the two image sets' files, "" if it is not."""
    mnist = [file for file in contents.files if re.fullmatch(r"train-images[-.]idx3-ubyte(\.gz)?", file)]
    return f"a folder with train_32x32.mat and {mnist[0]}" if mnist and "train_32x32.mat" in contents.files else ""


def read_svhn_mnist(
    source: str | Path,
    *,
    split: Split = "disjoint",
    pairs: int = 100_000,
    train: int = 80_000,
    valid: int = 10_000,
    seed: int = 0,
    name: str = "",
) -> Segments:
    """A folder of train_32x32.mat, test_32x32.mat (SVHN) and train-images-idx3-ubyte[.gz], train-labels-…, t10k-… (MNIST).

    split: ``disjoint``: training and validation pairs take the training files' images, none of them in both; test pairs those of
        the test files'. ``paper``: pairs of the training files' images are drawn first and then divided, as section 3.2 reads; then
        the marks and the card of `mdm.data.pairing` count the test images that are also trained on. Test files are not read
    pairs, train: of all pairs, how many are not tested on, as in the paper
    valid: how many of these validate; the paper has none
    seed: of the draw of pairs (`mdm.data.pairing.pair_digits`), not of a run

    MNIST's names may have a dot before "idx" (train-images.idx3-ubyte). SVHN's label 10 is the digit 0. Pixels are divided by 255.
    The arrays of 100,000 pairs have 1.5 GB, and reading takes that and twice the files' bytes.

    Raises ValueError on a file that is absent, damaged or of another format, labels that are no digits, an unknown split, numbers
    of pairs that leave a fold empty, and more pairs than the images of a fold make.
    """
    require_option("split", split, Split)
    fold = folds(train - valid, valid, pairs - train)
    source = require_folder(Path(source), "format=svhn_mnist")
    files: list[Path] = []
    sets = {part: read_set(source, part, files) for part in (("train", "test") if split == "disjoint" else ("train",))}

    drawn = draw_together(sets, pairs, seed) if split == "paper" else draw_apart(sets, fold, seed)
    digit = np.empty(pairs, dtype=np.int64)
    images = {style: np.empty((pairs, int(np.prod(SHAPES[style]))), np.float32) for style in STYLES}
    names = {style: np.empty(pairs, dtype="U16") for style in STYLES}
    for f in FOLDS:
        part, here = part_of(f, split), np.flatnonzero(fold == f)
        digit[here] = sets[part]["svhn"][1][drawn["svhn"][here]]
        for style in STYLES:
            names[style][here] = [f"{part}{i:05d}" for i in drawn[style][here]]
            for rows in np.split(here, range(CHUNK, len(here), CHUNK)):
                images[style][rows] = scale_images(sets[part][style][0][drawn[style][rows]])
    return build_pairs(
        name or "svhn_mnist",
        fold,
        digit,
        images,
        names,
        truth={},
        source={
            "format": "svhn_mnist",
            "files": {path.name: hash_file(path) for path in files},
            "options": {"split": split, "pairs": pairs, "train": train, "valid": valid, "seed": seed},
            "cleaned": {},
        },
        prefix=np.full(pairs, ""),
    )


Held = dict[str, tuple[Shaped[np.ndarray, "_ _ _ _"], Int[np.ndarray, " _"]]]
"""Style → its images [n, channels, height, width] and their digits [n]."""


def part_of(fold: str, split: Split) -> str:
    """Whether the images of a fold are those of the training files or of the test files."""
    return "test" if fold == "test" and split == "disjoint" else "train"


def draw_together(sets: dict[str, Held], pairs: int, seed: int) -> dict[str, Int[np.ndarray, " pairs"]]:
    """Style → the image of each pair, of all images of the training files; which fold a pair is in is decided afterwards."""
    svhn, mnist = (sets["train"][style][1] for style in STYLES)
    return dict(zip(STYLES, pair_digits(svhn, mnist, pairs, draw(seed, "pairs train")), strict=True))


def draw_apart(sets: dict[str, Held], fold: Shaped[np.ndarray, " n"], seed: int) -> dict[str, Int[np.ndarray, " n"]]:
    """Style → the image of each pair, of its fold's own; validation has the share of images that it has of pairs."""
    drawn = {style: np.empty(len(fold), dtype=np.int64) for style in STYLES}
    train, valid = (int((fold == f).sum()) for f in ("train", "valid"))
    pools: dict[str, list[Int[np.ndarray, " _"]]] = {f: [] for f in FOLDS}
    for style in STYLES:
        order = draw(seed, f"division {style}").permutation(len(sets["train"][style][1]))
        held_out = round(len(order) * valid / (train + valid))
        pools["train"].append(order[held_out:])
        pools["valid"].append(order[:held_out])
        pools["test"].append(np.arange(len(sets["test"][style][1])))
    for f, pool in pools.items():
        svhn, mnist = (sets[part_of(f, "disjoint")][style][1][own] for style, own in zip(STYLES, pool, strict=True))
        chosen = pair_digits(svhn, mnist, int((fold == f).sum()), draw(seed, f"pairs {f}"))
        for style, own, indices in zip(STYLES, pool, chosen, strict=True):
            drawn[style][fold == f] = own[indices]
    return drawn


def scale_images(images: Shaped[np.ndarray, "k channels height width"]) -> Float[np.ndarray, "k _"]:
    """Bytes → [0, 1], flattened."""
    return images.reshape(len(images), -1).astype(np.float32) / 255


# ---- files


def read_set(source: Path, part: str, files: list[Path]) -> Held:
    """The images and digits of the training or of the test files, which are added to ``files``."""
    svhn = find_file(source, [f"{part}_32x32.mat"])
    stem = {"train": "train", "test": "t10k"}[part]
    images, labels = (
        find_file(source, [f"{stem}-{what}{mark}{kind}-ubyte{ending}" for ending in ("", ".gz") for mark in "-."])
        for what, kind in (("images", "idx3"), ("labels", "idx1"))
    )
    files += [svhn, images, labels]
    return {"svhn": read_mat(svhn), "mnist": read_mnist(images, labels)}


def find_file(folder: Path, names: list[str]) -> Path:
    """The first of these files that is there. Raises ValueError if none is."""
    for path in (folder / name for name in names):
        if path.exists():
            return require_file(path, f"format=svhn_mnist: {path.name}")
    raise ValueError(
        f"format=svhn_mnist needs the published files of SVHN and MNIST in one folder, but {folder} has no {names[0]}"
        f"{' (or .gz)' if len(names) > 1 else ''}; put it there."
    )


def read_mat(path: Path) -> tuple[Shaped[np.ndarray, "n 3 32 32"], Int[np.ndarray, " n"]]:
    """SVHN's images X [32, 32, 3, n] and labels y [n, 1], 1 to 10, as [n, 3, 32, 32] and digits."""
    try:
        with Confined(matlab.__name__, [path], matlab.LIMITS) as process:
            content: dict[str, Any] = process.ask("load", path, "X", "y")
    except Unreadable as error:
        came = f"holds {error.text}" if error.kind == "Refused" else f"cannot be read ({error})"
        raise ValueError(f"{path.name} must be a MATLAB file, but {came}; download it again.") from None
    x, y = content.get("X"), content.get("y")
    if x is None or y is None or x.dtype != np.uint8 or x.ndim != 4 or x.shape[:3] != (32, 32, 3) or y.size != x.shape[3]:
        came = ", ".join(f"{key} {v.dtype} {list(v.shape)}" for key, v in (("X", x), ("y", y)) if v is not None) or "neither"
        raise ValueError(
            f"{path.name} must hold X, bytes [32, 32, 3, n], and y, n labels, but holds {came}; take format 2, cropped digits."
        )
    return x.T.swapaxes(2, 3), as_digits(y, 1, path) % 10


def read_mnist(images: Path, labels: Path) -> tuple[Shaped[np.ndarray, "n 1 28 28"], Int[np.ndarray, " n"]]:
    """MNIST's images and digits. Raises ValueError if the files differ in their numbers."""
    x, y = read_idx(images, IMAGES, SHAPES["mnist"][1:]), read_idx(labels, LABELS, ())
    if len(x) != len(y):
        raise ValueError(
            f"{images.name} and {labels.name} must be of the same images, but hold {len(x)} and {len(y)}; they belong to "
            "different data."
        )
    return x[:, None], as_digits(y, 0, labels)


def read_idx(path: Path, magic: int, shape: tuple[int, ...]) -> Shaped[np.ndarray, "n ..."]:
    """An IDX file of bytes, gzipped or not: magic number, n, the shape of an item (four bytes each, big-endian), then the values.

    Raises ValueError if it begins otherwise or is not whole.
    """
    size = path.stat().st_size
    with path.open("rb") as plain, gzip.GzipFile(fileobj=plain) as packed:
        file: Any = packed if plain.peek(2)[:2] == b"\x1f\x8b" else plain
        try:
            count = 2 + len(shape)
            head = struct.unpack(f">{count}I", file.read(4 * count).ljust(4 * count, b"\0"))
            needed = head[1] * int(np.prod(shape))
            right = head[0] == magic and head[2:] == shape and needed <= UNPACKED[0] + UNPACKED[1] * size
            # one byte more tells that there is more, and no bomb is unpacked to count them
            content = file.read(needed + 1) if right else b""
        except (OSError, EOFError, zlib.error) as error:
            raise ValueError(f"{path.name} must be whole, but cannot be unpacked ({error}); download it again.") from None
        body = size - 4 * count if file is plain else len(content)
    if not right or body != needed:
        raise ValueError(
            f"{path.name} must begin with {magic:#06x}, n{''.join(f', {side}' for side in shape)} and hold as many bytes, but "
            f"begins with {head[0]:#06x}, {', '.join(map(str, head[1:]))} and holds {max(body, 0)} more; download it again."
        )
    return np.frombuffer(content, np.uint8).reshape(-1, *shape)


def as_digits(labels: Shaped[np.ndarray, "..."], lowest: int, path: Path) -> Int[np.ndarray, " n"]:
    """Labels as whole numbers. Raises ValueError unless they are among the ten from ``lowest`` on."""
    flat = labels.reshape(-1)
    wrong = flat[~np.isin(flat, np.arange(lowest, lowest + 10))]
    if len(wrong):
        raise ValueError(
            f"{path.name}: labels must be whole numbers from {lowest} to {lowest + 9}, but {len(wrong)} are not (first: "
            f"{wrong[0]}); is this the published file?"
        )
    return flat.astype(np.int64)


def draw(seed: int, purpose: str) -> np.random.Generator:
    """The generator of one purpose."""
    return stream(seed, PURPOSES.index(purpose))
