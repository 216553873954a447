"""What a run's networks say of single segments, and whether that is so.

Colombo et al. (2021, Section 5.4, Tables 3 and 5) read its critic: T_θ is said to be low where the modalities of a segment
contradict one another. Han et al. (2021, Section 5.2, Table 5) read its contrastive heads: the score s_zm is said to tell how much
Z depends on modality m. Both come as examples that the authors picked. Here every segment gets its numbers. The first claim is
measured where data are drawn from a law that knows the contradictory segments, the second by what a prediction does without its
modality.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from mdm import types
from mdm.backbones.base import Backbone
from mdm.backbones.mmim import MMIM
from mdm.data.base import Segments
from mdm.data.splits import Others, Splits
from mdm.data.synthetic import latents, synthetic
from mdm.penalties.base import View
from mdm.penalties.dependency import Dependency
from mdm.runs.trained import Trained
from mdm.studies._base import Rows
from mdm.studies.estimation.closed_forms import log_ratio
from mdm.training.predict import to_numpy
from mdm.training.product import batch_lengths, move

MARK = "contradictory"
"""The mark of segments whose words and behaviour disagree."""

SWAPS = 8
"""Partners that take a modality's place, to see how far the prediction moves."""

# ---- segments


def explain(trained: Trained, segments: Segments | None = None) -> Rows:
    """A row for each test segment of a finished run, in order.

    segments: new ones to read instead, all of them in their fold ``test``

    Columns: id, words (empty where the data have none), label and prediction (``label_<target>`` where there are several); T, or
    ``T_<penalty>`` where several have a critic, see `Dependency.score`; ``s_<modality>`` and ``s_<modality>_other``, see
    `score_contrastively`, with ``moved_<modality>``, see `measure_moves`; ``energy_<modality>``, see `measure_energy`; the marks
    of the data; and what is known of synthetic segments: ``agreement`` and ``best_T``, see `recall_latents`.

    Raises ValueError if the run has neither a critic nor contrastive heads.
    """
    critics = {name: p for name, p in trained.learner.penalties.items() if isinstance(p, Dependency)}
    heads = isinstance(trained.backbone, MMIM) and len(trained.backbone.cpc) > 0
    if not critics and not heads:
        raise ValueError(
            f"A segment is explained by the critic of a dependency penalty, or by MMIM's contrastive heads, but {trained.folder} "
            "has neither; choose runs with penalty=kl, f or wasserstein (penalty.measure_only=true leaves the model alone), or "
            "model=mmim."
        )
    others = None if segments is None else trained.splits.like(segments)
    columns: dict[str, list[np.ndarray]] = {}
    for batch in trained.batches("test") if others is None else others.in_order("test"):
        for name, values in explain_batch(trained.backbone, critics, batch).items():
            columns.setdefault(name, []).append(values)
    found = {name: np.concatenate(parts) for name, parts in columns.items()}
    return lay_out(trained.data, trained.splits, found) if others is None else lay_out(others.segments, others, found)


@torch.no_grad()
def explain_batch(
    backbone: Backbone, critics: Mapping[str, Dependency], batch: types.Batch
) -> dict[str, Float[np.ndarray, "n *k"]]:
    """The columns that come from a model, for one batch; in evaluation mode."""
    encoded = backbone.encode(batch)
    fusion = backbone.fuse(encoded)
    found = {"label": batch.label, "prediction": fusion.prediction}
    view = View(fusion, None, batch.label)
    for name, critic in critics.items():
        found["T" if len(critics) == 1 else f"T_{name}"] = critic.score(view)
    if isinstance(backbone, MMIM):
        found |= score_contrastively(backbone, batch, fusion)
        if backbone.cpc:
            found |= {f"moved_{m}": measure_moves(backbone, encoded, batch, m) for m in batch.sequences}
    found |= {f"energy_{m}": measure_energy(s) for m, s in batch.sequences.items() if s.values.ndim == 3}
    return {name: to_numpy(values) for name, values in found.items()}


def lay_out(segments: Segments, splits: Splits | Others, found: Mapping[str, np.ndarray]) -> Rows:
    """Columns of the test fold as rows, with what the data say of each segment."""
    described, targets = splits.describe("test"), splits.spec.targets
    place = {name: i for i, name in enumerate(segments.ids)}
    rows = [place[name] for name in described["id"]]
    columns: dict[str, list[Any]] = {"id": described.pop("id"), "words": [segments.words(i) for i in rows]}
    described.pop("group")
    for name in ("label", "prediction"):
        for k, target in enumerate(targets):
            columns[name if len(targets) == 1 else f"{name}_{target}"] = found[name][:, k].tolist()
    columns |= {name: values.tolist() for name, values in found.items() if name not in ("label", "prediction")}
    columns |= described
    columns |= {name: values[rows].tolist() for name, values in recall_latents(segments).items()}
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]


def measure_energy(sequence: types.Sequence) -> Float[Tensor, " n"]:
    """Mean square of a modality's frames, over real steps and features, as the model reads them; NaN without a step.

    With data.scale=standard 1 is the energy of the training fold's frames. It belongs to the segment, not to the model, as what
    Colombo et al. (2021) say beside its examples does ("low energy monotonous voice"). Words have none: they are there to be read.
    """
    squares = sequence.values.float().square().mean(2) * sequence.mask
    return squares.sum(1) / sequence.lengths.where(sequence.lengths > 0, torch.nan)


# ---- MMIM's scores (Han et al., 2021)


def score_contrastively(backbone: MMIM, batch: types.Batch, fusion: types.Fusion) -> dict[str, Float[Tensor, " n"]]:
    """``s_m`` = cos(G_m(Z_i), h_m,i), and ``s_m_other``, the mean of cos(G_m(Z_i), h_m,j) over the batch's other segments j.

    Han et al. (2021) define a score as e^cos (Eq. 10), which begins at 0.37 and ends at 2.72, but prints 0.36 to 0.96: these are
    cosines. The second number is what a Z scores that knows nothing of its own segment; only what exceeds it tells of dependence.
    NaN where a segment lacks the modality.
    """
    found = {}
    for m, predict in backbone.cpc.items():
        there = batch.sequences[m].mask.any(1)
        cosines = F.normalize(predict(fusion.z), dim=1) @ F.normalize(fusion.unimodal[m], dim=1).T
        own = cosines.diagonal()
        others = (cosines[:, there].sum(1) - own * there) / (there.sum() - there.long()).where(
            there.sum() > there.long(), torch.nan
        )
        found[f"s_{m}"] = own.where(there, torch.nan)
        found[f"s_{m}_other"] = others.where(there, torch.nan)
    return found


def measure_moves(backbone: Backbone, encoded: types.Encoded, batch: types.Batch, modality: str) -> Float[Tensor, " n"]:
    """Mean |change of the prediction| when another segment's modality takes the place of a segment's own.

    Over `SWAPS` other segments of the batch, or as many as there are, at cyclic offsets that divide it evenly; over targets.
    Sequences are stretched to the length of their new place. It is what "how much the fusion results depend on each modality"
    (Han et al., 2021, Section 5.2) means for the prediction. NaN in a batch of one.
    """
    n = len(batch)
    lengths = batch_lengths(batch)[list(batch.sequences).index(modality)]
    before, changes = backbone.fuse(encoded).prediction, []
    for offset in sorted({1 + k * (n - 1) // SWAPS for k in range(SWAPS)}) if n > 1 else ():
        swapped = {key: move(part, np.roll(np.arange(n), offset), lengths) for key, part in encoded[modality].items()}
        changes.append((backbone.fuse({**encoded, modality: swapped}).prediction - before).abs().mean(1))
    return torch.stack(changes).mean(0) if changes else torch.full((n,), torch.nan)


# ---- what is known of synthetic segments


def recall_latents(segments: Segments) -> dict[str, Float[np.ndarray, " n"]]:
    """Of segments drawn by `mdm.data.synthetic`, or a stand-in of them; nothing of others.

    agreement: v_l (v_a + v_v)/2 of their valences: negative exactly where they are marked contradictory, and large where all
        modalities say strongly the same
    best_T: log p/q of their latents, the best of all critics (`log_ratio` for the shared ones; for polarity log 4(1 − q),
        or log 4q of a contradictory segment). Its mean is the total correlation. It falls where modalities
        contradict, and with everything else that they share: so even it finds contradictions only so well
    """
    source = segments.source
    arguments = ("audio_dim", "video_dim", "shared_dim", "rho", "contradiction", "seed")
    if not source.get("synthetic") or MARK not in segments.marks or not set(arguments) <= set(source):
        return {}
    z, q = latents(len(segments), **{name: source[name] for name in arguments}), source["contradiction"]
    shared = torch.from_numpy(z.shared.transpose(1, 0, 2).reshape(len(segments), -1))
    ratio = to_double(log_ratio(shared, source["rho"], source["shared_dim"], 3))
    return {
        "agreement": z.valence[:, 0] * z.valence[:, 1:].mean(1),
        "best_T": ratio + np.log(4 * np.where(z.contradictory, q, 1 - q)),
    }


def to_double(tensor: Tensor) -> Float[np.ndarray, " n"]:
    return tensor.detach().double().numpy()


def draw_again(segments: Segments, n: int) -> Segments | None:
    """n new segments of the same population, all in the fold test; None where the population cannot be drawn from.

    The 686 segments of a test fold of MOSI's size leave ±0.06 of an AUC to chance, which is the same for all seeds of a run.
    """
    arguments = {name: value for name, value in segments.source.items() if name != "synthetic"}
    if segments.name != "synthetic" or not segments.source.get("synthetic"):
        return None
    return synthetic(**{**arguments, "train": 1, "valid": 1, "test": n, "unlabeled": 0, "seed": arguments["seed"] + 10_000})
