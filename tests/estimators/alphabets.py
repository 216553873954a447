"""Pairs of laws on finite alphabets, where sample means are expectations."""

import torch

ALPHABETS = [
    # Counts of each symbol under P and under Q: sample means are expectations, without error.
    ([4, 2, 1, 1], [1, 1, 2, 4]),
    ([5, 3, 1], [2, 2, 2]),
    ([7, 1], [1, 3]),
    ([1, 2, 3, 4, 5], [3, 3, 3, 3, 3]),
]


def alphabet(p, q):
    """Counts → (log p/q of each symbol, symbols of P's sample, symbols of Q's sample, KL, JS), in double precision."""
    p, q = torch.tensor(p), torch.tensor(q)
    symbols = torch.arange(len(p))
    sample_p, sample_q = symbols.repeat_interleave(p), symbols.repeat_interleave(q)
    p, q = p.double() / p.sum(), q.double() / q.sum()
    middle = (p + q) / 2
    kl = float((p * (p / q).log()).sum())
    js = float((p * (p / middle).log()).sum() + (q * (q / middle).log()).sum()) / 2
    return (p / q).log(), sample_p, sample_q, kl, js
