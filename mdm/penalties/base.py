"""Stage three, penalty: what every objective on representations must offer."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, Literal

from jaxtyping import Float
from torch import Tensor, nn

from mdm.types import Fusion

CriticBatches = Literal["fresh", "shared", "replay"]
"""Where a critic's rows come from (`mdm.training.learner.CriticTraining`)."""
Interleave = Literal["batch", "after", "epoch"]
"""When a critic trains."""


@dataclass(frozen=True)
class View:
    """What a penalty may look at.

    joint: the fusion of segments as they are
    product: the fusion of re-paired modalities, samples of the product of the marginals one after the other; None unless asked for
    label: [batch, targets], of the joint rows

    >>> import torch
    >>> fusion = Fusion(torch.zeros(4, 1), torch.zeros(4, 8))
    >>> View(fusion, None, torch.zeros(4, 1)).joint.z.shape
    torch.Size([4, 8])
    """

    joint: Fusion
    product: Fusion | None
    label: Float[Tensor, "batch targets"]

    def detach(self) -> View:
        return View(self.joint.detach(), self.product.detach() if self.product else None, self.label)


class Penalty(nn.Module, ABC):
    """An objective on representations; its parameters are its critic's, and only those.

    lowers: whether the backbone's step on `forward` lowers what `estimate` measures, as CLUB's does, or raises it, as KL's; said by
        every class
    bound_from: the side from which `estimate` bounds what is never negative (an information, a divergence, a distance): ``below``,
        ``above``, or None where it is no bound
    weight: λ > 0, included in what `forward` returns
    products: how many samples of the product of the marginals (each of as many rows as the batch, or fewer) its views must hold

    Raises ValueError if the weight is not a positive number.

    >>> import torch
    >>> class Energy(Penalty):
    ...     lowers = True
    ...     def estimate(self, view):
    ...         return {"energy": view.joint.z.square().mean()}
    ...     def forward(self, view):
    ...         return {"energy": self.weight * self.estimate(view)["energy"]}
    >>> Energy(weight=0.5)(View(Fusion(torch.zeros(4, 1), torch.ones(4, 8)), None, torch.zeros(4, 1)))
    {'energy': tensor(0.5000)}
    """

    lowers: ClassVar[bool]
    bound_from: ClassVar[Literal["below", "above"] | None] = None
    products = 0

    def __init__(self, weight: float):
        super().__init__()
        if not weight > 0 or weight == float("inf"):
            raise ValueError(
                f"A penalty's weight must be a positive number, but is {weight}; use penalty=none for no penalty, or "
                "penalty.measure_only=true to train its critic and report the estimate without adding it to the loss."
            )
        self.weight = weight

    @abstractmethod
    def estimate(self, view: View) -> dict[str, Float[Tensor, ""]]:
        """The measured quantities by name, in their own units and sign; for the log, on rows of any fold."""

    @abstractmethod
    def forward(self, view: View) -> dict[str, Float[Tensor, ""]]:
        """Stage two: the terms that are added to the task loss by name, sign and weight included."""

    def critic_loss(self, view: View) -> Float[Tensor, ""]:
        """Stage one: what the penalty's own networks minimise on detached representations.

        Only called for penalties that have parameters.
        """
        raise NotImplementedError(f"{type(self).__name__} has parameters but no critic_loss.")

    def start_epoch(self) -> None:
        """Forget what was gathered from earlier batches (MMIM's memory); usually nothing.

        Called before every epoch and after every resumption, so nothing of a batch outlives its epoch.
        """
