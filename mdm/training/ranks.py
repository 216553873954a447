"""Before the learner: one run on several devices, of which each encodes and fuses a share of every batch.

Every rank is given the whole batch and passes its share of the rows through the backbone. What comes out is gathered, with its
gradient; from there on every rank computes the same from the same numbers: losses, re-pairings over the whole batch, critics,
metrics. So what the learner does is what it does on one device, whatever couples rows, and equal to it but for the order of sums.

Gradients: that of gathered rows is summed over ranks, because each rank has used all of them, and each passes its own share back;
what parameters then have is averaged. Of what every rank computes alike the mean is that, and of the shares it is their sum,
because what comes back to them was added up over ranks.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from mdm.backbones.base import Backbone
from mdm.seeds import Stream, derive
from mdm.types import Batch, Encoded, Fusion, Sequence


class Alone:
    """One device: nothing is divided."""

    rank, world = 0, 1

    def encode(self, backbone: Backbone, batch: Batch) -> Encoded:
        return backbone.encode(batch)

    def fuse(self, backbone: Backbone, encoded: Encoded) -> Fusion:
        return backbone.fuse(encoded)

    def start_epoch(self, module: nn.Module, epoch: int) -> None:
        """Before the first batch of an epoch."""

    def average_gradients(self, module: nn.Module) -> None:
        """Make the gradients of all ranks one."""


class Ranks:
    """Several processes, one for each device, that have joined a group of ``torch.distributed``.

    seed: of the run. Dropout of a rank's share is drawn from a stream of its own, so that no two rows share a mask; all that is
        computed on every rank is drawn from the run's streams, and so alike

    A batch with fewer rows than there are ranks is not divided.
    """

    def __init__(self, seed: int):
        self.rank, self.world, self.seed = dist.get_rank(), dist.get_world_size(), seed
        self.stream = Stream(seed, "rank")
        self.sizes: list[int] | None = None

    def start_epoch(self, module: nn.Module, epoch: int) -> None:
        """Take rank 0's weights: sums on different devices may end in another last bit. Dropout begins anew."""
        self.stream = Stream(derive(self.seed, f"rank {self.rank}", epoch), "dropout")
        with torch.no_grad():
            for tensor in [*module.parameters(), *module.buffers()]:
                if tensor.numel():
                    dist.broadcast(tensor.data, 0)

    def encode(self, backbone: Backbone, batch: Batch) -> Encoded:
        rows = None if backbone.encodes_whole else self._share(len(batch))
        if rows is None:
            return backbone.encode(batch)
        try:
            with self.stream.active():
                encoded = backbone.encode(take_rows(batch, rows))
            return self._gather_encoded(encoded)
        finally:
            self.sizes = None

    def fuse(self, backbone: Backbone, encoded: Encoded) -> Fusion:
        rows = self._share(len(next(tensor for _, _, tensor in list_tensors(encoded))))
        if rows is None:
            return backbone.fuse(encoded)
        try:
            with self.stream.active():
                fusion = backbone.fuse({m: {key: part[rows] for key, part in parts.items()} for m, parts in encoded.items()})
            return fusion.each(self.gather)
        finally:
            self.sizes = None

    def gather(self, share: Tensor) -> Tensor:
        """The rows of all ranks, in order, from each rank's; differentiable."""
        assert self.sizes is not None, "rows are gathered while a batch is divided"
        if torch.is_grad_enabled() and share.requires_grad:
            return Gather.apply(share, self.sizes)
        return gather_rows(share, self.sizes)

    def own(self, whole: Tensor) -> Tensor:
        """This rank's rows of all."""
        assert self.sizes is not None, "rows are gathered while a batch is divided"
        return whole.split(self.sizes)[self.rank]

    def average_gradients(self, module: nn.Module) -> None:
        """One sum for all, in which a parameter that no rank has used is known by the count behind its place."""
        parameters = [p for p in module.parameters() if p.requires_grad]
        used = [p.grad is not None for p in parameters]
        flat = torch.cat([(torch.zeros_like(p) if p.grad is None else p.grad).flatten() for p in parameters])
        flat = torch.cat([flat, torch.tensor(used, dtype=flat.dtype, device=flat.device)]) / self.world
        dist.all_reduce(flat)
        *grads, counts = flat.split([*(p.numel() for p in parameters), len(parameters)])
        somewhere = used if all(used) else (counts > 0).tolist()
        for parameter, grad, there in zip(parameters, grads, somewhere, strict=True):
            if there:
                parameter.grad = grad.view_as(parameter)

    @contextmanager
    def counting(self, share: Tensor) -> Iterator[None]:
        """While inside, each rank has as many entries as it has in ``share``, which may be real steps and not rows."""
        sizes, counts = self.sizes, torch.zeros(self.world, dtype=torch.long, device=share.device)
        counts[self.rank] = len(share)
        dist.all_reduce(counts)
        self.sizes = counts.tolist()
        try:
            yield
        finally:
            self.sizes = sizes

    def _share(self, rows: int) -> slice | None:
        """This rank's rows of so many, as alike in number as can be; None if some rank would have none."""
        if rows < self.world:
            return None
        self.sizes = [rows // self.world + (rank < rows % self.world) for rank in range(self.world)]
        start = sum(self.sizes[: self.rank])
        return slice(start, start + self.sizes[self.rank])

    def _gather_encoded(self, encoded: Encoded) -> Encoded:
        """Sequences are as long as the longest of any rank's."""
        tensors = list_tensors(encoded)
        widths = torch.tensor([t.shape[1] if t.ndim > 1 else 0 for _, _, t in tensors], device=tensors[0][2].device)
        dist.all_reduce(widths, dist.ReduceOp.MAX)
        whole = {
            (m, key): self.gather(pad_behind(tensor, width, BLANK.get(key, 0)))
            for (m, key, tensor), width in zip(tensors, widths.tolist(), strict=True)
        }
        return {
            m: {
                key: Sequence(whole[m, f"{key}.values"], whole[m, f"{key}.mask"]) if isinstance(part, Sequence) else whole[m, key]
                for key, part in parts.items()
            }
            for m, parts in encoded.items()
        }


class Gather(torch.autograd.Function):
    """This rank's rows → the rows of all ranks."""

    @staticmethod
    def forward(ctx: Any, share: Tensor, sizes: list[int]) -> Tensor:
        ctx.sizes = sizes
        return gather_rows(share, sizes)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        grad = grad.contiguous().clone()
        dist.all_reduce(grad)
        return grad.split(ctx.sizes)[dist.get_rank()], None


def gather_rows(share: Tensor, sizes: list[int]) -> Tensor:
    """The rows of all ranks, of which each has as many as ``sizes`` says."""
    sent = share.detach().to(torch.uint8) if share.dtype == torch.bool else share.detach()
    most = max(sizes)
    if len(sent) < most:
        sent = torch.cat([sent, sent.new_zeros(most - len(sent), *sent.shape[1:])])
    received = [torch.empty_like(sent, memory_format=torch.contiguous_format) for _ in sizes]
    dist.all_gather(received, sent.contiguous())
    return torch.cat([rows[:n] for rows, n in zip(received, sizes, strict=True)]).to(share.dtype)


BLANK = {"word": -1}
"""Part of an encoded modality → what stands in it where there is no step, if that is not 0 (`mdm.backbones.text.Pieces`)."""


def pad_behind(tensor: Tensor, width: int, blank: int) -> Tensor:
    """Blanks behind the second axis up to a width."""
    if tensor.ndim < 2 or tensor.shape[1] == width:
        return tensor
    return torch.cat([tensor, tensor.new_full((len(tensor), width - tensor.shape[1], *tensor.shape[2:]), blank)], dim=1)


def list_tensors(encoded: Encoded) -> list[tuple[str, str, Tensor]]:
    """(modality, name, tensor) of every part, sequences as two."""
    listed: list[tuple[str, str, Tensor]] = []
    for m, parts in encoded.items():
        for key, part in parts.items():
            if isinstance(part, Sequence):
                listed += [(m, f"{key}.values", part.values), (m, f"{key}.mask", part.mask)]
            else:
                listed.append((m, key, part))
    return listed


def take_rows(batch: Batch, rows: slice) -> Batch:
    """Some rows of a batch."""
    labelled = None if batch.labelled is None else len(range(*rows.indices(batch.labelled)))
    sequences = {m: sequence[rows] for m, sequence in batch.sequences.items()}
    unimodal = {m: label[rows] for m, label in batch.unimodal.items()}
    context = batch.context and replace(
        batch.context, **{name: getattr(batch.context, name)[rows] for name in ("index", "mask", "own")}
    )
    return Batch(batch.ids[rows], sequences, batch.label[rows], labelled, unimodal, context)


class WholeBatchNorm(nn.BatchNorm1d):
    """Batch normalisation over what all ranks have, rows or steps; ``ranks`` is set by `normalize_over`."""

    ranks: Ranks

    def forward(self, input: Tensor) -> Tensor:
        if not self.training or self.ranks.sizes is None:
            return super().forward(input)
        with self.ranks.counting(input):
            return self.ranks.own(super().forward(self.ranks.gather(input)))


def normalize_over(ranks: Ranks, module: nn.Module) -> None:
    """Let every batch normalisation of a module count the rows of all ranks. Its parameters stay what and where they are."""
    for part in module.modules():
        if type(part) is nn.BatchNorm1d:
            part.__class__ = WholeBatchNorm
            assert isinstance(part, WholeBatchNorm)
            part.ranks = ranks
