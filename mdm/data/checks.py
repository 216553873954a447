"""Stage one, data: the contract of `Segments`, held before anything reads or stores them."""

from __future__ import annotations

import re
from collections.abc import Iterable

import numpy as np

from mdm.data.base import FOLDS, FORBIDDEN, FORBIDDEN_IN_TEXT, SURROGATE, UNLABELED, WIDEST, Ragged, Segments


def check(segments: Segments) -> Segments:
    """Hold a table to its contract before anything reads or stores it.

    Of a table that comes from a store (it has digests) the values themselves are not read again: they were checked when they
    were written, and reading a large store whole would cost more than training on it for an epoch.

    Raises ValueError (contract, what came, what to do) on: no segments, duplicated ids, names and ids that could not name a
    file, unknown fold names, labels that are not finite or leave the declared range, arrays whose length differs from the
    number of segments, values that are not finite, a modality without a single step, features called
    aligned whose lengths differ, token ids outside the vocabulary.
    """
    n, name = len(segments), segments.name
    check_names("The data set", "its name", [name])
    if n == 0:
        raise ValueError(f"{name}: a data set must hold at least one segment, and this one is empty; check its source.")
    seen: set[str] = set()
    doubled = sorted({i for i in segments.ids if i in seen or seen.add(i)})  # type: ignore[func-returns-value]
    if doubled:
        raise ValueError(
            f"{name}: segment ids must be unique, but {len(doubled)} occur twice ({', '.join(doubled[:3])}); "
            "rename them or remove the copies, or one segment may stand in two folds."
        )
    for what, names in (("segment ids", segments.ids), ("features", segments.features), ("marks", segments.marks)):
        check_names(name, what, names)
    check_names(name, "targets", segments.targets, FORBIDDEN_IN_TEXT)
    check_names(name, "groups", {str(group) for group in segments.group.tolist() if group != ""}, FORBIDDEN_IN_TEXT)
    unknown = sorted(set(segments.fold.tolist()) - {*FOLDS, UNLABELED, ""})
    if unknown:
        raise ValueError(
            f"{name}: a fold must be one of train, valid, test, unlabeled (or empty), but {unknown} came; rename them."
        )
    check_columns(segments)
    for feature, ragged in segments.features.items():
        check_feature(name, feature, ragged, n)
        if not segments.digests:
            check_values(name, feature, ragged)
    strange = [f for f in segments.aligned if f not in segments.features]
    if strange:
        raise ValueError(
            f"{name}: only features can be declared aligned ({', '.join(segments.features)}), but {strange} came; correct aligned."
        )
    lengths = np.stack([segments.features[f].lengths for f in segments.aligned]) if segments.aligned else np.zeros((1, n), int)
    differing = np.flatnonzero([len(set(column[column > 0])) > 1 for column in lengths.T])
    if len(differing):
        i = differing[0]
        raise ValueError(
            f"{name}: {', '.join(segments.aligned)} are declared aligned, so a segment must have equally many steps in "
            f"each, but {segments.ids[i]} has {lengths[:, i].tolist()} ({len(differing)} such segments); align them or "
            "declare them unaligned."
        )
    return segments


def check_names(name: str, what: str, given: Iterable[str], forbidden: re.Pattern[str] = FORBIDDEN) -> None:
    """Raises ValueError unless each can be written into a table, and (by default) name a file without leading out of its folder."""
    bad = [text for text in given if not text or forbidden.search(text) or len(text.encode("utf-8", "surrogatepass")) > 200]
    if bad:
        kept = " and separators of paths" if forbidden is FORBIDDEN else ""
        raise ValueError(
            f"{name}: {what} must have 1 to 200 bytes without control characters{kept}, but {bad[0]!r:.80} came "
            f"({len(bad)} such); rename them."
        )


def check_columns(segments: Segments) -> None:
    """The part of `check` that concerns labels and other columns."""
    name, label, (low, high) = segments.name, segments.label, segments.label_range
    if label.shape != (len(segments), len(segments.targets)):
        raise ValueError(
            f"{name}: labels must have shape [segments, targets] = [{len(segments)}, {len(segments.targets)}], "
            f"but have {list(label.shape)}; check the label file."
        )
    for what, array in {"fold": segments.fold, "group": segments.group, **segments.marks}.items():
        if len(array) != len(segments):
            raise ValueError(
                f"{name}: {what} must have one entry per segment ({len(segments)}), but has {len(array)}; check the reader."
            )
    labelled = segments.fold != UNLABELED
    bad = np.flatnonzero(labelled & ~np.isfinite(label).all(1))
    if len(bad):
        raise ValueError(
            f"{name}: labels must be finite, but {len(bad)} are not (first: {segments.ids[bad[0]]}); remove these segments, or "
            "declare them unlabeled."
        )
    bad = np.flatnonzero(~labelled & ~np.isnan(label).all(1))
    if len(bad):
        raise ValueError(
            f"{name}: segments of the fold unlabeled must have NaN for a label, so that it cannot be used, but {len(bad)} have one "
            f"(first: {segments.ids[bad[0]]}); set them to NaN, or choose another fold."
        )
    if not -WIDEST <= low < high <= WIDEST:
        raise ValueError(
            f"{name}: label_range must be (low, high) within ±{WIDEST:g} and low < high, but is ({low}, {high}); correct it."
        )
    bad = np.flatnonzero(((label < low) | (label > high)).any(1))
    if len(bad):
        raise ValueError(
            f"{name}: labels must lie in the declared range [{low:g}, {high:g}], but {len(bad)} do not (first: "
            f"{segments.ids[bad[0]]} = {label[bad[0]].tolist()}); correct label_range, or clip the labels knowingly."
        )
    for modality, alone in segments.unimodal.items():
        check_unimodal(segments, modality, alone)


def check_unimodal(segments: Segments, modality: str, alone: np.ndarray) -> None:
    """The part of `check` that concerns the labels by one modality alone, which may be NaN where none is given."""
    name, (low, high) = segments.name, segments.label_range
    known = [*(["language"] if segments.text else []), *segments.modalities]
    if modality not in known:
        raise ValueError(f"{name}: unimodal labels are of {', '.join(known)}, but {modality} has some; rename them.")
    if alone.shape != segments.label.shape:
        raise ValueError(
            f"{name}: unimodal labels of {modality} must have shape [segments, targets] = {list(segments.label.shape)}, but have "
            f"{list(alone.shape)}; check the reader."
        )
    bad = np.flatnonzero(((alone < low) | (alone > high)).any(1) | ((segments.fold == UNLABELED) & ~np.isnan(alone).all(1)))
    if len(bad):
        raise ValueError(
            f"{name}: unimodal labels must lie in the declared range [{low:g}, {high:g}], and be NaN in the fold unlabeled, but "
            f"{len(bad)} of {modality} do not (first: {segments.ids[bad[0]]} = {alone[bad[0]].tolist()}); correct label_range, or "
            "clip the labels knowingly."
        )


def check_feature(name: str, feature: str, ragged: Ragged, n: int) -> None:
    """The part of `check` that concerns the shape of one ragged array."""
    if len(ragged) != n:
        raise ValueError(f"{name}: {feature} must hold one sequence per segment ({n}), but holds {len(ragged)}; check the reader.")
    halves = [word for word in ragged.vocabulary if SURROGATE.search(word)]
    if halves:
        raise ValueError(
            f"{name}: {feature} must be of whole characters, but {halves[0]!r:.80} is not ({len(halves)} such words); decode the "
            "text again."
        )
    offsets = ragged.offsets
    if offsets[0] != 0 or offsets[-1] != len(ragged.values) or (np.diff(offsets) < 0).any():
        raise ValueError(
            f"{name}: {feature}'s offsets must rise from 0 to its number of steps ({len(ragged.values)}), "
            "but do not; the file is damaged, prepare it again."
        )
    if len(ragged.values) == 0:
        raise ValueError(
            f"{name}: {feature} must have a step in at least one segment, but is empty everywhere; leave it out of the data set."
        )


def check_values(name: str, feature: str, ragged: Ragged) -> None:
    """The part of `check` that reads every value of one ragged array."""
    if ragged.tokens:
        low, high = int(ragged.values.min()), int(ragged.values.max())
        if low < 0 or high >= ragged.dim:
            raise ValueError(
                f"{name}: {feature}'s token ids must lie in [0, {ragged.dim - 1}], but reach [{low}, {high}]; "
                "the vocabulary belongs to other data."
            )
        return
    for start in range(0, len(ragged.values), 1 << 16):
        if not np.isfinite(ragged.values[start : start + (1 << 16)]).all():
            raise ValueError(
                f"{name}: {feature} must be finite, but holds NaN or infinite values; clean them first "
                "(preparing a store does, and counts them)."
            )
