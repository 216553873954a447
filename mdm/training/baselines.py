"""Before the learner: predictors without training loop or fusion, the floor that every table should show.

Constants and random draws say what the labels alone give; regressors of scikit-learn on features averaged over time say what is
left for a fusion model to add.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float

from mdm.backbones.layers import masked_mean
from mdm.hints import require_option
from mdm.metrics import evaluate
from mdm.seeds import derive
from mdm.training.curve import name_metric
from mdm.types import Batch, DataSpec, Sequence

Kind = Literal["mean", "median", "majority", "stratified", "ridge", "svr", "forest"]
GRIDS: dict[Kind, tuple[dict[str, Any], ...]] = {
    "mean": ({},),
    "median": ({},),
    "majority": ({},),
    "stratified": ({},),
    "ridge": tuple({"alpha": 10.0**k} for k in range(-2, 4)),
    "svr": tuple({"C": 10.0**k} for k in range(-2, 3)),
    "forest": ({"n_estimators": 100}, {"n_estimators": 500}),
}
"""kind → the settings among which validation chooses."""


class Baseline:
    """A predictor that is fitted once for each setting of its grid.

    kind: ``mean`` and ``median`` of the training labels; ``majority``, the whole number that most training labels round to;
        ``stratified``, a training label drawn at random for each segment, which is what the row "Majority" of Tsai et al. (2019)
        must be (a constant has no correlation, and that row has one); ``ridge``, ``svr`` (RBF) and ``forest`` on pooled features:
        words as TF-IDF, vectors as their standardised mean over real steps
    seed: of the draws

    Raises ValueError on another kind.

    >>> from mdm.data.splits import Splits
    >>> from mdm.data.synthetic import synthetic
    >>> splits = Splits(synthetic(train=16, valid=4, test=4), batch_size=8)
    >>> mean = Baseline(splits.spec, "mean")
    >>> len(mean.fit(splits.in_order("train"), splits.valid()))
    1
    >>> prediction, label = mean.predict(0, splits.valid())
    >>> bool(np.allclose(prediction, splits.spec.label_mean))
    True
    """

    def __init__(self, spec: DataSpec, kind: Kind = "ridge", seed: int = 0):
        require_option("kind", kind, Kind)
        self.spec, self.kind, self.seed = spec, kind, seed
        self.candidates: list[Any] = []

    def fit(self, train: Iterable[Batch], valid: Iterable[Batch]) -> list[dict[str, float]]:
        """Fit every setting; one row for each with its metrics on the validation fold, as a curve of epochs would have them."""
        features, label = self._pool(train)
        held_out, held_out_label = self._pool(valid)
        curve = []
        for k, setting in enumerate(GRIDS[self.kind]):
            self.candidates.append(self._fitted(setting, features, label))
            prediction = self.candidates[-1].predict(held_out).reshape(held_out_label.shape)
            metrics = evaluate(prediction, held_out_label, self.spec.label_range, self.spec.targets)
            curve.append({"epoch": float(k), **setting, **{name_metric(name): value for name, value in metrics.items()}})
        return curve

    def predict(self, candidate: int, batches: Iterable[Batch]) -> tuple[np.ndarray, np.ndarray]:
        """Predictions of one setting and labels, [n, targets] each."""
        features, label = self._pool(batches)
        return self.candidates[candidate].predict(features).reshape(label.shape), label

    def settings(self, candidate: int) -> dict[str, Any]:
        """What the predictor of one setting is made from, beside the training fold: fitted to that again, it is the same."""
        return {"kind": self.kind, "seed": self.seed, "epoch": candidate, "setting": GRIDS[self.kind][candidate]}

    def _fitted(self, setting: dict[str, Any], features: np.ndarray, label: np.ndarray) -> Any:
        if self.kind in ("mean", "median", "majority", "stratified"):
            return Labels(label, self.kind, derive(self.seed, "stratified"))
        from sklearn.compose import ColumnTransformer
        from sklearn.ensemble import RandomForestRegressor
        from sklearn.feature_extraction.text import TfidfTransformer
        from sklearn.linear_model import Ridge
        from sklearn.multioutput import MultiOutputRegressor
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler
        from sklearn.svm import SVR

        blocks, start = [], 0
        for m, feature in self.spec.features.items():
            scaler = TfidfTransformer(sublinear_tf=True) if feature.tokens else StandardScaler()
            blocks.append((m, scaler, slice(start, start + feature.dim)))
            start += feature.dim
        regressors = {
            "ridge": lambda: Ridge(**setting),
            "svr": lambda: MultiOutputRegressor(SVR(**setting)),
            "forest": lambda: MultiOutputRegressor(
                RandomForestRegressor(**setting, random_state=derive(self.seed, "forest") % 2**32)
            ),
        }
        return make_pipeline(ColumnTransformer(blocks), regressors[self.kind]()).fit(features, label)

    def _pool(self, batches: Iterable[Batch]) -> tuple[Float[np.ndarray, "n d"], Float[np.ndarray, "n targets"]]:
        """Every segment as one vector: counts of words, means of vectors."""
        rows, labels = [], []
        for batch in batches:
            parts = []
            for m, feature in self.spec.features.items():
                s = batch.sequences[m]
                if feature.tokens:
                    # Words that the training fold lacks are left out: their inverse document frequency would be the largest of all.
                    counts = torch.zeros(len(batch), feature.dim + feature.others).scatter_add_(1, s.values, s.mask.float())
                    parts.append(counts[:, : feature.dim])
                else:
                    parts.append(masked_mean(Sequence(s.values, s.mask)))
            rows.append(torch.cat(parts, dim=1).numpy())
            labels.append(batch.label.numpy())
        return np.concatenate(rows), np.concatenate(labels)


class Labels:
    """A predictor that knows the training labels only."""

    def __init__(self, label: Float[np.ndarray, "n targets"], kind: Kind, seed: int):
        self.label, self.kind, self.seed = label, kind, seed

    def predict(self, features: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "n targets"]:
        n = len(features)
        if self.kind == "stratified":
            return self.label[np.random.default_rng(self.seed).integers(len(self.label), size=n)]
        summaries: dict[str, Callable[[np.ndarray], float]] = {"mean": np.mean, "median": np.median, "majority": most_frequent}
        return np.tile(np.array([summaries[self.kind](column) for column in self.label.T], dtype=np.float32), (n, 1))


def most_frequent(label: Float[np.ndarray, " n"]) -> float:
    """The whole number that most labels round to (half to even, as the metrics round); the smaller one on a tie."""
    values, counts = np.unique(np.rint(label), return_counts=True)
    return float(values[counts.argmax()])
