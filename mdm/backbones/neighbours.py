"""Stage two, backbone: neighbouring steps that are joined into groups, for sequence summarization (`mdm.backbones.hcrf`)."""

from __future__ import annotations

from collections.abc import Sequence as Ordered
from itertools import product

import torch
from torch import Tensor


def regroup(groups: Tensor, there: Tensor, active: Tensor, change: Tensor, c: float) -> tuple[Tensor, Tensor, Tensor]:
    """Groups of frames [time, target, batch], which groups there are, and rows that go on: some groups were joined, but not all."""
    numbers, found = there.sum(0).tolist(), torch.zeros_like(groups)
    weights = change.permute(1, 2, 0).tolist()
    for k, row in product(range(len(numbers)), range(len(numbers[0]))):
        joined = join_neighbours(weights[k][row][: max(numbers[k][row] - 1, 0)], c)
        found[: len(joined), k, row] = torch.tensor(joined, device=groups.device)
    counts = torch.where(there, found, -1).amax(0) + 1
    now = torch.arange(len(there), device=there.device)[:, None, None] < counts
    return found.gather(0, groups), now, active & (counts > 1) & (counts < there.sum(0))


def join_neighbours(change: Ordered[float], c: float) -> list[int]:
    """The group of each of len(change) + 1 steps: neighbours are joined in order of their change w, if w ≤ τ of both groups.

    τ is c at first, and w + c/|group| of a group that was joined at w (Felzenszwalb and Huttenlocher).

    >>> join_neighbours([0.1, 0.5, 0.05, 0.9, 0.2], 0.5)
    [0, 0, 1, 1, 2, 2]
    """
    group, limit, size = list(range(len(change) + 1)), [c] * (len(change) + 1), [1] * (len(change) + 1)
    for i in sorted(range(len(change)), key=change.__getitem__):
        a, b = group[i], group[i + 1]
        if change[i] <= min(limit[a], limit[b]):
            size[a] += size[b]
            limit[a] = change[i] + c / size[a]
            group = [a if each == b else each for each in group]
    order = {each: number for number, each in enumerate(dict.fromkeys(group))}
    return [order[each] for each in group]
