"""Figure 9b: gradient flow through time, and whether it knows the words (Tsai et al., 2019, Eq. 7)."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from mdm.data import lexicon
from mdm.runs.trained import Trained
from mdm.statistics import mean_interval
from mdm.statistics.permutation import a12
from mdm.studies.factors.inference import NUMBERS, Inferred, Row, generate, require_mfm

SENTIMENT = frozenset(lexicon.ID[word] for kind in lexicon.KINDS[lexicon.SENTIMENT_KIND : lexicon.TOPIC_KIND] for word in kind)
"""Ids of the lexicon's sentiment words."""
TINY = float(np.finfo(np.float64).tiny)


def differentiate(decode: Callable[[Tensor], Tensor], f_y: Float[Tensor, "n f"]) -> Float[Tensor, "n time"]:
    """‖∂x̂^t/∂f_y‖²_F of each row and step (Eq. 7), exactly: Σ_k ‖∂x̂^t/∂f_y,k‖², a forward derivative for each coordinate k.

    A sum over the coordinates of x̂^t, as the norm says: a modality with more of them has more, and levels of modalities do not
    compare. The gradient of Σ_j x̂_j^t, one backward pass, is another thing: derivatives of several coordinates cancel in it.

    decode: f_y → x̂ [n, time, dim], each row by itself
    """
    basis = torch.eye(f_y.shape[1])[:, None].expand(-1, len(f_y), -1)

    def squared(direction: Tensor) -> Tensor:
        # Derivatives fall by orders of magnitude along a sequence; their squares leave single precision.
        return torch.func.jvp(decode, (f_y,), (direction,))[1].double().square().sum(2)

    with warnings.catch_warnings():
        # Setting these flags warns of Intel's graphics cards, and decomposing an LSTM of torch's own compiler.
        warnings.filterwarnings("ignore", "TF32|`torch.jit.script` is deprecated")
        with torch.no_grad(), torch.backends.mkldnn.flags(enabled=False):
            return torch.func.vmap(squared)(basis).sum(0)


def differentiate_all(trained: Trained, of: Inferred, modality: str) -> Float[np.ndarray, "n time"]:
    """`differentiate` of every segment, NaN behind its last real step."""
    lengths, dim = of.lengths[modality], trained.splits.spec.features[modality].dim
    found = np.full((len(lengths), int(lengths.max())), np.nan)
    order = torch.argsort(lengths)  # rows of like length together: all are decoded to the longest
    order = order[lengths[order] > 0]
    while len(order):
        size = max(1, NUMBERS // (int(lengths[order[-1]]) * dim * of.parts["f_y"].shape[1]))
        rows, order = order[-size:], order[:-size]
        parts, steps = {name: part[rows] for name, part in of.parts.items()}, lengths[rows]

        def decode(f_y: Tensor, parts: Mapping[str, Tensor] = parts, steps: Tensor = steps) -> Tensor:
            return generate(trained, modality, {**parts, "f_y": f_y}, steps)

        made = differentiate(decode, parts["f_y"])
        for i, n, values in zip(rows.tolist(), steps.tolist(), made.numpy(), strict=True):
            found[i, :n] = values[:n]
    return found


def measure_flow(trained: Trained, of: Inferred) -> tuple[list[Row], dict[str, Float[np.ndarray, "n time"]]]:
    """A row for each modality, and the flows themselves.

    position: share of the variance of log flow within segments that t alone explains
    auc: within a segment, P(flow at a sentiment word > flow at another word), ½ for ties, mean over segments; with the 95 % t
        interval over segments. .5 if flow does not know the words. ``auc_rest``: of what is left of log flow without t;
        ``auc_t``: of t itself; ``auc_expected``: of the probability that the decoder gives to sentiment words at t, for
        language: whether it knows where they are at all. NaN where the words are not those of `mdm.data.lexicon`, or not aligned
    """
    known = bool(of.words)
    rows: list[Row] = []
    all_flows = {}
    for m in require_mfm(trained).reads:
        found = all_flows[m] = differentiate_all(trained, of, m)
        real = ~np.isnan(found)
        logs = np.log(np.maximum(found, TINY))
        share, rest = remove_position(logs, real)
        row: Row = {"modality": m, "level": float(found[real].mean()), "position": share}
        scores = {"auc": logs, "auc_rest": rest, "auc_t": np.broadcast_to(np.arange(real.shape[1], dtype=np.float64), real.shape)}
        if m == "language" and known:
            scores["auc_expected"] = expect_sentiment(trained, of)
        hits = find_sentiment_words(of, real) if known else None
        for name, score in scores.items():
            each = rank_within(score, hits, real) if hits is not None else np.array([np.nan])
            low, high = mean_interval(each) if hits is not None else (np.nan, np.nan)
            row |= {name: float(each.mean()), f"{name}_low": low, f"{name}_high": high}
        rows.append(row)
    columns = dict.fromkeys(name for row in rows for name in row)
    return [{name: row.get(name, np.nan) for name in columns} for row in rows], all_flows


def find_sentiment_words(of: Inferred, real: Bool[np.ndarray, "n time"]) -> Bool[np.ndarray, "n time"]:
    """Whether the word at each step is one of sentiment; steps of other modalities are words', as MFM's data are aligned."""
    found = np.zeros(real.shape, dtype=bool)
    for i, words in enumerate(of.words):
        found[i, : len(words)] = [word in SENTIMENT for word in words][: real.shape[1]]
    return found & real


@torch.no_grad()
def expect_sentiment(trained: Trained, of: Inferred) -> Float[np.ndarray, "n time"]:
    """Probability of any sentiment word at each step, by the decoder of language."""
    feature = trained.splits.spec.features["language"]
    columns = [k for k, word in enumerate(feature.vocabulary[: feature.dim]) if lexicon.ID[word] in SENTIMENT]
    there = torch.nonzero(of.lengths["language"] > 0)[:, 0]
    found = np.full((len(of.ids), int(of.lengths["language"].max())), np.nan)
    for rows in there.split(64):
        steps = generate(trained, "language", {name: part[rows] for name, part in of.parts.items()}, of.lengths["language"][rows])
        found[rows.numpy(), : steps.shape[1]] = steps[:, :, columns].sum(2).numpy()
    return found


def rank_within(
    score: Float[np.ndarray, "n time"], hit: Bool[np.ndarray, "n time"], real: Bool[np.ndarray, "n time"]
) -> Float[np.ndarray, " k"]:
    """AUC with which the score finds hits among a segment's real steps, for every segment that has both kinds.

    Raises ValueError if none has.
    """
    both = np.flatnonzero(hit.any(1) & (real & ~hit).any(1))
    if not len(both):
        raise ValueError(
            "Flow is compared between sentiment words and others within a segment, but no segment has both; use more segments."
        )
    return np.array([a12(score[i, hit[i]], score[i, real[i] & ~hit[i]]) for i in both])


def remove_position(
    values: Float[np.ndarray, "n time"], real: Bool[np.ndarray, "n time"]
) -> tuple[float, Float[np.ndarray, "n time"]]:
    """Share of the variance within segments that t explains, and what t does not explain; NaN where there is no step.

    The least-squares fit of a term for each segment and one for each t. The share is 0 if nothing varies within a segment.
    """
    segment, t = np.nonzero(real)
    counts = np.maximum(real.sum(1), 1)

    def centred(columns: np.ndarray) -> np.ndarray:
        sums = np.zeros((len(values), columns.shape[1]))
        np.add.at(sums, segment, columns)
        return columns - (sums / counts[:, None])[segment]

    y, design = centred(values[real][:, None]), centred(np.eye(values.shape[1])[t])
    left = (y - design @ np.linalg.lstsq(design, y, rcond=None)[0])[:, 0]
    rest = np.full(values.shape, np.nan)
    rest[real] = left
    total = float((y**2).sum())
    return (1 - float((left**2).sum()) / total if total > 0 else 0.0), rest


def pick_steps(
    words: Callable[[int], list[str]], ids: Sequence[str], of: Inferred, flows: Mapping[str, np.ndarray]
) -> list[dict[str, Any]]:
    """Flow in one segment: of those of 8 to 16 steps (of all, if there are none) the first with most words of sentiment.

    words: index of a segment → the word at each of its steps (`mdm.data.splits.Splits.place_words`)

    Chosen by its words alone, so that nothing is known of its flow.
    """
    steps = np.max([lengths.numpy() for lengths in of.lengths.values()], axis=0)
    fitting = np.flatnonzero((steps >= 8) & (steps <= 16))
    fitting = fitting if len(fitting) else np.flatnonzero(steps)
    of_sentiment = [sum(word in SENTIMENT for word in of.words[i]) if of.words else 0 for i in fitting]
    one = int(fitting[int(np.argmax(of_sentiment))])
    text = words(list(ids).index(of.ids[one]))
    rows = []
    for m, flow in flows.items():
        for t in range(int(of.lengths[m][one])):
            rows.append(
                {
                    "id": of.ids[one],
                    "modality": m,
                    "step": t + 1,
                    "word": text[t] if t < len(text) else "",
                    "sentiment": bool(of.words) and t < len(of.words[one]) and of.words[one][t] in SENTIMENT,
                    "flow": float(flow[one, t]),
                    "mean": float(np.exp(np.nanmean(np.log(np.maximum(flow[:, t], TINY))))),
                }
            )
    return rows
