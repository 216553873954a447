"""Small segments of unequal lengths, and the plain padding loop, of which several tests make splits."""

import numpy as np
import torch

from mdm.data.base import FOLDS, Ragged, Segments
from mdm.data.seal import select

SIZES = {"train": 23, "valid": 6, "test": 8}
VOCABULARY = ("<pad>", "<unk>", *(f"w{i:02}" for i in range(2, 20)))


def table(seed=0, **fields):
    """Segments in mixed order of folds, unaligned, some without video; words 12 to 19 occur only outside training."""
    rng = np.random.default_rng(seed)
    fold = rng.permutation(np.repeat([*FOLDS, ""], [*SIZES.values(), 3]))
    n = len(fold)
    lengths = {m: rng.integers(1, 9, n) for m in ("words", "vectors", "audio", "video")}
    lengths["vectors"] = lengths["words"]
    lengths["video"][rng.random(n) < 0.25] = 0
    words = [rng.integers(2, 12 if fold[i] == "train" else 20, t) for i, t in enumerate(lengths["words"])]

    def frames(name, dim, scale):
        return Ragged.of([(scale * rng.standard_normal((t, dim)) + scale).astype(np.float32) for t in lengths[name]], dim=dim)

    default = {
        "name": "tiny",
        "ids": tuple(f"s{i}" for i in range(n)),
        "fold": fold,
        "group": np.array([f"v{i // 2}{fold[i]}" for i in range(n)]),
        "label": np.clip(rng.standard_normal((n, 1)), -3, 3).astype(np.float32),
        "targets": ("sentiment",),
        "label_range": (-3.0, 3.0),
        "modalities": {"audio": frames("audio", 3, 100.0), "video": frames("video", 2, 0.1)},
        "text": {"words": Ragged.of(words, VOCABULARY), "vectors": frames("vectors", 4, 1.0)},
        "aligned": ("words", "vectors"),
        "marks": {"odd": rng.random(n) < 0.5},
    }
    return Segments(**default | fields)


def choose_epoch(folder, epoch=3, value=1.0):
    """A selection of an epoch that is the best of four on disk, with a checkpoint."""
    (folder / "best.ckpt").write_bytes(b"weights")
    maes = [value if k == epoch else value + 1 for k in range(4)]
    (folder / "curve.csv").write_text("epoch,valid/mae\n" + "".join(f"{k}.0,{mae!r}\n" for k, mae in enumerate(maes)))
    return select(folder / "best.ckpt", folder / "curve.csv", epoch, "valid/mae", value)


def rows_of(segments, fold):
    return [i for i in range(len(segments)) if segments.fold[i] == fold]


def order_of(loader, epoch=0):
    loader.batch_sampler.set_epoch(epoch)
    return [batch.ids for batch in loader]


def training_frames(segments, name):
    return np.concatenate([segments.features[name][i] for i in rows_of(segments, "train")]).astype(np.float64)


def equal(a, b):
    """Two batches, bit for bit."""
    return (
        a.ids == b.ids
        and torch.equal(a.label, b.label)
        and list(a.sequences) == list(b.sequences)
        and all(torch.equal(s.values, t.values) and torch.equal(s.mask, t.mask) for s, t in both(a.sequences, b.sequences))
    )


def both(a, b):
    return zip(a.values(), b.values(), strict=True)
