"""MFM with small widths, and batches for it."""

import torch
from torch import nn

from mdm.backbones.mfm import MFM
from mdm.types import Batch, DataSpec, Feature, Sequence

FEATURES = {"language": Feature(6), "audio": Feature(3), "video": Feature(4)}
LENGTHS = [4, 1, 5, 2, 3]
SMALL = {"hidden": 6, "memory": 4, "z_y": 5, "f_y": 4, "z_m": 7, "f_m": 3, "embedding_dim": 5, "attention": 6, "proposal": 6}


def spec(aligned=True, **features):
    return DataSpec(features or FEATURES, ("y",), (-3.0, 3.0), (0.25,), aligned)


def build(data=None, **options):
    torch.manual_seed(0)
    return MFM(data or spec(), **{**SMALL, **options}).eval()


def batch(lengths=LENGTHS, seed=0):
    rng = torch.Generator().manual_seed(seed)
    mask = torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]
    sequences = {
        m: Sequence(torch.randn(*mask.shape, f.dim, generator=rng) * mask.unsqueeze(-1), mask) for m, f in FEATURES.items()
    }
    return Batch(tuple(map(str, range(len(lengths)))), sequences, torch.randn(len(lengths), 1, generator=rng))


def three(language, audio, video):
    return {"language": language, "audio": audio, "video": video}


def decoded(decoder, factors, time):
    """The official loop: the factor is the first step's input, the last hidden state that of every later one."""
    read, total, *biases = decoder.lstm.all_weights[0]
    cell = nn.LSTMCell(decoder.lstm.input_size, decoder.lstm.hidden_size)
    with torch.no_grad():
        for p, value in zip(cell.parameters(), (read, total - read, *biases), strict=True):
            p.copy_(value)
    h = c = torch.zeros_like(factors)
    given, steps = factors, []
    for _ in range(time):
        h, c = cell(given, (h, c))
        given = h
        steps.append(decoder.output(h))
    return torch.stack(steps, 1)
