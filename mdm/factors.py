"""After the runs, MFM's factors on segments (paper 003, section 3.4 and Figure 9): what F_y and each F_m do to what is generated.

MFM decodes each modality from F_y, which all modalities and the label share, and from its own F_m. Paper 003 reads three things
off a trained model, and each is measured here beside what it would read if nothing were there:

    ratios       Depen(F_y, X̂_m) / Depen(F_m, X̂_m), Eq. 5: how informative a modality is of the label, the paper says. Beside
                 both dependences stands what they are after the segments of one side were permuted
    flow         ‖∂x̂_m^t/∂f_y‖²_F, Eq. 7: large at the words that carry sentiment, the paper says. A decoder reads its factors
                 at the first step only and no word at all, so flow may be a function of t; how much of it is, is measured
    generation   f_y of one segment with f_m of another, or of the prior: labels follow F_y and styles F_m, the paper says

x̂ is what `MFM.decode` gives, for words their probabilities: log probabilities are known but for a constant, and the embedding of
words differs from run to run in scale. A segment as one vector, X̂, is the mean over its real steps, as the paper's supplement F
has it (it prints 1/n for 1/T). For words it is the share of each word that the decoder expects.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from mdm import estimators
from mdm.backbones.layers import masked_mean
from mdm.backbones.mfm import MFM
from mdm.data import lexicon
from mdm.estimators.kernels import centred_gram, constant
from mdm.permutation import a12
from mdm.seeds import derive, generator
from mdm.statistics import mean_interval
from mdm.trained import Trained
from mdm.types import Sequence

Row = dict[str, str | float]
ROWS = 2000
"""Of which kernel matrices are made; they have the square of it."""
NUMBERS = 2**20
"""That a block of generated steps and its derivatives may have."""
LEVEL = 0.05
"""A ratio of debiased dependences is given where its denominator is told from 0 at this level."""

KERNELS: dict[str, tuple[float | None, bool]] = {"literal": (2.0, False), "corrected": (None, True)}
"""s in e^{−‖a−b‖²/s}, None for the median of the squared distances, and whether the estimate is debiased. ``literal``: σ = 1, so
s = 2σ² = 2, whatever the dimension and the scale (supplement F), biased as in Eq. 5."""

SENTIMENT = frozenset(lexicon.ID[word] for kind in lexicon.KINDS[lexicon.SENTIMENT_KIND : lexicon.TOPIC_KIND] for word in kind)
"""Ids of the lexicon's sentiment words."""


@dataclass(frozen=True)
class Inferred:
    """What a run makes of the n segments of a fold.

    label: the first target; lengths: modality → real steps, 0 where a segment lacks it
    parts: f_y, f_<modality>, … as `MFM.decode` reads them
    means: modality → mean of its real steps, of words the share of each
    words: ids of language in `mdm.data.lexicon`, nothing where its words are others
    """

    ids: tuple[str, ...]
    label: Float[np.ndarray, " n"]
    lengths: dict[str, Int[Tensor, " n"]]
    parts: dict[str, Float[Tensor, "n _"]]
    means: dict[str, Float[Tensor, "n _"]]
    words: tuple[tuple[int, ...], ...]


def mfm(trained: Trained) -> MFM:
    """The backbone, which has what is asked for.

    Raises ValueError if it is no MFM, or one of its ablations.
    """
    backbone = trained.backbone
    if not isinstance(backbone, MFM) or any(names != ("y", m) for m, names in backbone.reads.items()) or not backbone.reads:
        raise ValueError(
            f"F_y and a factor of each modality are what MFM decodes from, but {trained.folder} is a run of "
            f"{type(backbone).__name__} with {', '.join(backbone.part_dims) or 'no factors'}; use model=mfm with variant=mfm."
        )
    return backbone


@torch.no_grad()
def inferred(trained: Trained, fold: str) -> Inferred:
    """Factors, lengths and real means of a fold, in evaluation mode."""
    backbone, features = mfm(trained), trained.splits.spec.features
    ids, label, words = list[str](), list[Tensor](), list[tuple[int, ...]]()
    parts, lengths, means = (dict[str, list[Tensor]]() for _ in range(3))
    for batch in trained.batches(fold):
        ids += batch.ids
        label.append(batch.label[:, 0])
        for name, part in backbone(batch).parts.items():
            parts.setdefault(name, []).append(part)
        for m, sequence in batch.sequences.items():
            lengths.setdefault(m, []).append(sequence.lengths)
            means.setdefault(m, []).append(real_means(sequence, features[m].dim))
        language = batch.sequences.get("language")
        if language is not None and tuple(features["language"].vocabulary) == lexicon.VOCABULARY:
            words += [tuple(row[real].tolist()) for row, real in zip(language.values, language.mask, strict=True)]
    each = [{name: torch.cat(tensors) for name, tensors in of.items()} for of in (lengths, parts, means)]
    return Inferred(tuple(ids), torch.cat(label).numpy().astype(np.float64), each[0], each[1], each[2], tuple(words))


def real_means(sequence: Sequence, dim: int) -> Float[Tensor, "batch dim"]:
    """Mean over real steps of frames, or share of each word."""
    if sequence.values.ndim == 3:
        return masked_mean(sequence)
    counts = torch.zeros(len(sequence.values), dim)
    counts.scatter_add_(1, sequence.values, sequence.mask.float())
    return counts / sequence.lengths.clamp(min=1)[:, None]


def generated(
    trained: Trained, modality: str, parts: Mapping[str, Float[Tensor, "n _"]], lengths: Int[Tensor, " n"]
) -> Float[Tensor, "n time dim"]:
    """x̂: frames, or the probability of every word."""
    steps = mfm(trained).decode(modality, parts, lengths)
    return steps.softmax(2) if trained.splits.spec.features[modality].tokens else steps


@torch.no_grad()
def generated_means(
    trained: Trained, modality: str, parts: Mapping[str, Float[Tensor, "n _"]], lengths: Int[Tensor, " n"]
) -> Float[Tensor, "n dim"]:
    """X̂: the mean over each row's own steps, of which there must be one at least."""
    found = []
    size = max(1, NUMBERS // (int(lengths.max()) * trained.splits.spec.features[modality].dim))
    for rows in torch.arange(len(lengths)).split(size):
        steps = generated(trained, modality, {name: part[rows] for name, part in parts.items()}, lengths[rows])
        real = torch.arange(steps.shape[1]) < lengths[rows, None]
        found.append(masked_mean(Sequence(steps, real)))
    return torch.cat(found)


# ---- Figure 9a: dependence


def depen(
    x: Float[Tensor, "n d_x"], y: Float[Tensor, "n d_y"], kernel: str, permutations: int, rng: np.random.Generator
) -> tuple[float, float, float]:
    """HSIC_norm (Eq. 5; `mdm.estimators.hsic`), its mean over permutations of the rows of x, and the p of the permutation test.

    p = (1 + those that reach the value) / (1 + permutations). 0, 0 and 1 where either side is constant.
    """
    scale, unbiased = KERNELS[kernel]
    k, l_ = (normalised_gram(z, scale, unbiased) for z in (x, y))
    value, null = float((k * l_).sum()), list[float]()
    for _ in range(permutations):
        order = torch.from_numpy(rng.permutation(len(k)))
        null.append(float((k[order][:, order] * l_).sum()))
    # A permutation that changes nothing must reach the value, whatever rounding says.
    reached = sum(other >= value - 1e-12 for other in null)
    return value, float(np.mean(null)), (1 + reached) / (1 + permutations)


def normalised_gram(z: Float[Tensor, "n d"], scale: float | None, unbiased: bool) -> Float[Tensor, "n n"]:
    """The centred kernel matrix over its Frobenius norm: HSIC_norm is the product of two. Zeros if rows differ by rounding only."""
    if constant(z):
        return torch.zeros(len(z), len(z), dtype=torch.float64)
    z = z.double()
    s = estimators.median_scale(z) if scale is None else scale
    distances = torch.cdist(z, z).square().fill_diagonal_(0)
    gram = centred_gram(torch.expm1(-distances / s), unbiased)
    return gram / gram.norm()


def ratios(trained: Trained, of: Inferred, permutations: int) -> list[Row]:
    """A row for each modality and kernel, on the segments that have the modality.

    y, own: Depen(F_y, X̂_m) and Depen(F_m, X̂_m); both: Depen(F_y, F_m), which the factorisation wants at 0. With ``_null`` and
        ``_p`` from permutations
    ratio: y / own; for debiased values NaN unless own's p is at most `LEVEL`, as it is anything where own is 0

    Raises ValueError on too few permutations for that level.
    """
    if 1 / (1 + permutations) > LEVEL:
        raise ValueError(
            f"Dependence is told from chance at p <= {LEVEL}, which takes {round(1 / LEVEL) - 1} permutations, but {permutations} "
            "came; set study.permutations."
        )
    rng = np.random.default_rng(derive(int(trained.record["seed"]), "factor permutations"))
    rows: list[Row] = []
    for m in mfm(trained).reads:
        there = torch.nonzero(of.lengths[m] > 0)[:ROWS, 0]
        parts = {name: part[there] for name, part in of.parts.items()}
        made = generated_means(trained, m, parts, of.lengths[m][there])
        f_y, f_m = parts["f_y"], parts[f"f_{m}"]
        for kernel in KERNELS:
            found: dict[str, float] = {}
            for name, (a, b) in {"y": (f_y, made), "own": (f_m, made), "both": (f_y, f_m)}.items():
                found[name], found[f"{name}_null"], found[f"{name}_p"] = depen(a, b, kernel, permutations, rng)
            told = (kernel == "literal" or found["own_p"] <= LEVEL) and found["own"] != 0
            ratio = found["y"] / found["own"] if told else math.nan
            rows.append({"modality": m, "kernel": kernel, **found, "ratio": ratio})
    return rows


# ---- Figure 9b: gradient flow


def flow(decode: Callable[[Tensor], Tensor], f_y: Float[Tensor, "n f"]) -> Float[Tensor, "n time"]:
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


def flows(trained: Trained, of: Inferred, modality: str) -> Float[np.ndarray, "n time"]:
    """`flow` of every segment, NaN behind its last real step."""
    lengths, dim = of.lengths[modality], trained.splits.spec.features[modality].dim
    found = np.full((len(lengths), int(lengths.max())), np.nan)
    order = torch.argsort(lengths)  # rows of like length together: all are decoded to the longest
    order = order[lengths[order] > 0]
    while len(order):
        size = max(1, NUMBERS // (int(lengths[order[-1]]) * dim * of.parts["f_y"].shape[1]))
        rows, order = order[-size:], order[:-size]
        parts, steps = {name: part[rows] for name, part in of.parts.items()}, lengths[rows]

        def decode(f_y: Tensor, parts: Mapping[str, Tensor] = parts, steps: Tensor = steps) -> Tensor:
            return generated(trained, modality, {**parts, "f_y": f_y}, steps)

        made = flow(decode, parts["f_y"])
        for i, n, values in zip(rows.tolist(), steps.tolist(), made.numpy(), strict=True):
            found[i, :n] = values[:n]
    return found


def flow_statistics(trained: Trained, of: Inferred) -> tuple[list[Row], dict[str, Float[np.ndarray, "n time"]]]:
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
    for m in mfm(trained).reads:
        found = all_flows[m] = flows(trained, of, m)
        real = ~np.isnan(found)
        logs = np.log(np.maximum(found, np.finfo(np.float64).tiny))
        share, rest = without_position(logs, real)
        row: Row = {"modality": m, "level": float(found[real].mean()), "position": share}
        scores = {"auc": logs, "auc_rest": rest, "auc_t": np.broadcast_to(np.arange(real.shape[1], dtype=np.float64), real.shape)}
        if m == "language" and known:
            scores["auc_expected"] = expected_sentiment(trained, of)
        hits = sentiment_words(of, real) if known else None
        for name, score in scores.items():
            each = within(score, hits, real) if hits is not None else np.array([np.nan])
            low, high = mean_interval(each) if hits is not None else (np.nan, np.nan)
            row |= {name: float(each.mean()), f"{name}_low": low, f"{name}_high": high}
        rows.append(row)
    return rows, all_flows


def sentiment_words(of: Inferred, real: Bool[np.ndarray, "n time"]) -> Bool[np.ndarray, "n time"]:
    """Whether the word at each step is one of sentiment; steps of other modalities are words', as MFM's data are aligned."""
    found = np.zeros(real.shape, dtype=bool)
    for i, words in enumerate(of.words):
        found[i, : len(words)] = [word in SENTIMENT for word in words][: real.shape[1]]
    return found & real


@torch.no_grad()
def expected_sentiment(trained: Trained, of: Inferred) -> Float[np.ndarray, "n time"]:
    """Probability of any sentiment word at each step, by the decoder of language."""
    there = torch.nonzero(of.lengths["language"] > 0)[:, 0]
    found = np.full((len(of.ids), int(of.lengths["language"].max())), np.nan)
    for rows in there.split(64):
        steps = generated(trained, "language", {name: part[rows] for name, part in of.parts.items()}, of.lengths["language"][rows])
        found[rows.numpy(), : steps.shape[1]] = steps[:, :, sorted(SENTIMENT)].sum(2).numpy()
    return found


def within(
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


def without_position(
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


# ---- conditional generation


def generation(trained: Trained, train: Inferred, of: Inferred, most: int) -> list[Row]:
    """Modalities from f_y of one segment and f_m of another (``styles=segments``) or of the prior (``prior``: G_m(z), z ~ N(0, I)).

    Every donor's f_y with every donor's f_m, all with as many steps as the median segment has, so that lengths tell of no donor.
    What is generated is read by a ridge probe that was fitted on the means of real training segments:

    probe: R² of the probe on the real segments of the fold; what it cannot read there it reads nowhere
    weight_y, weight_own: weights of the donors' labels in a regression of what is read, all standardised; r2: of both. Donors are
        crossed, so weights are correlations
    sentiment_y, sentiment_own, sentiment_both: shares of the variance of what is read that follow the donor of f_y, that of f_m,
        and neither alone (two-way analysis of variance); style_…: the same of all that the probe does not read

    most: donors at most, evenly spaced among the segments that have the modality
    """
    rng = generator(int(trained.record["seed"]), "factor prior")
    backbone, rows = mfm(trained), list[Row]()
    for m in backbone.reads:
        there, fit = torch.nonzero(of.lengths[m] > 0)[:, 0], (train.lengths[m] > 0).numpy()
        donors = min(most, len(there))
        probe = Probe.fitted(train.means[m][fit].numpy(), train.label[fit])
        readable = r_squared(of.label[there.numpy()], probe.read(of.means[m][there].numpy()))
        chosen = there[torch.linspace(0, len(there) - 1, donors).round().long()]
        z = torch.randn(donors, backbone.part_dims[f"z_{m}"], generator=rng)
        with torch.no_grad():
            styles = {"segments": of.parts[f"f_{m}"][chosen], "prior": backbone.factors[m](z)}
        steps = of.lengths[m][there].median().expand(donors**2)
        label = of.label[chosen.numpy()]
        for name, f_m in styles.items():
            parts = {"f_y": of.parts["f_y"][chosen].repeat_interleave(donors, 0), f"f_{m}": f_m.repeat(donors, 1)}
            made = generated_means(trained, m, parts, steps).numpy()
            said, style = probe.read(made), probe.rest(made)
            y, own = (correlation(said, each) for each in (np.repeat(label, donors), np.tile(label, donors)))
            own = own if name == "segments" else math.nan  # the prior has no label
            row: Row = {"modality": m, "styles": name, "probe": readable, "weight_y": y, "weight_own": own}
            row["r2"] = y**2 + (own**2 if name == "segments" else 0.0)
            for what, values in (("sentiment", said[:, None]), ("style", style)):
                shares = variance_shares(values.reshape(donors, donors, -1))
                row |= {f"{what}_{of_}": share for of_, share in zip(("y", "own", "both"), shares, strict=True)}
            rows.append(row)
    return rows


@dataclass(frozen=True)
class Probe:
    """label ≈ w·(x − mean)/scale + offset, a ridge regression whose strength leaving one row out chooses."""

    mean: Float[np.ndarray, " d"]
    scale: Float[np.ndarray, " d"]
    weight: Float[np.ndarray, " d"]
    offset: float

    @staticmethod
    def fitted(x: Float[np.ndarray, "n d"], label: Float[np.ndarray, " n"]) -> Probe:
        from sklearn.linear_model import RidgeCV

        x = x.astype(np.float64)
        mean, spread = x.mean(0), x.std(0)
        scale = np.where(spread > 1e-9, spread, 1.0)
        model = RidgeCV(np.logspace(-2, 5, 15)).fit((x - mean) / scale, label)
        return Probe(mean, scale, model.coef_, float(model.intercept_))

    def standardised(self, x: np.ndarray) -> Float[np.ndarray, "n d"]:
        return (x.astype(np.float64) - self.mean) / self.scale

    def read(self, x: np.ndarray) -> Float[np.ndarray, " n"]:
        return self.standardised(x) @ self.weight + self.offset

    def rest(self, x: np.ndarray) -> Float[np.ndarray, "n d"]:
        """x without the direction that is read."""
        z, length = self.standardised(x), float(self.weight @ self.weight)
        return z - np.outer(z @ self.weight, self.weight) / length if length > 0 else z


def variance_shares(values: Float[np.ndarray, "a b d"]) -> tuple[float, float, float]:
    """Shares of the variance over all pairs of a crossed design, summed over d, that follow the first factor, the second, neither.

    NaN if nothing varies.
    """
    centred = values - values.mean((0, 1))
    first, second = centred.mean(1, keepdims=True), centred.mean(0, keepdims=True)
    total = float((centred**2).mean((0, 1)).sum())
    if total <= 1e-20:
        return math.nan, math.nan, math.nan
    a, b = (float((each**2).mean((0, 1)).sum()) / total for each in (first, second))
    return a, b, 1 - a - b


def correlation(x: Float[np.ndarray, " n"], y: Float[np.ndarray, " n"]) -> float:
    """NaN if either is constant."""
    x, y = x - x.mean(), y - y.mean()
    norm = float(np.sqrt((x**2).sum() * (y**2).sum()))
    return float((x * y).sum()) / norm if norm > 0 else math.nan


def r_squared(truth: Float[np.ndarray, " n"], predicted: Float[np.ndarray, " n"]) -> float:
    return 1 - float(((truth - predicted) ** 2).sum() / ((truth - truth.mean()) ** 2).sum())
