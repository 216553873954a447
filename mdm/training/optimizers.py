"""Before the learner: an optimiser of published code that torch does not have."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch.optim import Optimizer


class AdamW302(Optimizer):
    """AdamW as `transformers` 3.0.2 had it, which MAG, WSA-BERT and MIRD were trained with.

        p ← p − lr·√(1 − β₂ᵗ)/(1 − β₁ᵗ) · m/(√v + ε),  then  p ← p − lr·decay·p

    ε acts before the correction of v, so in the terms of ``torch.optim.AdamW`` it is ε/√(1 − β₂ᵗ): 31.6 times as large at the first
    step, and 3.2 times at the hundredth. Decay comes behind the step and not before it.

    Raises ValueError on a negative rate, ε or decay, and unless both betas are in [0, 1).

    >>> p = torch.nn.Parameter(torch.tensor([1.0]))
    >>> p.grad = torch.tensor([2e-5])
    >>> AdamW302([p], lr=0.1).step()   # m/(√v + ε) = 2e-6/(2e-5·√.001 + 1e-6); times √.001/.1
    >>> round(p.item(), 4)
    0.9613
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-6,
        weight_decay: float = 0.0,
    ):
        if not (min(lr, eps, weight_decay) >= 0 and all(0 <= beta < 1 for beta in betas)):
            raise ValueError(
                f"AdamW302 needs lr, eps, weight_decay >= 0 and betas in [0, 1), but lr={lr}, betas={betas}, eps={eps}, "
                f"weight_decay={weight_decay} came; set model.optimizer.*."
            )
        super().__init__(params, {"lr": lr, "betas": tuple(betas), "eps": eps, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One step; parameters without a gradient stay, decay included."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            parameters = [p for p in group["params"] if p.grad is not None]
            if parameters:
                self._step_group(group, parameters)
        return loss

    def _step_group(self, group: dict[str, Any], parameters: list[torch.Tensor]) -> None:
        (beta1, beta2), lr = group["betas"], group["lr"]
        states = [self.state[p] for p in parameters]
        for parameter, state in zip(parameters, states, strict=True):
            if not state:
                state |= {"step": 0, "mean": torch.zeros_like(parameter), "square": torch.zeros_like(parameter)}
            state["step"] += 1
        gradients: list[Any] = [p.grad for p in parameters]
        means, squares = [s["mean"] for s in states], [s["square"] for s in states]
        torch._foreach_mul_(means, beta1)
        torch._foreach_add_(means, gradients, alpha=1 - beta1)
        torch._foreach_mul_(squares, beta2)
        torch._foreach_addcmul_(squares, gradients, gradients, 1 - beta2)
        roots = torch._foreach_sqrt(squares)
        torch._foreach_add_(roots, group["eps"])
        sizes = [-lr * (1 - beta2 ** s["step"]) ** 0.5 / (1 - beta1 ** s["step"]) for s in states]
        torch._foreach_addcdiv_(parameters, means, roots, sizes)
        if group["weight_decay"] > 0:
            torch._foreach_mul_(parameters, 1 - lr * group["weight_decay"])
