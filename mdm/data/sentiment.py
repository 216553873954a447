"""Stage one, data: what the latents of a synthetic segment say of its sentiment, and how much takes which modalities together.

With valences v_m, tones t_m = ±1 (`mdm.data.synthetic`) and a standard normal ε,

    s = w · v + u · t + accord t_a t_v + turn t_l t_a + irony t_l t_a t_v + σ ε

Voice and face raise the sentiment where they agree in tone, and lower it where they contradict one another (accord). A word of
tone counts u_l + turn t_a + irony t_a t_v: alone it hardly tells, the voice turns its sign (turn), and the face turns it again
(irony).

Functional ANOVA under this law. Let q be the share of contradictory segments. The signs b_m of the valences have correlation 1
between audio and video, and 1 − 2q with language; call this matrix R. With μ = E|v_m| = √(2/π) the valences have the covariance
C = μ² R + (1 − μ²) I. Tones are uniform, and independent of one another and of all else. So given any one modality each product of
tones has mean 0: it is orthogonal to every sum of functions of single modalities, linear or not. Given any two modalities
t_l t_a t_v has mean 0 too. Valences depend on one another, but enter as a sum. Hence the best approximation of s by functions of
one modality each, that by functions of two each, and s − σ ε itself differ in steps of variance

    additive wᵀ C w + |u|²,    pairwise accord² + turn²,    three-way irony²,    and the noise has σ².

Without some modalities the best prediction of s is E[s | X_S], S those that are seen. Of a valence that is not seen they know a
sign: E[v_j | X_S] = μ R_jk b_k, with k audio or video where S has one of them (their signs are equal, and language adds nothing to
what they say of each other), else language. So with h = μ Σ_{j ∉ S} w_j R_jk

    Var E[s | X_S] = w_Sᵀ C_SS w_S + h² + 2 h μ Σ_{j ∈ S} w_j R_jk + the squared weights of those tones and products that S has.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

MODALITIES = ("language", "audio", "video")
WEIGHTS, TONES, NOISE = (0.4, 0.2, 0.1), (0.2, 0.7, 0.7), 0.4
"""w and u of the synthetic data set, and σ."""
MEAN = math.sqrt(2 / math.pi)
"""μ, of a half-normal magnitude."""


@dataclass(frozen=True)
class Law:
    """One sentiment.

    contradiction: q
    accord, turn, irony: weights of t_a t_v, t_l t_a and t_l t_a t_v
    weights, tones: w and u, of language, audio and video

        >>> law = Law(contradiction=0.15, accord=1.05, turn=0.3, irony=0.3)
        >>> {part: round(share, 3) for part, share in law.shares.items()}
        {'additive': 0.486, 'pairwise': 0.425, 'three_way': 0.032, 'noise': 0.057}
        >>> round(law.explain({"audio", "video"}) / law.variance, 3)
        0.825
    """

    contradiction: float
    accord: float
    turn: float
    irony: float
    weights: tuple[float, ...] = WEIGHTS
    tones: tuple[float, ...] = TONES

    def express(
        self, valence: Float[np.ndarray, "n 3"], tone: Float[np.ndarray, "n 3"], noise: Float[np.ndarray, " n"]
    ) -> Float[np.ndarray, " n"]:
        """s of n segments."""
        return (
            valence @ np.array(self.weights)
            + tone @ np.array(self.tones)
            + self.accord * tone[:, 1] * tone[:, 2]
            + self.turn * tone[:, 0] * tone[:, 1]
            + self.irony * tone.prod(axis=1)
            + NOISE * noise
        )

    @property
    def signs(self) -> Float[np.ndarray, "3 3"]:
        """R."""
        r = 1 - 2 * self.contradiction
        return np.array([[1, r, r], [r, 1, 1], [r, 1, 1]], dtype=float)

    @property
    def covariance(self) -> Float[np.ndarray, "3 3"]:
        """C."""
        return MEAN**2 * self.signs + (1 - MEAN**2) * np.eye(3)

    @property
    def parts(self) -> dict[str, float]:
        """The variance of s in its four parts."""
        w, u = np.array(self.weights), np.array(self.tones)
        return {
            "additive": float(w @ self.covariance @ w + u @ u),
            "pairwise": self.accord**2 + self.turn**2,
            "three_way": self.irony**2,
            "noise": NOISE**2,
        }

    @property
    def variance(self) -> float:
        """Var s."""
        return sum(self.parts.values())

    @property
    def shares(self) -> dict[str, float]:
        """The parts of the variance, which add up to 1."""
        return {name: part / self.variance for name, part in self.parts.items()}

    @property
    def losses(self) -> dict[str, float]:
        """Modality → the share of Var s that only predictors which see it explain: Var E[s | X] − Var E[s | X without it]."""
        whole = self.explain(MODALITIES)
        return {m: (whole - self.explain([o for o in MODALITIES if o != m])) / self.variance for m in MODALITIES}

    def explain(self, seen: Collection[str]) -> float:
        """Var E[s | X_S], the variance that the best predictor from these modalities explains.

        Raises ValueError on another name.
        """
        if not set(seen) <= set(MODALITIES):
            raise ValueError(f"seen must name modalities among {', '.join(MODALITIES)}, but {', '.join(seen)} came; rename them.")
        if not seen:
            return 0.0
        here = np.array([m in seen for m in MODALITIES])
        w, of_sign = np.array(self.weights), MEAN * self.signs[np.flatnonzero(here)[-1]]
        hidden = w[~here] @ of_sign[~here]
        valences = w[here] @ self.covariance[np.ix_(here, here)] @ w[here] + hidden**2 + 2 * hidden * (w[here] @ of_sign[here])
        language, audio, video = here
        tones = (np.array(self.tones)[here] ** 2).sum()
        products = (audio and video) * self.accord**2 + (language and audio) * self.turn**2 + here.all() * self.irony**2
        return float(valences + tones + products)


LAW = Law(contradiction=0.15, accord=1.05, turn=0.3, irony=0.3)
"""That of the synthetic data set, unless told otherwise."""
