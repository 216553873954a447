"""Stage one, data: Gaussian modalities, whose dependence has a closed form (Colombo et al., 2021, the setting of its Fig. 1).

The component-wise model: each of ``dim`` coordinates is an M-variate standard Gaussian with correlation
R = (1 − ρ) I + ρ 11ᵀ across the M modalities, and coordinates are independent. The total correlation
KL(P(X_1, …, X_M) ‖ ∏ P(X_m)) is that of one coordinate, −½ log det R, taken ``dim`` times.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Shaped

from mdm.data.base import FOLDS, Ragged, Segments
from mdm.data.checks import check
from mdm.hints import Count, Depth, Rows, Width

SPREAD, NOISE = 1.6, 0.3
"""Standard deviations of the label's signal and noise; 1.6 is about that of MOSI's labels."""


def gaussian(
    train: Rows = 1284,
    valid: Rows = 229,
    test: Rows = 686,
    dim: Width = 20,
    modalities: Depth = 3,
    rho: float = 0.5,
    seed: Count = 0,
) -> Segments:
    """Segments of one step each, whose modalities are jointly Gaussian.

    Modalities are language (the text kind ``vectors``), audio, video, then m3, m4, …; each is one vector
    of ``dim`` numbers a segment. The label is y = clip(1.6 s + 0.3 ε, −3, 3), where s is the mean over the
    modalities of the first coordinate, divided by its standard deviation √((1 + (M−1)ρ)/M), and ε is
    standard normal. Draws are ordered so that ``rho`` changes neither language nor ε.

    ``truth``, in nats: ``total_correlation`` of all modalities, and ``pairwise_mutual_information`` of
    any two of them, −(dim/2) log(1 − ρ²).

    Raises ValueError if a fold is empty, the seed negative, or where `total_correlation` does.

    >>> segments = gaussian(train=8, valid=4, test=4, dim=2, rho=0.5)
    >>> len(segments), sorted(segments.modalities), round(segments.truth["pairwise_mutual_information"], 3)
    (16, ['audio', 'video'], 0.288)
    """
    truth = {
        "total_correlation": total_correlation(rho, dim, modalities),
        "pairwise_mutual_information": total_correlation(rho, dim, 2),
    }
    fold = folds(train, valid, test)
    n = len(fold)
    coordinates, noise = (stream(seed, purpose) for purpose in range(2))
    factor = np.linalg.cholesky((1 - rho) * np.eye(modalities) + rho)
    x = np.einsum("mj,jnd->mnd", factor, coordinates.standard_normal((modalities, n, dim)))
    signal = x[:, :, 0].mean(0) / np.sqrt((1 + (modalities - 1) * rho) / modalities)
    label = np.clip(SPREAD * signal + NOISE * noise.standard_normal(n), -3, 3)

    names = [*("language", "audio", "video")[:modalities], *(f"m{i}" for i in range(3, modalities))]
    offsets = np.arange(n + 1, dtype=np.int64)
    ragged = {name: Ragged(values.astype(np.float32), offsets) for name, values in zip(names, x, strict=True)}
    text = {"vectors": ragged.pop("language")}
    return check(
        Segments(
            name="gaussian",
            ids=tuple(f"segment{i:05d}" for i in range(n)),
            fold=fold,
            group=np.array([f"segment{i:05d}" for i in range(n)]),
            label=label[:, None].astype(np.float32),
            targets=("sentiment",),
            label_range=(-3.0, 3.0),
            modalities=ragged,
            text=text,
            aligned=(*text, *ragged),
            truth=truth,
            source={
                "synthetic": True,
                "train": train,
                "valid": valid,
                "test": test,
                "dim": dim,
                "modalities": modalities,
                "rho": rho,
                "seed": seed,
            },
        )
    )


def total_correlation(rho: float, dim: int, modalities: int) -> float:
    """Total correlation of the component-wise model, in nats.

    TC = −(d/2) [(M−1) log(1 − ρ) + log(1 + (M−1) ρ)], as R has the eigenvalues 1 − ρ (M−1 times) and
    1 + (M−1)ρ.

    Raises ValueError unless modalities ≥ 2, dim ≥ 1 and −1/(M−1) < rho < 1 (elsewhere R is no
    non-singular correlation matrix).
    """
    if modalities < 2:
        raise ValueError(f"Dependence needs at least 2 modalities, but modalities={modalities} came; pass 2 or more.")
    if dim < 1:
        raise ValueError(f"A modality needs at least 1 coordinate, but a dimension of {dim} came; pass 1 or more.")
    if not -1 / (modalities - 1) < rho < 1:
        raise ValueError(
            f"The correlation of {modalities} modalities must lie strictly between -1/{modalities - 1} and 1, "
            f"but rho={rho} came; choose it inside."
        )
    nats = -dim / 2 * ((modalities - 1) * math.log1p(-rho) + math.log1p((modalities - 1) * rho))
    return nats + 0.0  # rho = 0 gives -0.0, which would stand in every record


def gaussian_total_correlation(covariance: Float[np.ndarray, "n n"], blocks: Sequence[int]) -> float:
    """Total correlation of a Gaussian whose coordinates fall into consecutive blocks, in nats.

    TC = ½ Σ_k log det Σ_kk − ½ log det Σ, with Σ_kk the covariance of block k; two blocks: their mutual
    information.

    covariance: [n, n], symmetric and positive definite
    blocks: the sizes of the blocks, each ≥ 1, adding up to n

    Raises ValueError if the sizes do not fit the matrix, or the matrix is no covariance.
    """
    covariance = np.asarray(covariance, dtype=np.float64)
    n = sum(blocks)
    if min(blocks, default=0) < 1 or covariance.shape != (n, n):
        raise ValueError(
            f"The blocks must be sizes of at least 1 that add up to the covariance's order, but blocks {list(blocks)} came "
            f"with a matrix of shape {list(covariance.shape)}; pass one size per modality."
        )
    # eigvalsh reads one triangle only, so symmetry is checked apart; NaN fails the first comparison.
    if not np.allclose(covariance, covariance.T) or np.linalg.eigvalsh(covariance)[0] <= 0:
        raise ValueError(
            "A covariance must be symmetric and positive definite, but the one that came is not; "
            "estimate it from more rows, or remove coordinates that are constant or determined by others."
        )
    ends = np.cumsum(blocks)
    parts = [covariance[end - size : end, end - size : end] for size, end in zip(blocks, ends, strict=True)]
    return float(sum(np.linalg.slogdet(part)[1] for part in parts) - np.linalg.slogdet(covariance)[1]) / 2


def folds(train: int, valid: int, test: int) -> Shaped[np.ndarray, " n"]:
    """The fold of each of train + valid + test segments, in this order.

    Raises ValueError if a fold would be empty.
    """
    sizes = (train, valid, test)
    if min(sizes) < 1:
        raise ValueError(f"Each fold needs at least 1 segment, but train, valid, test = {sizes} came; enlarge the empty ones.")
    return np.repeat(FOLDS, sizes)


def stream(seed: int, purpose: int) -> np.random.Generator:
    """A generator of its own for each purpose: what one draws moves nothing that another draws.

    Raises ValueError if ``seed`` is negative.
    """
    if seed < 0:
        raise ValueError(f"A seed must be a non-negative integer, but {seed} came; use seed=0, 1, 2, …")
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(purpose,)))
