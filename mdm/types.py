"""What passes between the stages: data → backbone → penalty → learner.

Plain containers of tensors, with the few movements that every stage needs (to a device, by rows,
detached). Nothing here learns.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor


@dataclass(frozen=True)
class Feature:
    """How the steps of one modality look: vectors of ``dim`` numbers, or tokens.

    For tokens ``dim`` counts the ids that the training fold gives a meaning: 0 is padding, 1 an unknown word, the others
    are its words in order. ``others`` counts the ids behind them, from ``dim`` on, of words that it lacks. An embedding
    learned here reads those as the unknown word, so what is learned depends on ``dim`` alone; a pretrained encoder knows them.
    ``vocabulary[i]`` is the word behind id ``i``, of either kind; it is empty for vectors and where only ids are known (a
    tokenizer's). ``steps``: the one length up to which every segment is filled with zeros, which then count as steps
    (data.padding=official); None: each segment has its own.

    >>> Feature(74)
    Feature(dim=74, tokens=False, vocabulary=(), others=0, steps=None)
    >>> Feature(4, tokens=True, vocabulary=("<pad>", "<unk>", "good", "film")).vocabulary[2]
    'good'
    """

    dim: int
    tokens: bool = False
    vocabulary: tuple[str, ...] = ()
    others: int = 0
    steps: int | None = None

    @property
    def zeros_read(self) -> bool:
        """Whether zeros behind or in front of a segment count as steps."""
        return self.steps is not None


@dataclass(frozen=True)
class DataSpec:
    """What a backbone must know of the data before it is built; dimensions flow from here.

    ``aligned``: every modality has one step per word, so steps of one segment correspond.
    ``label_mean``: training-fold mean of each target, the natural starting point of a bias.
    ``head_start``: where the bias of the last layer begins, ``label_mean``, or ``random`` as torch draws it (model.head_start).
    ``train_ids``: the training fold's segments, for models that keep something for each of them.
    ``unimodal``: the modalities that people have labelled alone (CH-SIMS).

    >>> features = {"language": Feature(300), "audio": Feature(74)}
    >>> spec = DataSpec(features, ("sentiment",), (-3.0, 3.0), (0.2,), aligned=True)
    >>> spec.modalities
    ('language', 'audio')
    """

    features: Mapping[str, Feature]
    targets: tuple[str, ...]
    label_range: tuple[float, float]
    label_mean: tuple[float, ...]
    aligned: bool
    train_ids: tuple[str, ...] = ()
    head_start: str = "label_mean"
    unimodal: tuple[str, ...] = ()

    @property
    def modalities(self) -> tuple[str, ...]:
        return tuple(self.features)


@dataclass(frozen=True)
class Sequence:
    """A batch of sequences: vectors [batch, time, dim] or token ids [batch, time], and the real steps.

    A row without a real step means that the segment lacks this modality.

    >>> mask = torch.tensor([[True, True, False], [False, False, False]])
    >>> audio = Sequence(torch.zeros(2, 3, 74), mask)
    >>> audio.lengths
    tensor([2, 0])
    """

    values: Shaped[Tensor, "batch time *dim"]
    mask: Bool[Tensor, "batch time"]

    @property
    def lengths(self) -> Int[Tensor, " batch"]:
        return self.mask.sum(1)

    def to(self, device: torch.device | str, non_blocking: bool = False, dtype: torch.dtype | None = None) -> Sequence:
        kept = dtype if self.values.is_floating_point() else self.values.dtype
        return Sequence(self.values.to(device, kept, non_blocking=non_blocking), self.mask.to(device, non_blocking=non_blocking))

    def detach(self) -> Sequence:
        return Sequence(self.values.detach(), self.mask)

    def __getitem__(self, rows: Tensor | slice) -> Sequence:
        return Sequence(self.values[rows], self.mask[rows])


Encoded = dict[str, dict[str, Any]]
"""modality → name → `Sequence` or tensor with leading axis = batch: what belongs to one modality alone, so that its rows can
move on their own."""


@dataclass(frozen=True)
class Context:
    """The videos that the segments of a batch are of, for models that read a segment among its neighbours.

    sequences: modality → all segments of these videos that are in the fold, each once
    index: which of them the video of each row has, in their order there; mask: where there is one
    own: the place of the row itself among them

    >>> steps = Sequence(torch.zeros(3, 7, 5), torch.ones(3, 7, dtype=torch.bool))
    >>> index = torch.tensor([[0, 1], [0, 1], [2, 0]])
    >>> mask = torch.tensor([[True, True], [True, True], [True, False]])
    >>> Context({"audio": steps}, index, mask, own=torch.tensor([0, 1, 0])).arrange(torch.tensor([[1.0], [2.0], [3.0]]))[2]
    tensor([[3.],
            [0.]])
    """

    sequences: dict[str, Sequence]
    index: Int[Tensor, "batch segments"]
    mask: Bool[Tensor, "batch segments"]
    own: Int[Tensor, " batch"]

    def arrange(self, vectors: Float[Tensor, "all dim"]) -> Float[Tensor, "batch segments dim"]:
        """A vector of each segment in the place of the segment; zero where there is none."""
        return vectors[self.index] * self.mask.unsqueeze(2)

    def to(self, device: torch.device | str, non_blocking: bool = False, dtype: torch.dtype | None = None) -> Context:
        sequences = {name: s.to(device, non_blocking, dtype) for name, s in self.sequences.items()}
        return Context(sequences, *(t.to(device, non_blocking=non_blocking) for t in (self.index, self.mask, self.own)))


@dataclass(frozen=True)
class Batch:
    """Segments as a backbone reads them.

    labelled: how many rows have a label; the others come last and their label is NaN. None: all
    unimodal: modality → [batch, targets], labels by that modality alone, NaN where none is given
    context: their videos, for a model that reads them (model.context=true)

    >>> audio = Sequence(torch.zeros(2, 3, 74), torch.ones(2, 3, dtype=torch.bool))
    >>> batch = Batch(("a[0]", "a[1]"), {"audio": audio}, torch.tensor([[1.0], [-2.0]]))
    >>> len(batch), batch.to("cpu", dtype=torch.float64).label.dtype
    (2, torch.float64)
    """

    ids: tuple[str, ...]
    sequences: dict[str, Sequence]
    label: Float[Tensor, "batch targets"]
    labelled: int | None = None
    unimodal: dict[str, Float[Tensor, "batch targets"]] = field(default_factory=dict)
    context: Context | None = None

    def __len__(self) -> int:
        return len(self.ids)

    def to(self, device: torch.device | str, non_blocking: bool = False, dtype: torch.dtype | None = None) -> Batch:
        """On another device; vectors and labels as numbers of ``dtype``, or as they are."""
        sequences = {name: s.to(device, non_blocking, dtype) for name, s in self.sequences.items()}
        context = None if self.context is None else self.context.to(device, non_blocking, dtype)
        label, *unimodal = (label.to(device, dtype, non_blocking=non_blocking) for label in (self.label, *self.unimodal.values()))
        return Batch(self.ids, sequences, label, self.labelled, dict(zip(self.unimodal, unimodal, strict=True)), context)


@dataclass(frozen=True)
class Fusion:
    """What a backbone makes of a batch.

    prediction: [batch, targets]
    z: [batch, d], the fused representation, what the head reads before its dropout
    unimodal: modality → [batch, d_m], each modality's own representation; empty where fusion is early
    parts: name → [batch, d], what else the model's own terms and its own penalty read (codes, factors)

    >>> fusion = Fusion(torch.zeros(4, 1), torch.zeros(4, 8), {"audio": torch.zeros(4, 3)})
    >>> fusion[torch.tensor([0, 2])].unimodal["audio"].shape
    torch.Size([2, 3])
    >>> Fusion.cat([fusion, fusion]).z.shape
    torch.Size([8, 8])
    """

    prediction: Float[Tensor, "batch targets"]
    z: Float[Tensor, "batch d"]
    unimodal: dict[str, Float[Tensor, "batch d_m"]] = field(default_factory=dict)
    parts: dict[str, Float[Tensor, "batch d_part"]] = field(default_factory=dict)

    def detach(self) -> Fusion:
        return self.each(Tensor.detach)

    def __getitem__(self, rows: Tensor | slice) -> Fusion:
        return self.each(lambda tensor: tensor[rows])

    def each(self, change: Callable[[Tensor], Tensor]) -> Fusion:
        """The same of every tensor."""
        unimodal = {m: change(u) for m, u in self.unimodal.items()}
        parts = {name: change(p) for name, p in self.parts.items()}
        return Fusion(change(self.prediction), change(self.z), unimodal, parts)

    @staticmethod
    def cat(fusions: list[Fusion]) -> Fusion:
        """Fusions of consecutive rows as one."""
        first = fusions[0]
        return Fusion(
            torch.cat([f.prediction for f in fusions]),
            torch.cat([f.z for f in fusions]),
            {m: torch.cat([f.unimodal[m] for f in fusions]) for m in first.unimodal},
            {name: torch.cat([f.parts[name] for f in fusions]) for name in first.parts},
        )
