"""Stage one, data: other labels on synthetic segments, so that a table about other data sets runs without any file.

Words, frames and latents are those of `mdm.data.synthetic`. A target t with the name of a trait or an emotion is, of each segment,

    s = (u_tᵀ v + α_t t_a t_v + β_t t_l t_a + γ_t t_l t_a t_v + σ ε_t) / sd
    y_t = middle + half · clip(s / reach, −1, 1), rounded to whole steps above the low end of the range

with v and t the valences and tones of language, audio and video, ε_t standard normal, and sd² the variance of the sum
(`mdm.data.sentiment`). u_t is a direction in the space of three that belongs to the target's name, so its population does not
change with the seed, nor with the targets beside it. Its length makes Var u_tᵀ v the additive part of the synthetic sentiment; α_t,
β_t and γ_t are accord, turn and irony with signs that belong to the name too. So every target has the shares of that sentiment, and
s has mean 0 and variance 1, and as (v, t_a, ε) and (−v, −t_a, −ε) have one law its median is 0: a target with labels 0 and 1 is cut
at the median of the population, whatever the sample's is.
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
from mdm.data.sentiment import Law
from mdm.data.synthetic import Latents, latents, synthetic
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

    ``truth`` is that of the synthetic data: the dependence of the inputs, and shares that are each target's as well. Labels of
    unlabelled segments are NaN.

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
    others = {key: arguments[key] for key in ("shared_dim", "rho") if key in arguments}
    z = latents(len(inputs), **dims, **others, contradiction=contradiction, seed=seed)
    whole = Law(**{key: inputs.source[key] for key in ("contradiction", "accord", "turn", "irony")})
    signals = [signal(law_of(target, whole), target, z, seed) for target in targets]
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


def signal(law: Law, target: str, z: Latents, seed: int) -> Float[np.ndarray, " n"]:
    """s of one target, of mean 0 and variance 1 over the population."""
    return law.express(z.valence, z.tone, stream(seed, target).standard_normal(len(z.valence))) / math.sqrt(law.variance)


def law_of(target: str, whole: Law) -> Law:
    """The target's own, with the shares of ``whole``: u_t uniform over directions, signs uniform; both a function of the name."""
    rng = np.random.default_rng([*target.encode()])
    u, signs = rng.standard_normal(3), rng.choice([-1.0, 1.0], 3)
    length = math.sqrt(whole.parts["additive"] / (u @ whole.covariance @ u))
    accord, turn, irony = (signs * (whole.accord, whole.turn, whole.irony)).tolist()
    return Law(whole.contradiction, accord, turn, irony, weights=tuple((length * u).tolist()), tones=(0.0, 0.0, 0.0))


def stream(seed: int, target: str) -> np.random.Generator:
    """A generator for each target's noise, so that another target moves no label; `synthetic` has those of one number."""
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(0, *target.encode())))
