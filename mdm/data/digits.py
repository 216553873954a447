"""Stage one, data: handwritten digits rendered in two styles, which stand in for SVHN and MNIST (Tsai et al., 2019, section 3.2).

Needs no file: the 1,797 digits of 8 × 8 pixels come with scikit-learn. For each pair of images:

- The digit is uniform on 0 … 9.
- Two handwritten instances of it are drawn from the fold's own, independently and with replacement.
- One is written as in MNIST: 28 × 28, white on black, upright but for a little rotation, shear, shift and scale, with a thinner or
  thicker stroke.
- The other as in SVHN: 32 × 32 in colour, in some colour on another of another brightness, narrowed, blurred, unevenly lit, with
  noise, often with slices of other digits at the edges, which tell nothing of the label.

All of style is drawn independently of the digit and of the other image. So given the digit the two images are independent, and

    I(svhn; mnist) ≤ H(digit) = log 10 nats,

reached only if each image tells its digit without error. Under ``split=disjoint`` no handwritten instance is in two folds.
Unlike an image of a file, an instance looks different each time it is drawn: what leaks under ``split=paper`` is its shape alone.
"""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Float, Int, Shaped
from scipy import ndimage

from mdm.data.base import FOLDS, Segments
from mdm.data.gaussian import folds, stream
from mdm.data.pairing import DIGITS, SHAPES, STYLES, Split, build_pairs
from mdm.hints import Count, Rows, require_option

SHARES = {"train": 0.6, "valid": 0.15, "test": 0.25}
"""Of the instances of each digit, under ``split=disjoint``; whatever the numbers of pairs."""
SIZE = 8
FINER = 4
"""Into how many an instance's pixels are divided, each way, before it is turned: about a stroke of a digit on paper."""
CANVAS = FINER * (SIZE + 2)
"""With a pixel of margin on each side."""
CONTRAST = 0.25
"""Least difference in brightness between a digit's colour and its background's, before light and noise."""
BRIGHTNESS = np.array([0.299, 0.587, 0.114])
SLICE = 12
"""Columns at either edge into which a neighbour may reach."""

PURPOSES = (
    "division",
    "digits",
    *(f"{what} {style}" for what in ("instances", "form") for style in STYLES),
    "neighbours",
    "colours",
)
"""One generator each, so that for instance the form of one style moves nothing of the other."""


def digits(train: Rows = 2000, valid: Rows = 400, test: Rows = 1000, split: Split = "disjoint", seed: Count = 0) -> Segments:
    """Pairs of images from the model above.

    split: ``disjoint``: no handwritten instance is in two folds; ``paper``: pairs are drawn first, then divided

    ``truth``, in nats: ``digit_entropy``, which bounds the mutual information of the two images. Names of images are those of their
    instances: what the marks and the card of `mdm.data.pairing` count.

    Raises ValueError if a fold is empty, the seed negative or the split unknown.

    >>> segments = digits(train=8, valid=4, test=4)
    >>> {style: images.values.shape for style, images in segments.modalities.items()}
    {'svhn': (16, 3072), 'mnist': (16, 784)}
    """
    require_option("split", split, Split)
    fold = folds(train, valid, test)
    n = len(fold)
    instances, labels = load_handwritten()
    pool = divide(labels, draw(seed, "division"))
    digit = draw(seed, "digits").integers(0, len(DIGITS), n)
    drawn = {style: np.empty(n, dtype=np.int64) for style in STYLES}
    beside = np.empty((n, 2), dtype=np.int64)
    chance = {style: draw(seed, f"instances {style}").random(n) for style in STYLES}
    side = draw(seed, "neighbours").random((n, 2))
    for f in FOLDS:
        here = np.flatnonzero(fold == f)
        own = np.flatnonzero(pool == f) if split == "disjoint" else np.arange(len(labels))
        own = own[np.argsort(labels[own], kind="stable")]
        count = np.bincount(labels[own], minlength=len(DIGITS))
        first = np.cumsum(count) - count
        for style in STYLES:
            drawn[style][here] = own[first[digit[here]] + (chance[style][here] * count[digit[here]]).astype(np.int64)]
        beside[here] = own[(side[here] * len(own)).astype(np.int64)]
    images = {
        "svhn": as_svhn(instances, drawn["svhn"], beside, draw(seed, "form svhn"), draw(seed, "colours")),
        "mnist": as_mnist(instances, drawn["mnist"], draw(seed, "form mnist")),
    }
    return build_pairs(
        "synthetic_digits",
        fold,
        digit,
        images,
        {style: np.array([f"{i:04d}" for i in drawn[style]]) for style in STYLES},
        truth={"digit_entropy": math.log(len(DIGITS))},
        source={
            "synthetic": True,
            "stands_in_for": "svhn_mnist",
            "train": train,
            "valid": valid,
            "test": test,
            "split": split,
            "seed": seed,
        },
        prefix=np.array([f"pair{i:05d}:" for i in range(n)]),
    )


def load_handwritten() -> tuple[Float[np.ndarray, "instances height width"], Int[np.ndarray, " instances"]]:
    """All instances with a margin, interpolated to a finer grid; values of about [0, 1]. And their digits."""
    from sklearn.datasets import load_digits  # a second to import

    found = load_digits()
    # Cubic interpolation is linear in the image and the same for rows and columns: a matrix.
    finer = ndimage.zoom(np.eye(SIZE + 2), (FINER, 1), order=3, mode="grid-constant", grid_mode=True)
    padded = np.pad(found.images / 16, ((0, 0), (1, 1), (1, 1)))
    return (finer @ padded @ finer.T).astype(np.float32), found.target.astype(np.int64)


def divide(labels: Int[np.ndarray, " instances"], rng: np.random.Generator) -> Shaped[np.ndarray, " instances"]:
    """The fold of each instance, in the same shares for every digit."""
    pool = np.empty(len(labels), dtype="U5")
    for digit in range(len(DIGITS)):
        mine = rng.permutation(np.flatnonzero(labels == digit))
        ends = np.rint(np.cumsum(list(SHARES.values())) * len(mine)).astype(int)
        for f, part in zip(SHARES, np.split(mine, ends[:-1]), strict=True):
            pool[part] = f
    return pool


def as_mnist(
    instances: Float[np.ndarray, "instances height width"], drawn: Int[np.ndarray, " n"], rng: np.random.Generator
) -> Float[np.ndarray, "n 784"]:
    """White digits of about 20 × 20 pixels on black, as by a pen."""
    n, (_, height, width) = len(drawn), SHAPES["mnist"]
    turn, shear = rng.normal(0, 0.12, n), rng.normal(0, 0.12, n)
    size = FINER * SIZE / 20 / rng.uniform(0.9, 1.1, (2, n))
    shift = rng.normal(0, 0.7, (2, n))
    values = sample_images(instances, drawn, np.arange(height), np.arange(width), (height, width), turn, shear, size, shift)
    return stroke(values, threshold=rng.uniform(0.35, 0.55, n), soft=rng.uniform(0.3, 0.45, n)).reshape(n, -1)


def as_svhn(
    instances: Float[np.ndarray, "instances height width"],
    drawn: Int[np.ndarray, " n"],
    beside: Int[np.ndarray, "n 2"],
    form: np.random.Generator,
    colours: np.random.Generator,
) -> Float[np.ndarray, "n 3072"]:
    """Digits of house numbers, cut out one at a time.

    beside: the instances to the left and to the right; each of these shows in about two thirds of the images
    """
    n, (channels, height, width) = len(drawn), SHAPES["svhn"]
    turn, shear = form.normal(0, 0.06, n), form.normal(0, 0.08, n)
    tall = FINER * SIZE / form.uniform(21, 29, n)
    size = np.stack([tall, tall / form.uniform(0.75, 1.0, n)])
    shift = form.normal(0, 1.2, (2, n))
    rows, columns = np.arange(height), np.arange(width)
    ink = sample_images(instances, drawn, rows, columns, (height, width), turn, shear, size, shift)
    for k, seen in enumerate((columns[:SLICE], columns[-SLICE:])):
        far = form.uniform(17, 22, n) + 100 * (form.random(n) < 1 / 3)
        moved = shift + np.stack([form.normal(0, 1, n), (2 * k - 1) * far])
        ink[:, :, seen] = np.maximum(
            ink[:, :, seen], sample_images(instances, beside[:, k], rows, seen, (height, width), turn, shear, size, moved)
        )
    ink = stroke(ink, threshold=form.uniform(0.25, 0.45, n), soft=form.uniform(0.45, 1.0, n))

    behind, digit = (colour.astype(np.float32)[:, :, None, None] for colour in colour_pairs(n, colours))
    # Light: a slope over the whole image, and stains.
    slope = colours.normal(0, 0.1, (2, n, 1, 1))
    light = slope[0] * np.linspace(-1, 1, height)[:, None] + slope[1] * np.linspace(-1, 1, width)
    coarse = colours.normal(0, 0.06, (n, 5, 5))
    finer = ndimage.zoom(np.eye(5), (height / 5, 1), order=3, mode="nearest", grid_mode=True)
    light += finer @ coarse @ finer.T
    noise = colours.standard_normal((n, channels, height, width), dtype=np.float32)
    noise *= colours.uniform(0.01, 0.05, (n, 1, 1, 1)).astype(np.float32)
    image = behind + (digit - behind) * ink[:, None] + light.astype(np.float32)[:, None] + noise
    return np.clip(image, 0, 1, out=image).reshape(n, -1)


def colour_pairs(n: int, rng: np.random.Generator) -> tuple[Float[np.ndarray, "n 3"], Float[np.ndarray, "n 3"]]:
    """Colours of background and digit, whose brightness differs by at least CONTRAST; most of them pale, as paint is."""
    behind, digit = rng.random((2, n, 3))
    while (close := np.abs((digit - behind) @ BRIGHTNESS) < CONTRAST).any():
        digit[close] = rng.random((int(close.sum()), 3))
    for colour in (behind, digit):
        grey = (colour @ BRIGHTNESS)[:, None]
        colour[:] = grey + 0.9 * rng.random((n, 1)) ** 2 * (colour - grey)
    return behind, digit


def sample_images(
    instances: Float[np.ndarray, "instances height width"],
    drawn: Int[np.ndarray, " n"],
    rows: Int[np.ndarray, " rows"],
    columns: Int[np.ndarray, " columns"],
    shape: tuple[int, int],
    turn: Float[np.ndarray, " n"],
    shear: Float[np.ndarray, " n"],
    size: Float[np.ndarray, "2 n"],
    shift: Float[np.ndarray, "2 n"],
) -> Float[np.ndarray, "n rows columns"]:
    """Instances turned, sheared, scaled and shifted, at some rows and columns of an image; 0 outside an instance.

    turn: radians, clockwise; shear: columns per row; shift: rows and columns
    size: pixels of the instance per row and column of the image
    """
    y = (rows - (shape[0] - 1) / 2)[None, :, None] - shift[0][:, None, None]
    x = (columns - (shape[1] - 1) / 2)[None, None, :] - shift[1][:, None, None]
    cos, sin = np.cos(turn)[:, None, None], np.sin(turn)[:, None, None]
    down, across = cos * y - sin * x, sin * y + cos * x
    across = across + shear[:, None, None] * down
    middle = (CANVAS - 1) / 2
    down, across = middle + size[0][:, None, None] * down, middle + size[1][:, None, None] * across
    which = np.broadcast_to(drawn[:, None, None], down.shape)
    # Linear interpolation between instances, at a whole number, is that instance.
    return ndimage.map_coordinates(instances, [which, down, across], order=1)


def stroke(
    values: Float[np.ndarray, "n height width"], threshold: Float[np.ndarray, " n"], soft: Float[np.ndarray, " n"]
) -> Float[np.ndarray, "n height width"]:
    """Ink in [0, 1]: all of it where values exceed the threshold by soft / 2; a lower threshold is a thicker stroke."""
    return np.clip((values - threshold[:, None, None]) / soft[:, None, None] + 0.5, 0, 1).astype(np.float32)


def draw(seed: int, purpose: str) -> np.random.Generator:
    """The generator of one purpose."""
    return stream(seed, PURPOSES.index(purpose))
