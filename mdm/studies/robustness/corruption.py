"""Modality drop (Colombo et al., 2021, section 5.3; Shankar, 2022, section 5.5): what is left of a model that some modalities fail?

A trained run predicts the test segments again with some modalities corrupted, in one of these ways (x is what the model reads,
scaled already; the papers say only that a modality is "dropped"):

    absent   no step at all, as the data write a segment that lacks the modality. MAG's frames belong to words: without words none
             reaches it, and its prediction is one constant
    zero     every step stays, its frames 0; words become the padding token, whose embedding is 0 where it is learned here
    mean     every step stays, its frames the mean of the training fold's: 0 again if data.scale=standard and no steps are cut off
             by data.max_steps. Words have none
    noise    level s in [0, 1]: frames (1 − s) x + s x′, words those of x′ with probability s, where x′ is the same modality of
             another test segment, repeated or cut to the length of x

Noise takes another segment's x′, not Gaussian frames: their law would be right in each feature but not across features and
steps, and models that average over time would not see them. So at s = 1 each modality alone is as real as before and only the
pairing is lost: the product of the marginals, which the penalties of Colombo et al. (2021) tell from the joint law. With one seed
    all
levels have the same partners, and the words replaced at one level are replaced at every higher one.

Nothing is chosen here: `mdm.runs.trained` opens finished runs only.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from mdm.backbones.layers import real_steps_first
from mdm.data.base import PADDING
from mdm.metrics import evaluate
from mdm.runs.trained import Trained
from mdm.seeds import generator
from mdm.statistics import mean_interval, t_interval
from mdm.statistics.permutation import sign_flip
from mdm.training.predict import predict
from mdm.types import Batch
from mdm.types import Sequence as Steps

CORRUPTIONS = ("absent", "zero", "mean", "noise")
METRICS = ("acc2_pos", "mae", "corr")
SAME = 1e-6
"""Predictions closer than this part of the label range are equal: one row's arithmetic may differ from another's."""
CELL = ["data", "row", "label", "kept", "corruption", "level"]
"""Columns that say which runs in which setting."""


@dataclass(frozen=True)
class Corruption:
    """Which modalities stay as they are, and what happens to the others; ``level`` is that of noise, 1 for the rest."""

    kept: tuple[str, ...]
    corruption: str
    level: float = 1.0


def list_settings(
    kept: Sequence[Sequence[str]], corruptions: Sequence[str], levels: Sequence[float] | None = None
) -> list[Corruption]:
    """Each choice of modalities under each corruption and level.

    kept: lists of modalities; an empty one removes all; corruptions: names; levels: those of noise

    Raises ValueError, naming the key, if a list is empty, a corruption is unknown or a level is outside [0, 1].
    """
    kept, corruptions, levels = list(kept), list(corruptions), list(levels or [])
    if not kept or not corruptions or not set(corruptions) <= set(CORRUPTIONS):
        raise ValueError(
            f"Modalities are removed by some of {', '.join(CORRUPTIONS)}, but study.corruptions is {corruptions} and "
            f"study.kept {kept}; name at least one of each."
        )
    if ("noise" in corruptions) != bool(levels) or not all(0 <= level <= 1 for level in levels):
        raise ValueError(
            f"Noise, and nothing else, has levels from 0 to 1, but study.levels is {levels} and study.corruptions "
            f"{corruptions}; correct one of them."
        )
    pairs = [(c, float(level)) for c in corruptions for level in (levels if c == "noise" else [1])]
    return [Corruption(tuple(modalities), c, level) for c, level in pairs for modalities in kept]


# ---- corruptions


def corrupt(batch: Batch, setting: Corruption, *, means: Mapping[str, Float[Tensor, " _"]], seed: int = 0, index: int = 0) -> Batch:
    """A batch without the modalities that are not kept, in its segments and in all of their videos, where it has these.

    means: of `average_frames`, needed for ``mean`` alone
    seed, index: of the run and of the batch; with the modality's name they determine the noise

    Raises ValueError if a modality that is kept is not there or none is removed, and where `replace_by_means` and `add_noise` do.
    """
    missing = [m for m in setting.kept if m not in batch.sequences]
    if missing or set(setting.kept) == set(batch.sequences):
        raise ValueError(
            f"Some modalities of {', '.join(batch.sequences)} are kept and at least one is removed, got "
            f"{', '.join(setting.kept) or 'none'}; correct study.kept."
        )
    sequences = _remove(batch.sequences, setting, means, seed, index)
    context = batch.context
    if context is not None:
        context = replace(context, sequences=_remove(context.sequences, setting, means, seed, index))
    return replace(batch, sequences=sequences, context=context)


def _remove(
    given: dict[str, Steps], setting: Corruption, means: Mapping[str, Float[Tensor, " _"]], seed: int, index: int
) -> dict[str, Steps]:
    """All sequences, those that are not kept corrupted."""
    sequences = dict(given)
    for m, steps in given.items():
        if m in setting.kept:
            continue
        if setting.corruption == "absent":
            sequences[m] = Steps(torch.full_like(steps.values, PADDING), torch.zeros_like(steps.mask))
        elif setting.corruption == "zero":
            sequences[m] = Steps(torch.full_like(steps.values, PADDING), steps.mask)
        elif setting.corruption == "mean":
            sequences[m] = replace_by_means(steps, m, means)
        else:
            sequences[m] = add_noise(steps, m, setting.level, generator(seed, f"noise {m}", index))
    return sequences


def replace_by_means(steps: Steps, modality: str, means: Mapping[str, Float[Tensor, " _"]]) -> Steps:
    """Every real step the training mean.

    Raises ValueError for tokens.
    """
    if steps.values.ndim == 2:
        raise ValueError(
            f"The mean is one of frames, but {modality} comes as words or tokens; remove it by absent, zero or noise "
            "(study.corruptions)."
        )
    values = means[modality].expand_as(steps.values).masked_fill(~steps.mask.unsqueeze(-1), 0)
    return Steps(values, steps.mask)


def add_noise(steps: Steps, modality: str, level: float, rng: torch.Generator) -> Steps:
    """Steps on their way, by ``level``, to those of another row: (1 − s) x + s x′; tokens of x′ with probability s.

    The rows that have the modality form one random cycle, in which each takes from the next, step t from step t mod its length;
    rows without it stay so.

    Raises ValueError if only one row has it.
    """
    have = torch.nonzero(steps.lengths > 0).squeeze(1)
    if len(have) == 1:
        raise ValueError(
            f"Noise comes from another segment, but only one segment of the batch has {modality}; use another corruption, or a "
            "larger test fold."
        )
    cycle = have[torch.randperm(len(have), generator=rng)]
    donor = torch.arange(len(steps.mask))
    donor[cycle] = cycle.roll(-1)
    other = real_steps_first(steps)[donor]
    place = (steps.mask.cumsum(1) - 1).clamp(min=0) % other.lengths.clamp(min=1).unsqueeze(1)
    if steps.values.ndim == 2:
        replaced = (torch.rand(steps.mask.shape, generator=rng) < level) & steps.mask
        return Steps(torch.where(replaced, other.values.gather(1, place), steps.values), steps.mask)
    given = other.values.gather(1, place.unsqueeze(-1).expand_as(steps.values))
    mixed = (1 - level) * steps.values + level * given
    return Steps(mixed.masked_fill(~steps.mask.unsqueeze(-1), 0), steps.mask)


def average_frames(batches: Iterable[Batch]) -> dict[str, Float[Tensor, " _"]]:
    """The mean over all real steps of every modality that is vectors, as the model reads it."""
    sums: dict[str, Tensor] = {}
    counts: dict[str, int] = {}
    for batch in batches:
        for m, steps in batch.sequences.items():
            if steps.values.ndim == 3:
                real = steps.values[steps.mask].double()
                sums[m] = sums.get(m, 0) + real.sum(0)
                counts[m] = counts.get(m, 0) + len(real)
    return {m: (total / counts[m]).float() for m, total in sums.items()}


# ---- numbers


def evaluate_settings(trained: Trained, wanted: Sequence[Corruption]) -> list[dict[str, Any]]:
    """A row for the run as it is (corruption ``none``) and one for every setting, all on its test fold.

    acc2_pos, mae, corr: as in `mdm.metrics`
    constant: whether all predictions are the same, but for the rounding of kernels; corr is then NaN
    ratio: Acc2_corrupt / Acc2 (Colombo et al., 2021, Figure 2), by acc2_pos
    majority: acc2_pos of the better of the two constant signs, what a ratio is to be seen against

    Raises ValueError where `corrupt` does, and if the untouched Acc-2 is no positive number, of which there is no ratio.
    """
    spec, batches = trained.splits.spec, list(trained.batches("test"))
    means = average_frames(trained.batches("train")) if any(s.corruption == "mean" for s in wanted) else {}

    def measured(these: Iterable[Batch]) -> dict[str, Any]:
        prediction, label = predict(trained.backbone, these)
        found = evaluate(prediction, label, spec.label_range, spec.targets)
        constant = bool(np.ptp(prediction, axis=0).max() < SAME * np.ptp(spec.label_range))
        return {**{m: found[m] for m in METRICS}, **({"corr": float("nan")} if constant else {}), "constant": constant}

    label = torch.cat([batch.label for batch in batches]).numpy()
    signs = [np.full_like(label, np.mean(spec.label_range) + sign) for sign in (-1, 1)]
    majority = max(evaluate(sign, label, spec.label_range, spec.targets)["acc2_pos"] for sign in signs)
    clean = measured(batches)
    if not clean["acc2_pos"] > 0:
        raise ValueError(
            f"A ratio is to an Acc-2 above 0, but that of {trained.folder} is {clean['acc2_pos']}; take a run and a test fold "
            "that have one."
        )
    rows = [{"kept": "+".join(spec.modalities), "corruption": "none", "level": 0.0, **clean, "ratio": 1.0, "majority": majority}]
    for setting in wanted:
        seed = int(trained.cfg.seed)
        found = measured(corrupt(b, setting, means=means, seed=seed, index=i) for i, b in enumerate(batches))
        what = {"kept": "+".join(setting.kept) or "nothing", "corruption": setting.corruption, "level": setting.level}
        rows.append({**what, **found, "ratio": found["acc2_pos"] / clean["acc2_pos"], "majority": majority})
    return rows


def summarise_seeds(runs: pd.DataFrame, baselines: Mapping[str, str | None]) -> pd.DataFrame:
    """Rows of runs → one for each of `CELL`.

    runs: `CELL`, ``seed`` and the columns of `evaluate_settings`; baselines: row → the row that it is compared with, None for none

    Of acc2_pos, mae and ratio: mean, ``_low`` and ``_high`` of its 95 % t interval. For acc2_pos and ratio ``_difference``, the
    mean of the paired differences to the baseline's runs of the same seeds, with its interval and the sign-flip test's ``_p``;
    NaN without a baseline. ``constant``: the runs whose predictions are all the same; corr is the mean over the others.
    """
    found = []
    for values, group in runs.groupby(CELL, sort=False):
        cell = dict(zip(CELL, values, strict=True))
        out = {**cell, "seeds": len(group), "constant": int(group["constant"].sum())}
        out |= {"corr": group["corr"].mean(), "majority": group["majority"].mean()}
        for metric in ("acc2_pos", "mae", "ratio"):
            x = group[metric].to_numpy(dtype=np.float64)
            out[metric] = x.mean()
            out[f"{metric}_low"], out[f"{metric}_high"] = mean_interval(x)
        others = runs[np.logical_and.reduce([runs[key] == cell[key] for key in ("data", "kept", "corruption", "level")])]
        pairs = group.merge(others[others.row == baselines[cell["row"]]], on="seed", suffixes=("", "_of_baseline"))
        for metric in ("acc2_pos", "ratio"):
            x, y = (pairs[name].to_numpy(dtype=np.float64) for name in (metric, f"{metric}_of_baseline"))
            low, high = t_interval(x, y) if len(x) else (np.nan, np.nan)
            out |= {f"{metric}_difference": (x - y).mean() if len(x) else np.nan}
            out |= {f"{metric}_difference_low": low, f"{metric}_difference_high": high}
            out[f"{metric}_p"] = sign_flip(x, y).p if len(x) else np.nan
        found.append(out)
    return pd.DataFrame(found)
