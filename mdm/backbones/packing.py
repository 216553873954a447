"""Stage two, backbone: the real steps of a batch and nothing else, and LSTMs over them on a CPU.

Lengths within a batch differ, so that of its places half and more are padding. What runs step by step needs none of it: rows are
sorted by length, the longest first, and at each step only those that still have one are computed.

torch has this too (``PackedSequence``), but on a CPU its kernel for it is two to three times as slow as that for padded rows.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from mdm.types import Sequence


@dataclass(frozen=True)
class Packed:
    """The real steps of a batch, step after step.

    values: [total, dim]; at step t the rows that have one, in the order of falling length
    sizes: how many rows each step has
    last: [batch] index in ``values`` of each row's last step; of a row without steps 0
    present: [batch, 1] whether a row has steps
    place: [total] index in [batch · time] that each step was taken from

    >>> mask = torch.tensor([[True, False], [True, True]])
    >>> packed = pack(Sequence(torch.tensor([[[1.0], [0.0]], [[2.0], [3.0]]]), mask))
    >>> packed.values.flatten(), packed.sizes, packed.at_last_step().flatten()
    (tensor([2., 1., 3.]), [2, 1], tensor([1., 3.]))
    """

    values: Float[Tensor, "total dim"]
    sizes: list[int]
    last: Int[Tensor, " batch"]
    present: Bool[Tensor, "batch 1"]
    place: Int[Tensor, " total"]

    def holds(self, values: Float[Tensor, "total width"]) -> Packed:
        """Other vectors of the same steps."""
        return replace(self, values=values)

    def before(self, values: Float[Tensor, "total width"]) -> Float[Tensor, "total width"]:
        """For each step the vector of the step before in its row; of its first step zero."""
        first = values.new_zeros(self.sizes[0] if self.sizes else 0, values.shape[1])
        return torch.cat([first, values[index_before(self.sizes, values.device)]])

    def unpack(self, values: Float[Tensor, "total width"], mask: Bool[Tensor, "batch time"]) -> Sequence:
        """Vectors of the steps as a padded batch, zero where there is no step; ``mask``: that of what was packed."""
        padded = values.new_zeros(mask.numel(), values.shape[1]).index_copy(0, self.place, values)
        return Sequence(padded.unflatten(0, mask.shape), mask)

    def at_last_step(self) -> Float[Tensor, "batch dim"]:
        """The vector of each row's last step; zero where there is none."""
        if len(self.values) == 0:
            return self.values.new_zeros(len(self.last), self.values.shape[1])
        return self.values.index_select(0, self.last) * self.present


def pack(sequence: Sequence) -> Packed:
    """The real steps, which must come first in each row. Waits for the device to know how many there are."""
    mask = sequence.mask
    batch, time = mask.shape
    lengths, order = mask.sum(1).sort(descending=True, stable=True)
    real = torch.arange(time, device=mask.device)[:, None] < lengths
    step, row = real.nonzero(as_tuple=True)
    place = order[row] * time + step
    sizes = real.sum(1)
    starts = sizes.cumsum(0) - sizes
    last = torch.empty_like(order)
    last[order] = starts[(lengths - 1).clamp(min=0)] + torch.arange(batch, device=mask.device)
    present = mask.any(1, keepdim=True)
    last = last * present.squeeze(1)
    values = sequence.values.flatten(0, 1).index_select(0, place)
    return Packed(values, [n for n in sizes.tolist() if n], last, present, place)


GROUPS, FEWEST, WORTH = 3, 24, 0.8
"""Groups of like length that rows are divided into, from how many rows on, and which share of their places may be left at most."""


def read_by_length(read: Callable[[dict[str, Sequence]], dict[str, Tensor]], steps: dict[str, Sequence]) -> dict[str, Tensor]:
    """What ``read``, which treats each row on its own, makes of a batch: on a CPU by groups of rows of like length, cut to it.

    For what costs as much as there are places, or their square. Real steps must come first in every modality.
    """
    lengths = torch.stack([s.lengths for s in steps.values()]).amax(0)
    groups = divide_by_length(lengths, max(s.mask.shape[1] for s in steps.values()))
    if len(groups) == 1:
        return read(steps)
    return join_rows([read({m: trim(sequence[group]) for m, sequence in steps.items()}) for group in groups], groups)


def join_rows(found: list[dict[str, Tensor]], groups: list[Int[Tensor, " _"]]) -> dict[str, Tensor]:
    """What was found of groups of rows, in the order of the rows."""
    back = torch.cat(groups).argsort()
    return {name: torch.cat([one[name] for one in found])[back] for name in found[0]}


def divide_by_length(lengths: Int[Tensor, " batch"], time: int) -> list[Int[Tensor, " _"]]:
    """Rows of like length, from ``time`` places each; one group of all where dividing them leaves nearly as many places, or on
    another device than a CPU."""
    order = lengths.argsort(stable=True)
    if lengths.device.type == "cpu" and len(lengths) >= FEWEST:
        groups = list(order.tensor_split(GROUPS))
        if sum(len(group) * int(lengths[group].max()) for group in groups) <= WORTH * len(lengths) * time:
            return groups
    return [torch.arange(len(lengths), device=lengths.device)]


def trim(sequence: Sequence) -> Sequence:
    """The same without the places behind its longest row; one is left. Real steps must come first."""
    time = max(int(sequence.lengths.max()), 1)
    return Sequence(sequence.values[:, :time], sequence.mask[:, :time])


WIDE = 2**15
"""Inputs times units of an LSTM, from where on its products weigh more than the loop. Below, padded rows are faster."""


def can_pack(lstm: nn.LSTM, values: Tensor) -> bool:
    """Whether `run_lstm` is the faster way: in training on a CPU, in full precision, one direction, wide inputs."""
    wide = lstm.input_size * lstm.hidden_size >= WIDE and not lstm.bidirectional
    return wide and lstm.training and values.device.type == "cpu" and not torch.is_autocast_enabled("cpu")


def run_lstm(lstm: nn.LSTM, packed: Packed) -> Packed:
    """h_t of the top layer at every real step; ``lstm`` has one direction."""
    for layer in range(lstm.num_layers):
        if layer:
            packed = packed.holds(F.dropout(packed.values, lstm.dropout, lstm.training))
        w_ih, w_hh, b_ih, b_hh = (getattr(lstm, f"{name}_l{layer}") for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"))
        packed = packed.holds(run_cell(packed, w_ih, w_hh, b_ih + b_hh)[0])
    return packed


def run_cell(
    packed: Packed, w_ih: Float[Tensor, "gates dim"], w_hh: Float[Tensor, "gates units"], bias: Float[Tensor, " gates"]
) -> tuple[Float[Tensor, "total units"], Float[Tensor, "total units"]]:
    """(h_t, c_t) of an LSTM's cell at every real step, in the precision of its weights."""
    with torch.autocast(packed.values.device.type, enabled=False):
        return Recurrence.apply(packed.values.to(w_ih.dtype), w_ih, w_hh, bias, packed.sizes)


class Recurrence(torch.autograd.Function):
    """One direction of one LSTM layer over packed steps: x → (h, c) of every step.

    The products with the inputs, and the gradients of all weights, are one matrix product each over all steps.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, w_ih: Tensor, w_hh: Tensor, bias: Tensor, sizes: list[int]) -> tuple[Tensor, Tensor]:
        units = w_hh.shape[1]
        gates = torch.addmm(bias, x, w_ih.t())
        hs, cs, squashed = (gates.new_empty(len(x), units) for _ in range(3))
        h = c = gates.new_zeros(sizes[0] if sizes else 0, units)
        recurrent, start = w_hh.t(), 0
        for n in sizes:
            here = slice(start, start + n)
            gate = gates[here]
            gate.addmm_(h[:n], recurrent)
            gate[:, : 2 * units].sigmoid_()
            gate[:, 2 * units : 3 * units].tanh_()
            gate[:, 3 * units :].sigmoid_()
            i, f, g, o = gate.split(units, 1)
            c = torch.mul(f, c[:n], out=cs[here]).addcmul_(i, g)
            h = torch.mul(o, torch.tanh(c, out=squashed[here]), out=hs[here])
            start += n
        ctx.save_for_backward(x, w_ih, w_hh, gates, hs, cs, squashed)
        ctx.sizes = sizes
        ctx.set_materialize_grads(False)
        return hs, cs

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dhs: Tensor | None, dcs: Tensor | None) -> tuple[Tensor | None, ...]:
        x, w_ih, w_hh, gates, hs, cs, squashed = ctx.saved_tensors
        sizes, units = ctx.sizes, w_hh.shape[1]
        dh = torch.zeros_like(hs) if dhs is None else dhs.clone()
        dc = torch.zeros_like(cs) if dcs is None else dcs.clone()
        first = sizes[0] if sizes else 0
        # The step before each: rows are sorted, so that those of step t are the first of step t − 1.
        before = index_before(sizes, hs.device)
        i, f, g, o = gates.split(units, 1)
        c_before = torch.cat([cs.new_zeros(first, units), cs[before]])
        by_c = torch.stack([g * i * (1 - i), c_before * f * (1 - f), i * (1 - g * g)], 1)
        by_h, h_to_c = squashed * o * (1 - o), o * (1 - squashed * squashed)
        d = torch.empty_like(gates)
        d_c, d_o = d[:, : 3 * units].unflatten(1, (3, units)), d[:, 3 * units :]
        end = len(hs)
        for t in range(len(sizes) - 1, -1, -1):
            n, start = sizes[t], end - sizes[t]
            here = slice(start, end)
            inner = dc[here].addcmul_(dh[here], h_to_c[here])
            torch.mul(inner.unsqueeze(1), by_c[here], out=d_c[here])
            torch.mul(dh[here], by_h[here], out=d_o[here])
            if t:
                earlier = slice(start - sizes[t - 1], start - sizes[t - 1] + n)
                dh[earlier].addmm_(d[here], w_hh)
                dc[earlier].addcmul_(inner, f[here])
            end = start
        needs = ctx.needs_input_grad
        return (
            d @ w_ih if needs[0] else None,
            d.t() @ x if needs[1] else None,
            d[first:].t() @ hs[before] if needs[2] else None,
            d.sum(0) if needs[3] else None,
            None,
        )


def index_before(sizes: list[int], device: torch.device) -> Int[Tensor, " later"]:
    """For each step but the rows' first, the index of the step before."""
    later = torch.arange(sizes[0] if sizes else 0, sum(sizes), device=device)
    size, following = (torch.tensor(each, dtype=torch.long, device=device) for each in (sizes[:-1], sizes[1:]))
    return later - torch.repeat_interleave(size, following)
