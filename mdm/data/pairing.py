"""Stage one, data: pairs of images that show one digit, in two styles (Tsai et al., 2019, section 3.2), as a table of segments.

A segment is a pair; its modalities are ``svhn`` and ``mnist``, each one step: an image as one vector, channels first, in [0, 1].
Its label is the digit, one-hot: ten targets, "0" to "9", in the range [0, 1].

An image may stand in many pairs. Where pairs are drawn first and divided afterwards, as the paper tells it, images that were
trained on are tested on, too. So each segment's id names its two images, its group is its SVHN image, the marks
``svhn_trained_on`` and ``mnist_trained_on`` say of a segment outside training whether that image is in a training pair, and the
card counts images.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
from jaxtyping import Float, Int, Shaped

from mdm.data.base import FOLDS, Ragged, Segments
from mdm.data.checks import check

STYLES = ("svhn", "mnist")
SHAPES = {"svhn": (3, 32, 32), "mnist": (1, 28, 28)}
"""Channels, height and width."""
DIGITS = tuple("0123456789")
Split = Literal["disjoint", "paper"]
"""How pairs are divided: no image in two folds, or pairs drawn first and then divided."""


def pair_digits(
    svhn: Int[np.ndarray, " images"], mnist: Int[np.ndarray, " other_images"], pairs: int, rng: np.random.Generator
) -> tuple[Int[np.ndarray, " pairs"], Int[np.ndarray, " pairs"]]:
    """Different pairs of images with one label, each set of them equally likely, in random order.

    svhn, mnist: the images' labels. Returned are indices into them.

    The paper says "randomly pair": here every possible pair is as likely as any other, so a digit's share is proportional to the
    product of how often the two sets have it.

    Raises ValueError if there are not so many pairs.
    """
    of_svhn, of_mnist = (np.argsort(labels, kind="stable") for labels in (svhn, mnist))
    count_svhn, count_mnist = (np.bincount(labels, minlength=len(DIGITS)).astype(np.int64) for labels in (svhn, mnist))
    first_svhn, first_mnist = (np.cumsum(count) - count for count in (count_svhn, count_mnist))
    ends = np.cumsum(count_svhn * count_mnist)
    if pairs > ends[-1]:
        raise ValueError(
            f"{pairs} pairs of one digit were asked for, but {len(svhn)} SVHN and {len(mnist)} MNIST images make only {ends[-1]}; "
            "ask for fewer, or check that the files are whole."
        )
    number = rng.choice(ends[-1], pairs, replace=False)
    digit = np.searchsorted(ends, number, side="right")
    i, j = np.divmod(number - (ends - count_svhn * count_mnist)[digit], count_mnist[digit])
    return of_svhn[first_svhn[digit] + i], of_mnist[first_mnist[digit] + j]


def build_pairs(
    name: str,
    fold: Shaped[np.ndarray, " n"],
    digit: Int[np.ndarray, " n"],
    images: Mapping[str, Float[np.ndarray, "n _"]],
    names: Mapping[str, Shaped[np.ndarray, " n"]],
    truth: Mapping[str, float],
    source: Mapping[str, Any],
    prefix: Shaped[np.ndarray, " n"],
) -> Segments:
    """Pairs as a checked table of segments.

    images, names: of each style, what a pair shows and what that image is called
    prefix: what an id begins with, where the names of its images do not make it unique
    source: facts for the data card, to which the numbers of different images are added
    """
    n, training = len(fold), fold == "train"
    marks, different, also = {}, {}, {}
    for style in STYLES:
        known = np.isin(names[style], names[style][training])
        marks[f"{style}_trained_on"] = known & ~training
        different[style] = {f: len(np.unique(names[style][fold == f])) for f in FOLDS}
        also[style] = {f: len(np.unique(names[style][(fold == f) & known])) for f in FOLDS[1:]}
    label = np.zeros((n, len(DIGITS)), np.float32)
    label[np.arange(n), digit] = 1
    return check(
        Segments(
            name=name,
            ids=tuple(f"{p}svhn-{a}+mnist-{b}" for p, a, b in zip(prefix, *(names[style] for style in STYLES), strict=True)),
            fold=fold,
            group=np.array([f"svhn-{a}" for a in names["svhn"]]),
            label=label,
            targets=DIGITS,
            label_range=(0.0, 1.0),
            modalities={style: Ragged(images[style], np.arange(n + 1, dtype=np.int64)) for style in STYLES},
            aligned=STYLES,
            marks=marks,
            truth=dict(truth),
            source={**source, "different_images": different, "images_also_in_training": also},
        )
    )
