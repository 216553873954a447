"""After the run: how much the modalities of a trained model's Z depend on one another, on rows that nothing was fitted on.

The estimate that a run logs comes from its own critic, which chases a moving Z and can be poor without Z being independent.
Here Z stands still: a new critic is fitted to tell joint from product rows, stopped on a second set of rows, and read out by
Donsker–Varadhan on a third. The value is a lower bound on KL(p_Z ‖ p_Z̄) up to sampling noise, alike for every model.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from mdm.backbones.base import Backbone
from mdm.estimators import donsker_varadhan, logistic_loss
from mdm.penalties.critics import Critic
from mdm.seeds import Stream, derive, generator
from mdm.training.product import batch_lengths, product, shifts
from mdm.types import Batch


@dataclass(frozen=True)
class Pairs:
    """Z of segments as they are, and of re-paired ones.

    joint: [n, d]
    product: [k, m, d], k samples of the product
    """

    joint: Float[Tensor, "n d"]
    product: Float[Tensor, "k m d"]


@torch.no_grad()
def encode_pairs(backbone: Backbone, batches: Iterable[Batch], seed: int, samples: int = 4) -> Pairs:
    """Z of all segments, and ``samples`` draws of the product, in evaluation mode."""
    backbone.eval()
    rng = np.random.default_rng(derive(seed, "probe shifts"))
    joint, products = [], []
    for batch in batches:
        encoded, lengths = backbone.encode(batch), batch_lengths(batch)
        joint.append(backbone.fuse(encoded).z)
        draws = [backbone.fuse(product(encoded, shifts(lengths, rng), lengths)).z for _ in range(samples)]
        products.append(torch.stack(draws))
    return Pairs(torch.cat(joint), torch.cat(products, 1))


def measure_held_out(fit: Pairs, stop: Pairs, measure: Pairs, seed: int = 0, steps: int = 3000, batch_size: int = 256) -> float:
    """Donsker–Varadhan estimate on ``measure``, in nats, by the critic that was best on ``stop`` while it learned on ``fit``.

    Raises ValueError if the sets differ in width or have no rows.
    """
    widths = {pairs.joint.shape[1] for pairs in (fit, stop, measure)}
    if len(widths) != 1 or min(len(pairs.joint) for pairs in (fit, stop, measure)) == 0:
        raise ValueError(f"A probe needs rows of one width in each of its three sets, but has widths {sorted(widths)}.")
    # Per-feature scaling by the fitted rows: an invertible map, so it changes no divergence.
    mean, scale = fit.joint.mean(0), fit.joint.std(0).clamp(min=1e-6)

    def scaled(z: Tensor) -> Tensor:
        return (z - mean) / scale

    with Stream(seed, "probe").active():
        critic = Critic(fit.joint.shape[1], normalize=False)
    optimizer = torch.optim.AdamW(critic.parameters(), lr=1e-3, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    rows = generator(seed, "probe rows")
    best, estimate = float("inf"), float("nan")
    for step in range(1, steps + 1):
        i, j = (torch.randint(n, (batch_size,), generator=rows) for n in (len(fit.joint), fit.product.shape[1]))
        k = torch.randint(len(fit.product), (batch_size,), generator=rows)
        loss = logistic_loss(critic(scaled(fit.joint[i])), critic(scaled(fit.product[k, j])))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if step % 100 == 0:
            with torch.no_grad():
                held_out = logistic_loss(critic(scaled(stop.joint)), critic(scaled(stop.product.flatten(0, 1))))
                if float(held_out) < best:
                    best = float(held_out)
                    values = critic(scaled(measure.joint)), critic(scaled(measure.product.flatten(0, 1)))
                    estimate = float(donsker_varadhan(*values))
    return estimate
