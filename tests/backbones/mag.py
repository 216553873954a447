"""MAG of small widths, batches for it, and its gate by hand."""

import torch

DIM, DIMS = 6, {"audio": 3, "video": 2}


def loud(module):
    """Weights and biases far from where they start, so that every term of an equation shows."""
    rng = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for p in module.parameters():
            p.copy_(torch.randn(p.shape, generator=rng) * 0.5)
    return module


def gate_by_hand(gate, e, frames, act):
    """Piece by piece from the equations, with the plain square root of the sum of squares."""
    out = torch.zeros_like(e)
    for i in range(e.shape[0]):
        for t in range(e.shape[1]):
            h = torch.zeros(e.shape[2])
            for m, x in frames.items():
                w, w_g = gate.project[m], gate.gates[m]
                g = act(w_g.weight @ torch.cat([x[i, t], e[i, t]]) + w_g.bias)
                h = h + g * (w.weight @ x[i, t] + w.bias)
            n = h.pow(2).sum().sqrt() if h.any() else torch.tensor(1.0)
            alpha = min(gate.beta * e[i, t].pow(2).sum().sqrt() / (n + 1e-6), torch.tensor(1.0))
            moved = e[i, t] + alpha * h
            centred = moved - moved.mean()
            out[i, t] = centred / (centred.pow(2).mean() + 1e-5).sqrt() * gate.norm.weight + gate.norm.bias
    return out
