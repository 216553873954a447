"""Stage one, data: segments of MOSI's shapes from a stated generative model, whose dependence is known.

Needs no file. The setting is that of the five papers (one spoken utterance in language l, audio a and
video v, with a sentiment in [-3, 3]); the model is ours. For each segment:

- Shared latents c_m ∈ R^k: each of k coordinates is a trivariate standard Gaussian across modalities with
  correlation ρ. The label does not depend on them: a task loss alone has no reason to keep them. They are
  the planted dependence.
- Polarity b_m = ±1: b_l is uniform; b_a = b_v = b_l, but −b_l with probability q (the segments marked
  ``contradictory``). Valence v_m = b_m r_m, with half-normal magnitudes r_m, independent of all else.
- Tone t_m = ±1, uniform, independent of all else.
- Private latents p_m: standard normal, independent of all else.
- Sentiment y = clip(s, −3, 3), rounded to MOSI's steps of 0.2; s is a sum over valences and products of tones
  (`mdm.data.sentiment`), so that some of it can be read from each modality alone and some only from two or three together.
- A sentence of 2 to 50 words (11 e^{0.6 ε}, rounded and clipped), drawn word by word: sentiment words tell
  v_l, nouns of k + 1 topic axes tell (c_l, t_l), function words nothing (`mdm.data.lexicon.sentences`).
- Frames of audio and video, x_t = D (Q [v_m, c_m, λ t_m, p_m] + e_t), with λ = 5, Q orthogonal, D a scale per feature
  and e an AR(1) process of unit variance; p_m fills the feature's dimension, so D Q is invertible.

The lexicon, Q, D and the word vectors are the population and do not change with the seed; the seed draws the segments.

True total correlation of the latents X_m = (v_m, c_m, t_m, p_m), in nats. The groups of latents are
independent, so it is the sum of theirs:
    shared     −(k/2) [2 log(1 − ρ) + log(1 + 2ρ)]   (`mdm.data.gaussian.total_correlation`)
    polarity   Σ_m H(b_m) − H(b_l, b_a, b_v) = 3 log 2 − (log 2 + h(q)) = 2 log 2 − h(q)
    tone, private    0
with h the binary entropy. v_m ↔ (b_m, r_m) is one to one and magnitudes are independent, so valences have
the total correlation of their signs. Given their lengths, words and frames are made from each X_m apart,
hence hold at most this much (data processing). Lengths depend on one another as well (aligned: they are
equal), and that is not counted.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from mdm.data import lexicon
from mdm.data.base import UNLABELED, Ragged, Segments
from mdm.data.checks import check
from mdm.data.gaussian import folds, stream, total_correlation
from mdm.data.sentiment import LAW, MODALITIES, Law
from mdm.hints import Count, Rows, Share, Width

PERSISTENCE = 0.5
"""AR(1) coefficient of the frames' noise."""
RATE = {"audio": 5, "video": 3}
"""Frames per word where unaligned, on average about."""
LOUDNESS = {"language": 1, "audio": 5, "video": 5}
"""λ_m, the size of a tone among what a modality shows. A voice's tone is plain; which words it is about is not."""
VECTOR_DIM = 300

PURPOSES = (
    *("shared", "polarity", "contradiction", "magnitudes", "sentiment", "lengths", "words", "videos"),
    *(f"{what} {m}" for what in ("private", "frames", "rate", "missing") for m in MODALITIES),
    "tone",
)
"""One generator each, so that for instance ``audio_dim`` moves neither labels, words nor video."""


@dataclass(frozen=True)
class Latents:
    """What each of n segments is made from; modalities in the order language, audio, video."""

    contradictory: Bool[np.ndarray, " n"]
    valence: Float[np.ndarray, "n 3"]
    tone: Float[np.ndarray, "n 3"]
    shared: Float[np.ndarray, "3 n k"]
    private: dict[str, Float[np.ndarray, "n _"]]

    def of(self, modality: str) -> Float[np.ndarray, "n dim"]:
        """[v_m, c_m, λ_m t_m, p_m] of one modality."""
        m = MODALITIES.index(modality)
        tone = LOUDNESS[modality] * self.tone[:, m : m + 1]
        return np.concatenate([self.valence[:, m : m + 1], self.shared[m], tone, self.private[modality]], axis=1)


def synthetic(
    train: Rows = 1284,
    valid: Rows = 229,
    test: Rows = 686,
    audio_dim: Width = 5,
    video_dim: Width = 20,
    shared_dim: Width = 3,
    rho: float = 0.8,
    contradiction: Share = LAW.contradiction,
    accord: float = LAW.accord,
    turn: float = LAW.turn,
    irony: float = LAW.irony,
    aligned: bool = True,
    missing: Mapping[str, Share] | None = None,
    vectors: bool = False,
    unlabeled: Count = 0,
    seed: Count = 0,
) -> Segments:
    """Segments from the model above, in folds of MOSI's sizes that share no video.

    accord, turn, irony: weights in the sentiment of what no single modality tells; all 0 leave a sum over modalities
    aligned: one frame per word; else about 5 audio and 3 video frames per word, lengths random
    missing: modality → probability that a segment lacks it, drawn independently (a segment may lack all)
    unlabeled: further segments of the same law whose labels are withheld. Another number draws all inputs anew: to compare amounts,
        keep it and vary how many join a batch (data.unlabeled)
    vectors: also give the text as ``vectors``, a fixed random 300-d vector for each word (32 MB by default)

    ``truth``: in nats, ``total_correlation`` and its parts, ``total_correlation_shared`` and ``total_correlation_polarity``; and
    the shares of Var s, before s is clipped: ``share_additive``, ``share_pairwise``, ``share_three_way`` and ``share_noise``. Ids
    are ``video[k]``, the groups are the videos (14 to 24 segments each, fewer where a fold begins or ends). ``rho`` moves neither
    words nor labels, only audio and video.

    Raises ValueError if a fold is empty, a dimension too small (audio and video need 2 + shared_dim) or
    shared_dim too large for the lexicon, rho outside (−1/2, 1), contradiction outside [0, 1], the seed
    negative, or a key of ``missing`` unknown or its probability outside [0, 1).

    >>> segments = synthetic(train=16, valid=4, test=4)
    >>> len(segments), sorted(segments.modalities), sorted(segments.text)
    (24, ['audio', 'video'], ['words'])
    """
    if unlabeled < 0:
        raise ValueError(f"unlabeled counts segments, so it is at least 0, but is {unlabeled}; set data.segments.unlabeled.")
    fold = np.concatenate([folds(train, valid, test), np.repeat([UNLABELED], unlabeled)])
    n = len(fold)
    absent = missing_segments(n, missing or {}, seed)
    law = Law(contradiction, accord, turn, irony)
    truth = true_total_correlation(shared_dim, rho, contradiction) | {f"share_{part}": x for part, x in law.shares.items()}
    z = latents(n, audio_dim, video_dim, shared_dim, rho, contradiction, seed)

    words = np.clip(np.rint(11 * np.exp(0.6 * draw(seed, "lengths").standard_normal(n))), 2, 50).astype(np.int64)
    ids = lexicon.sentences(z.valence[:, 0], z.of("language")[:, 1:], words, draw(seed, "words"))
    text = {"words": Ragged(ids, offsets(words), lexicon.VOCABULARY)}
    if vectors:
        table = np.random.default_rng(0).standard_normal((len(lexicon.VOCABULARY), VECTOR_DIM), dtype=np.float32)
        text["vectors"] = Ragged(table[ids], offsets(words))
    modalities = {}
    for m in MODALITIES[1:]:
        spread = np.exp(0.1 * draw(seed, f"rate {m}").standard_normal(n))
        lengths = words if aligned else np.maximum(1, np.rint(RATE[m] * spread * words)).astype(np.int64)
        modalities[m] = Ragged(frames(z.of(m), lengths, m, draw(seed, f"frames {m}")), offsets(lengths))

    videos = video_names(fold, draw(seed, "videos"))
    s = law.express(z.valence, z.tone, draw(seed, "sentiment").standard_normal(n))
    label = (np.rint(5 * np.clip(s, -3, 3)) / 5)[:, None].astype(np.float32)
    label[fold == UNLABELED] = np.nan
    first = np.maximum.accumulate(np.where(np.r_[True, videos[1:] != videos[:-1]], np.arange(n), 0))
    return check(
        Segments(
            name="synthetic",
            ids=tuple(f"{video}[{k}]" for video, k in zip(videos, np.arange(n) - first, strict=True)),
            fold=fold,
            group=videos,
            label=label,
            targets=("sentiment",),
            label_range=(-3.0, 3.0),
            modalities={m: drop_absent(ragged, absent[m]) for m, ragged in modalities.items()},
            text={kind: drop_absent(ragged, absent["language"]) for kind, ragged in text.items()},
            aligned=(*text, *modalities) if aligned else (),
            marks={"contradictory": z.contradictory},
            truth=truth,
            source={
                "synthetic": True,
                "train": train,
                "valid": valid,
                "test": test,
                "audio_dim": audio_dim,
                "video_dim": video_dim,
                "shared_dim": shared_dim,
                "rho": rho,
                "contradiction": contradiction,
                "accord": accord,
                "turn": turn,
                "irony": irony,
                "aligned": aligned,
                "missing": dict(missing or {}),
                "vectors": vectors,
                "unlabeled": unlabeled,
                "seed": seed,
            },
        )
    )


def true_total_correlation(shared_dim: int, rho: float, contradiction: float) -> dict[str, float]:
    """The total correlation of the latents and its two parts, in nats (equations above).

    Raises ValueError if contradiction is no probability, or where `total_correlation` does.
    """
    if not 0 <= contradiction <= 1:
        raise ValueError(f"contradiction must be a probability in [0, 1], but {contradiction} came; choose it inside.")
    shared = total_correlation(rho, shared_dim, len(MODALITIES))
    polarity = 2 * math.log(2) + sum(p * math.log(p) for p in (contradiction, 1 - contradiction) if p > 0)
    return {
        "total_correlation": shared + polarity,
        "total_correlation_shared": shared,
        "total_correlation_polarity": polarity,
    }


def latents(
    n: int,
    audio_dim: int = 5,
    video_dim: int = 20,
    shared_dim: int = 3,
    rho: float = 0.8,
    contradiction: float = 0.15,
    seed: int = 0,
) -> Latents:
    """The latents that `synthetic` draws for n segments with the same arguments; raises ValueError as it does."""
    true_total_correlation(shared_dim, rho, contradiction)
    if shared_dim >= lexicon.AXES:
        raise ValueError(
            f"The lexicon has {lexicon.AXES} topic axes, one of them private, so shared_dim can be at most "
            f"{lexicon.AXES - 1}, but {shared_dim} came; lower it."
        )
    dims = {"language": 2 + shared_dim, "audio": audio_dim, "video": video_dim}
    for m, dim in dims.items():
        if dim < 2 + shared_dim:
            raise ValueError(
                f"A frame carries a valence, a tone and {shared_dim} shared latents, so {m}_dim must be at least {2 + shared_dim}, "
                f"but {dim} came; raise it or lower shared_dim."
            )
    # A triangular factor: language is its first coordinate alone, whatever rho is.
    factor = np.linalg.cholesky((1 - rho) * np.eye(3) + rho)
    contradictory = draw(seed, "contradiction").random(n) < contradiction
    sign = np.repeat(draw(seed, "polarity").choice([-1.0, 1.0], (n, 1)), 3, axis=1)
    sign[contradictory, 1:] *= -1
    return Latents(
        contradictory=contradictory,
        valence=sign * np.abs(draw(seed, "magnitudes").standard_normal((n, 3))),
        shared=np.einsum("mj,jnk->mnk", factor, draw(seed, "shared").standard_normal((3, n, shared_dim))),
        tone=draw(seed, "tone").choice([-1.0, 1.0], (n, 3)),
        private={m: draw(seed, f"private {m}").standard_normal((n, dim - 2 - shared_dim)) for m, dim in dims.items()},
    )


def frames(
    z: Float[np.ndarray, "n dim"], lengths: Int[np.ndarray, " n"], modality: str, rng: np.random.Generator
) -> Float[np.ndarray, "steps dim"]:
    """The frames x_t = D (Q z + e_t) of all segments, end to end."""
    start = offsets(lengths)[:-1]
    noise = rng.standard_normal((int(lengths.sum()), z.shape[1]))
    for t in range(1, int(lengths.max())):
        now = start[lengths > t] + t
        noise[now] = PERSISTENCE * noise[now - 1] + math.sqrt(1 - PERSISTENCE**2) * noise[now]
    orthogonal, scale = mixing(modality, z.shape[1])
    return (scale * (np.repeat(z @ orthogonal.T, lengths, axis=0) + noise)).astype(np.float32)


def mixing(modality: str, dim: int) -> tuple[Float[np.ndarray, "dim dim"], Float[np.ndarray, " dim"]]:
    """Q and the diagonal of D: audio's features differ in scale by up to a thousand, as pitch and jitter do."""
    orthogonal = np.linalg.qr(np.random.default_rng([MODALITIES.index(modality), dim]).standard_normal((dim, dim)))[0]
    return orthogonal, np.geomspace(0.1, 100, dim) if modality == "audio" else np.ones(dim)


def missing_segments(n: int, missing: Mapping[str, float], seed: int) -> dict[str, Bool[np.ndarray, " n"]]:
    """Which segments lack each modality."""
    for m, probability in missing.items():
        if m not in MODALITIES:
            raise ValueError(f"missing must name modalities among {', '.join(MODALITIES)}, but names {m!r}; rename it.")
        if not 0 <= probability < 1:
            raise ValueError(
                f"missing must give probabilities in [0, 1), but {m}={probability} came; "
                "choose it inside (to do without a modality, leave it out of the run)."
            )
    return {m: draw(seed, f"missing {m}").random(n) < missing.get(m, 0.0) for m in MODALITIES}


def drop_absent(ragged: Ragged, absent: Bool[np.ndarray, " n"]) -> Ragged:
    """The same sequences, those of absent segments empty."""
    values = ragged.values[np.repeat(~absent, ragged.lengths)]
    return Ragged(values, offsets(np.where(absent, 0, ragged.lengths)), ragged.vocabulary)


def video_names(fold: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The video of each segment: consecutive runs of 14 to 24 segments, cut where a fold ends."""
    size = rng.integers(14, 25, size=len(fold) // 14 + 1)
    run = np.repeat(np.arange(len(size)), size)[: len(fold)]
    new = np.r_[False, (run[1:] != run[:-1]) | (fold[1:] != fold[:-1])]
    return np.array([f"video{v:03d}" for v in np.cumsum(new)])


def offsets(lengths: Int[np.ndarray, " n"]) -> Int[np.ndarray, " n_plus_1"]:
    return np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)


def draw(seed: int, purpose: str) -> np.random.Generator:
    """The generator of one purpose."""
    return stream(seed, PURPOSES.index(purpose))
