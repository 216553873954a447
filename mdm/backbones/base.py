"""Stage two, backbone: what every fusion model must offer.

A backbone works in steps, so that samples of the product of the marginals cost no more than they must:
``encode`` (each modality alone), ``fuse`` (from there to Z and the prediction) and ``own_terms`` (losses
of the model's own paper).
"""

from __future__ import annotations

from abc import ABC, abstractmethod

from jaxtyping import Float
from torch import Tensor, nn

from mdm.types import Batch, DataSpec, Encoded, Fusion


class Backbone(nn.Module, ABC):
    """A fusion model: batch → Z and a prediction.

    Attributes that a concrete class sets: ``z_dim``, the width of Z; ``unimodal_dims``, modality → width of its own
    representation (empty where fusion is early); ``part_dims``, name → width of each of ``Fusion.parts``, if it has any.

    Rules that the shared contract tests hold: a masked step changes nothing; ``fuse`` treats each row on its
    own (what couples rows, such as BatchNorm, belongs into ``encode``, so that its statistics never see samples
    of the product); modules return values and keep no state of a batch.

    >>> import torch
    >>> from mdm.types import Feature, Sequence
    >>> class Mean(Backbone):
    ...     def __init__(self, spec: DataSpec):
    ...         super().__init__()
    ...         self.z_dim, self.unimodal_dims = spec.features["audio"].dim, {}
    ...         self.head = nn.Linear(self.z_dim, len(spec.targets))
    ...     def encode(self, batch):
    ...         audio = batch.sequences["audio"]
    ...         return {"audio": {"mean": (audio.values * audio.mask.unsqueeze(2)).sum(1) / audio.lengths.clamp(1).unsqueeze(1)}}
    ...     def fuse(self, encoded):
    ...         z = encoded["audio"]["mean"]
    ...         return Fusion(self.head(z), z)
    >>> spec = DataSpec({"audio": Feature(5)}, ("sentiment",), (-3.0, 3.0), (0.0,), aligned=False)
    >>> frames = Sequence(torch.zeros(2, 7, 5), torch.ones(2, 7, dtype=torch.bool))
    >>> Mean(spec)(Batch(("a", "b"), {"audio": frames}, torch.zeros(2, 1))).prediction.shape
    torch.Size([2, 1])
    """

    z_dim: int
    unimodal_dims: dict[str, int]
    encodes_whole = False
    """Whether each of several devices encodes the whole batch: it is only put in order, or a row is read beside its neighbours."""

    def __init__(self) -> None:
        super().__init__()
        self.part_dims: dict[str, int] = {}

    @abstractmethod
    def encode(self, batch: Batch) -> Encoded:
        """All that can be computed for each modality alone; leading axis = batch in every part."""

    @abstractmethod
    def fuse(self, encoded: Encoded) -> Fusion:
        """From the encoded modalities, in whatever pairing of rows, to Z and the prediction."""

    def own_terms(self, batch: Batch, encoded: Encoded, fusion: Fusion) -> dict[str, Float[Tensor, ""]]:
        """Losses that the model's paper adds and the task optimiser minimises; usually none."""
        return {}

    def after_step(self, batch: Batch, fusion: Fusion, epoch: int) -> None:
        """What a model updates by a rule of its own after each training step (Self-MM's labels); usually nothing.

        ``fusion`` is that of the step, detached; ``epoch`` counts from 0. Whatever is kept must be a persistent buffer, so
        that a resumed run has it.
        """

    def forward(self, batch: Batch) -> Fusion:
        return self.fuse(self.encode(batch))


def require_equal_padding(spec: DataSpec, model: str) -> None:
    """Raise ValueError where zeros count as steps in one modality and are masked in another: steps would no longer correspond."""
    if len({feature.zeros_read for feature in spec.features.values()}) > 1:
        masked = ", ".join(m for m, feature in spec.features.items() if not feature.zeros_read)
        raise ValueError(
            f"{model} compares the modalities step by step, but with data.padding=official zeros are steps of frames and {masked} "
            "has none; use data.text=vectors, or data.padding=masked."
        )


def require_modalities(spec: DataSpec, needed: tuple[str, ...], model: str) -> None:
    """Raise ValueError unless the data have the modalities that a model cannot do without."""
    absent = [m for m in needed if m not in spec.features]
    if absent:
        raise ValueError(
            f"{model} needs {', '.join(needed)}, but the data have {', '.join(spec.modalities)}; choose data with "
            f"{', '.join(absent)}, or another model."
        )
