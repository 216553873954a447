"""Stage two, backbone: the decoder of MFM, from a factor to the steps of a modality."""

from __future__ import annotations

import math
from typing import Literal

from jaxtyping import Float
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from mdm.backbones.layers import replace_unknown
from mdm.types import Feature, Sequence

DecoderForm = Literal["merged", "two_matrices"]


class Decoder(nn.Module):
    """An LSTM that reads the factor at its first step and its own last state at every later one; each state is mapped to a step.

    So the gates of later steps are (W_ih + W_hh) h + b, whose two matrices matter only as their sum R: an ``nn.LSTM`` that reads
    the factor, then zeros, with R for its recurrent matrix, in one fused call.

    form: ``merged``, R itself is learned, from the same start; ``two_matrices``, both are, as in the official code: the same
        function, but under Adam each of two equal gradients makes a step of its own, so that R moves twice as far

    >>> import torch
    >>> Decoder(4, Feature(3))(torch.rand(2, 4), time=5).shape
    torch.Size([2, 5, 3])
    """

    def __init__(self, width: int, feature: Feature, form: DecoderForm = "merged"):
        super().__init__()
        self.lstm = nn.LSTM(width, width, batch_first=True)
        self.merged = form == "merged"
        if self.merged:
            read, recurrent, *_ = self.lstm.all_weights[0]
            recurrent.data.add_(read.data)
        self.output = nn.Linear(width, feature.dim)
        self.tokens = feature.tokens

    def forward(self, factors: Float[Tensor, "batch width"], time: int) -> Float[Tensor, "batch time dim"]:
        return self.output(self.states(factors, time))

    def states(self, factors: Float[Tensor, "batch width"], time: int) -> Float[Tensor, "batch time width"]:
        given = F.pad(factors.unsqueeze(1), (0, 0, 0, time - 1))
        if self.merged:
            return self.lstm(given)[0]
        read, recurrent, *_ = self.lstm.all_weights[0]
        return functional_call(self.lstm, {"weight_hh_l0": read + recurrent}, (given,))[0]

    def cost(self, factors: Float[Tensor, "batch width"], target: Sequence) -> Float[Tensor, ""]:
        """Mean over real steps (which come first): squared error of a coordinate, or −log p(word) / log(number of ids)."""
        # Only the states of real steps are mapped: with thousands of words this is most of the work.
        found = self.output(self.states(factors, target.mask.shape[1])[target.mask]).float()
        wanted = target.values[target.mask]
        if self.tokens:
            wanted = replace_unknown(wanted, found.shape[1])
            return F.cross_entropy(found, wanted, reduction="sum") / max(len(wanted), 1) / math.log(found.shape[1])
        return F.mse_loss(found, wanted, reduction="sum") / max(wanted.numel(), 1)
