"""Every model with its options, every kind of data, and batches of each kind: of these come the cases of the contract."""

from collections.abc import Iterator
from functools import cache
from pathlib import Path

import hydra
import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from torch import nn

from mdm.runs.members import make
from mdm.types import Batch, DataSpec, Feature, Sequence

ROOT = Path(__file__).parents[2] / "configs"


def compose_model(name):
    with hydra.initialize_config_dir(str(ROOT), version_base="1.3"):
        return hydra.compose("train", [f"model={name}"]).model


CONFIGS = {path.stem: compose_model(path.stem) for path in sorted((ROOT / "model").glob("*.yaml"))}
MODELS = {name: [{}] for name, node in CONFIGS.items() if "backbone" in node}
"""model → options that differ from its file."""
MODELS["eflstm"] += [{"variant": "separate", "head": "linear"}, {"bidirectional": True, "num_layers": 2}]
MODELS["lmf"] += [{"init": "official", "rank": 1, "z_dim": 3}]
MODELS["magbert"] += [{"z": "pooler", "inject": 1, "activation": "sigmoid"}]
MODELS["magxlnet"] += [{"z": "pooler", "inject": 0}]
MODELS["tfn"] = [{"hidden": 8, "language_out": 6, "output": "bounded"}, {"hidden": 8, "language_out": 6, "output": "linear"}]
MODELS["mfn"] = [{"hidden": 8, "memory": 7, "attention": 5, "proposal": 6, "retain": 9, "update": 5}]
MODELS["marn"] += [{"softmax": "joint", "code": "none"}]
MODELS["mv_lstm"] += [{"topology": "coupled", "overlap": "official", "squash": True}]
MODELS["almt"] = [{"dim": 16, "max_steps": 4}]
MODELS["bc_lstm"] += [{"dim": 5}]
MODELS["cenet"] = [{"hidden": 6}]
MODELS["bbfn"] = [{"dim": 8}]
MODELS["confede"] = [{"dim": 8, "code": 6, "max_steps": 4, "encoder_dropout": 0.0}]  # as of misa
MODELS["graphcage"] = [{"dim": 8, "nodes": 3, "capsule": 5, "max_steps": 4}]
MODELS["graphcage"] += [{**MODELS["graphcage"][0], "capsules": "positional", "max_steps": 9}]
MODELS["lmr_cbt"] = [{"dim": 8}]
MODELS["pmr"] = [{"dim": 8}, {"dim": 8, "layers": 0}]
MODELS["gpfn"] = [{"dim": 8}, {"dim": 8, "edges": "relu", "nodes": 2}]
MODELS["iccn"] = [{"dim": 5, "channels": 4}]
MODELS["hcrf"] += [
    {"views": "multi", "topology": "linked_coupled", "hidden": 2, "layers": 2, "threshold": 4.0},
    {"views": "multi", "states": "disjoint", "hidden": 2},
]
MODELS["sal_cnn"] = [{"channels": [2, 3], "embedding_dim": 8}]
MODELS["tetfn"] = [{"dim": 8, "feature": 5}]
MODELS["dmd"] = [{"dim": 8, "edges": [5, 4]}]
MODELS["df"] += [{"z_dim": 9, "unimodal_error": "squared"}]
MODELS["mfm"] += [{"variant": "M_A", "mmd": "per_factor"}, {"variant": "M_B", "kernel_scale": "official", "prior": "sampled"}]
MODELS["mult"] += [{"heads": 5, "layers": 2, "memory_layers": 2, "kernel": 3, "future_mask": False}]
MODELS["wsabert"] += [{"attention": "soft", "pooling": "mean", "activation": "sigmoid", "head": "mlp"}]
MODELS["misa"] = [{"transformer_dropout": 0.0}]  # inside its attention there is no Dropout module to take out
IMAGES = {"svhn": [3, 9, 8], "mnist": [1, 12, 12]}
MODELS["mfm_images"] = [{"images": IMAGES, **options} for options in ({}, {"mmd": "per_factor"}, {"variant": "mm"})]
MODELS["mird"] += [{"language_encoder": "bert", "pooling": "pooler", "raw_terms": True, "reconstruction": "plain"}]
WORDS = Feature(12, tokens=True, vocabulary=tuple(f"w{i}" for i in range(12)))
KINDS = {
    "words": ({"language": WORDS, "audio": Feature(5), "video": Feature(4)}, True),
    "vectors": ({"language": Feature(6), "audio": Feature(5), "video": Feature(4)}, True),
    "language and audio": ({"language": Feature(6), "audio": Feature(5)}, True),
    "audio and video": ({"audio": Feature(5), "video": Feature(4)}, True),
    "language": ({"language": WORDS}, True),
    "four": ({"language": WORDS, "audio": Feature(5), "video": Feature(4), "m3": Feature(3)}, True),
    "absent": ({"language": WORDS, "audio": Feature(5), "video": Feature(4)}, True),
    "unaligned": ({"language": WORDS, "audio": Feature(5), "video": Feature(4)}, False),
    "images": ({"svhn": Feature(216), "mnist": Feature(144)}, False),
    "absent images": ({"svhn": Feature(216), "mnist": Feature(144)}, False),
    "image": ({"mnist": Feature(144)}, True),
}
"""kind → (modality → feature, aligned). In ``absent`` and ``absent images`` row 2 lacks the second modality and row 3 the first.
Images are one step each; only models that are told their height and width are built for them."""
ROWS, TARGETS = 7, ("sentiment", "joy")
LENGTHS = [4, 1, 6, 3, 6, 2, 5]
GARBAGE = 1e3


def of_images(kind) -> bool:
    """Whether segments have an image of each modality, and so one step."""
    return bool({"svhn", "mnist"} & set(KINDS[kind][0]))


def spec_of(kind) -> DataSpec:
    features, aligned = KINDS[kind]
    return DataSpec(features, TARGETS, (-3.0, 3.0), (0.5, -0.2), aligned, tuple(f"s{i}" for i in range(ROWS)))


def batch_of(kind, lengths=None, seed=0) -> Batch:
    rng = torch.Generator().manual_seed(seed)
    features, aligned = KINDS[kind]
    sequences = {}
    for m, (name, feature) in enumerate(features.items()):
        have = torch.tensor(lengths or (ROWS * [1] if of_images(kind) else LENGTHS))
        if not aligned and not of_images(kind):
            have = have + (2 * m * torch.arange(len(have))) % 5
        if kind.startswith("absent") and name in list(features)[:2]:
            have[2 if name == list(features)[1] else 3] = 0
        time = int(have.max())
        if feature.tokens:
            values = torch.randint(1, feature.dim, (len(have), time), generator=rng)
        else:
            values = torch.randn(len(have), time, feature.dim, generator=rng)
        mask = torch.arange(time) < have[:, None]
        values[~mask] = 0
        sequences[name] = Sequence(values, mask)
    label = torch.randn(len(have), len(TARGETS), generator=rng)
    return Batch(tuple(f"s{i}" for i in range(len(have))), sequences, label)


def padded(batch: Batch, where: str) -> Batch:
    """The same segments with three more steps of padding, full of garbage, in front, behind or between real steps."""
    rng = np.random.default_rng(0)
    sequences = {}
    for name, s in batch.sequences.items():
        rows, time = s.mask.shape
        tokens = s.values.ndim == 2
        values = torch.full((rows, time + 3, *s.values.shape[2:]), 7 if tokens else GARBAGE, dtype=s.values.dtype)
        mask = torch.zeros(rows, time + 3, dtype=torch.bool)
        for i, n in enumerate(s.lengths.tolist()):
            places = {
                "front": np.arange(time + 3 - n, time + 3),
                "back": np.arange(n),
                "inside": np.sort(rng.permutation(time + 3)[:n]),
            }[where]
            values[i, places], mask[i, places] = s.values[i][s.mask[i]], True
        sequences[name] = Sequence(values, mask)
    return Batch(batch.ids, sequences, batch.label)


def build(model, options, kind):
    torch.manual_seed(0)
    return make(OmegaConf.merge(CONFIGS[model].backbone, options), spec=spec_of(kind))


HARD = {"absent", "unaligned", "absent images"}
"""Words, lengths that differ and rows without a modality; what goes wrong on the other kinds alone, `BROAD` sees."""
Case = tuple[str, int, str]
"""Model, number of its options in `MODELS`, kind of data."""


def name_of(case: Case) -> str:
    model, number, kind = case
    return " ".join([model, *(f"{key}={value}" for key, value in MODELS[model][number].items()), kind])


@cache
def built(case: Case) -> nn.Module | None:
    """The backbone of a case, of which tests get copies; None if it refuses the kind of data."""
    model, number, kind = case
    if of_images(kind) and "images" not in CONFIGS[model].backbone:
        return None
    try:
        return build(model, MODELS[model][number], kind)
    except ValueError as refusal:
        if "needs" not in str(refusal):
            raise
        return None


def cases(broad: bool, slow: bool) -> Iterator[pytest.param]:
    """Cases of a test; without ``slow`` those are not even built that the default suite leaves out."""
    for model, variants in MODELS.items():
        for number in range(len(variants)):
            for kind in KINDS:
                default = kind in HARD or (broad and number == 0)
                case = model, number, kind
                if (default or slow) and built(case) is not None:
                    yield pytest.param(case, id=name_of(case), marks=() if default else pytest.mark.slow)


def without_dropout(module: nn.Module) -> nn.Module:
    """A module in training mode that drops nothing."""
    for part in module.modules():
        if isinstance(part, nn.Dropout):
            part.p = 0.0
        elif isinstance(part, nn.RNNBase):
            part.dropout = 0.0
    return module.train()


def attributes(backbone):
    """What every submodule holds beside parameters and buffers, by identity."""
    kept = {}
    for path, module in backbone.named_modules():
        for key, value in vars(module).items():
            if key not in ("_parameters", "_buffers"):
                kept[path, key] = (id(value), len(value) if isinstance(value, list | dict | set | tuple) else None)
    return kept
