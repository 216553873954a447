"""Stage one, data: other labels on synthetic segments, so that a table about other data sets runs without any file.

Words, frames and latents are those of `mdm.data.synthetic`. A target t with the name of a trait or an emotion is, of each segment,

    s = (u_tᵀ v + σ ε_t) / sd,    sd² = u_tᵀ C u_t + σ²
    y_t = middle + half · clip(s / reach, −1, 1), rounded to whole steps above the low end of the range

with v the valences of language, audio and video, u_t a direction in the space of three that belongs to the target's name (so its
population does not change with the seed, nor with the targets beside it), ε_t standard normal, and C the covariance of the
valences: E[v_m²] = 1, E[v_a v_v] = 2/π, E[v_l v_a] = E[v_l v_v] = (1 − 2q)·2/π, q the share of contradictory segments. So s has
mean 0 and variance 1, and as (v, ε) and (−v, −ε) have one law its median is 0: a target with labels 0 and 1 is cut at the median
of the population, whatever the sample's is. Two targets depend on one another as u_sᵀ C u_t does.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated, Any

import numpy as np
from jaxtyping import Float

from mdm.data.base import UNLABELED, Segments
from mdm.data.checks import check
from mdm.data.synthetic import NOISE, latents, synthetic
from mdm.hints import Count, Share


def standin(
    name: str,
    targets: Sequence[str],
    label_range: Sequence[float],
    step: float,
    reach: float = 2.0,
    contradiction: Share = 0.15,
    seed: Count = 0,
    **arguments: Annotated[Any, synthetic],
) -> Segments:
    """Synthetic segments with the targets, range and steps of another data set.

    name: of the data set, for the data card
    label_range, step: labels are low, low + step, …, high. Step 1 on [0, 1] is yes or no
    reach: how many standard deviations of s fill half the range; 0.86 with labels −1, 0, 1 cuts about a third to each
    contradiction, seed and all further arguments: see `mdm.data.synthetic.synthetic`

    ``truth`` is that of the inputs, about which labels change nothing; labels of unlabelled segments are NaN.

    Raises ValueError where `synthetic` does, without targets or with one twice, if the range is no (low, high) of whole steps, or
    unless reach is positive.

    >>> segments = standin("pom", ("persuasive",), (1.0, 7.0), step=1.0, train=16, valid=4, test=4)
    >>> segments.targets, segments.label_range
    (('persuasive',), (1.0, 7.0))
    """
    low, high = (float(end) for end in label_range) if len(label_range) == 2 else (math.nan, math.nan)
    steps = (high - low) / step if step > 0 else math.nan
    if not (steps >= 1 and abs(steps - round(steps)) < 1e-9):
        raise ValueError(
            f"{name}: labels run from low to high in whole steps, but label_range={list(label_range)} and step={step} came; set "
            "data.segments.label_range and data.segments.step."
        )
    if not targets or len(set(targets)) < len(targets) or not reach > 0:
        raise ValueError(
            f"{name}: a stand-in needs targets, each once, and reach > 0, but targets={list(targets)} and reach={reach} came; set "
            "data.segments.targets and data.segments.reach."
        )
    inputs = synthetic(contradiction=contradiction, seed=seed, **arguments)
    dims = {f"{m}_dim": inputs.modalities[m].dim for m in ("audio", "video")}
    law = {key: arguments[key] for key in ("shared_dim", "rho") if key in arguments}
    valence = latents(len(inputs), **dims, **law, contradiction=contradiction, seed=seed).valence
    signals = [signal(target, valence, contradiction, seed) for target in targets]
    middle, half = (low + high) / 2, (high - low) / 2
    label = np.stack([middle + half * np.clip(s / reach, -1, 1) for s in signals], axis=1)
    label = (low + step * np.rint((label - low) / step)).astype(np.float32)
    label[inputs.fold == UNLABELED] = np.nan
    declared = {"targets": list(targets), "label_range": [low, high], "step": step, "reach": reach}
    return check(
        replace(
            inputs,
            name=name,
            label=label,
            targets=tuple(targets),
            label_range=(low, high),
            source={**inputs.source, "stands_in_for": name, **declared},
        )
    )


def signal(target: str, valence: Float[np.ndarray, "n 3"], contradiction: float, seed: int) -> Float[np.ndarray, " n"]:
    """s of one target, of mean 0 and variance 1 over the population."""
    u = direction(target)
    sd = math.sqrt(u @ covariance(contradiction) @ u + NOISE**2)
    return (valence @ u + NOISE * stream(seed, target).standard_normal(len(valence))) / sd


def direction(target: str) -> Float[np.ndarray, " 3"]:
    """u_t: uniform on the unit sphere, a function of the name."""
    u = np.random.default_rng([*target.encode()]).standard_normal(3)
    return u / np.linalg.norm(u)


def covariance(contradiction: float) -> Float[np.ndarray, "3 3"]:
    """C of the valences b_m r_m: independent half-normal magnitudes, E[r] = √(2/π), times signs that agree or not."""
    mean = 2 / math.pi
    c = np.eye(3) + mean * (np.ones((3, 3)) - np.eye(3))
    c[0, 1:] = c[1:, 0] = (1 - 2 * contradiction) * mean
    return c


def stream(seed: int, target: str) -> np.random.Generator:
    """A generator for each target's noise, so that another target moves no label; `synthetic` has those of one number."""
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(0, *target.encode())))
