"""How tests/oracles/mmsa_*.npz came to be: python tests/oracles/freeze_mmsa.py <MMSA 2.2.1's folder> [folder for the files] [seed].

EF-LSTM and LMF of MMSA, at small sizes: its own classes, and the optimiser and batches of its own training functions. The files
have the form that `oracles.frozen` reads: weights, inputs, outputs, gradients, and weights after 1 and 20 steps.
"""

from __future__ import annotations

import copy
import importlib.util
import json
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

WIDTHS = {"language": 6, "audio": 3, "video": 4}
BATCH, SEGMENTS = 6, 18


def import_models(package: Path) -> tuple[type[nn.Module], type[nn.Module]]:
    """EF_LSTM and LMF, without what else the package imports."""
    for name in ("mmsa", "mmsa.singleTask", "mmsa.subNets"):
        sys.modules[name] = types.ModuleType(name)
        sys.modules[name].__path__ = []
    found = {}
    for folder, name in (("subNets", "FeatureNets"), ("singleTask", "EF_LSTM"), ("singleTask", "LMF")):
        spec = importlib.util.spec_from_file_location(f"mmsa.{folder}.{name}", package / "models" / folder / f"{name}.py")
        found[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(found[name])
        sys.modules[f"mmsa.{folder}"].__dict__.update({key: found[name].__dict__[key] for key in found[name].__all__})
    return found["EF_LSTM"].EF_LSTM, found["LMF"].LMF


def drop_columns(input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    """As `oracles.contract.drop_columns`."""
    if not training or not p:
        return input
    d = input.shape[-1]
    kept = torch.rand(d, generator=torch.Generator().manual_seed(1000 * d + round(1000 * p))) >= p
    return input * kept / (1 - p)


def draw_data(lengths: dict[str, int], seed: int) -> dict[str, Any]:
    """Segments of random lengths, some beyond the file's, and labels that depend on them."""
    rng = np.random.default_rng(seed)
    same = len(set(lengths.values())) == 1
    found: dict[str, Any] = {m: [] for m in WIDTHS}
    for _ in range(SEGMENTS):
        steps = int(rng.integers(2, lengths["language"] + 3))
        for m, width in WIDTHS.items():
            count = steps if same else int(rng.integers(2, lengths[m] + 3))
            found[m].append(rng.normal(size=(count, width)).astype(np.float32))
    label = np.array([each.mean() * 6 for each in found["language"]]) + 0.3 * rng.normal(size=SEGMENTS)
    return found | {"label": label.clip(-3, 3).astype(np.float32)[:, None]}


def pad(sequences: list[np.ndarray], length: int) -> Tensor:
    """The first steps, zeros behind."""
    return torch.stack([F.pad(torch.tensor(s[:length]), (0, 0, 0, length - len(s[:length]))) for s in sequences])


def freeze(
    model: nn.Module,
    inputs: tuple[Tensor, Tensor, Tensor],
    data: dict[str, Any],
    optimizer: Callable[[nn.Module], torch.optim.Optimizer],
    said: dict[str, Any],
    path: Path,
) -> None:
    """Run the model and write the file."""
    label, rates = torch.tensor(data["label"]), {name: m.p for name, m in model.named_modules() if isinstance(m, nn.Dropout)}
    arrays: dict[str, Any] = {f"param/{name}": value.clone() for name, value in model.state_dict().items()}
    arrays["input/label"] = data["label"]
    for m in WIDTHS:
        arrays[f"input/{m}"] = np.concatenate(data[m])
        arrays[f"input/{m}_lengths"] = np.array([len(s) for s in data[m]])
    first = tuple(x[:BATCH] for x in inputs)
    model.eval()
    loss = F.l1_loss(model(*first)["M"], label[:BATCH])
    loss.backward()
    arrays |= {"out/prediction": model(*first)["M"], "loss/task": loss}
    step, start = optimizer(model), copy.deepcopy(model.state_dict())
    learns = {id(p) for group in step.param_groups for p in group["params"]}
    arrays |= {f"grad/{name}": p.grad.clone() for name, p in model.named_parameters() if id(p) in learns}
    for module in model.modules():
        if isinstance(module, nn.LSTM):
            module.dropout = 0.0  # between layers it is no call that could be replaced
    with mock.patch.object(F, "dropout", drop_columns):
        arrays["columns/out/prediction"] = copy.deepcopy(model).train()(*first)["M"]  # a copy, for BatchNorm moves its statistics
    with mock.patch.object(F, "dropout", lambda input, *rest: input):
        model.train()
        for k in range(20):
            rows = slice(k * BATCH % SEGMENTS, k * BATCH % SEGMENTS + BATCH)
            step.zero_grad()
            F.l1_loss(model(*(x[rows] for x in inputs))["M"], label[rows]).backward()
            step.step()
            if k in (0, 19):
                arrays |= {f"after{k + 1}/{name}": value.clone() for name, value in model.state_dict().items()}
    moved = {name: float((value.float() - start[name].float()).norm()) for name, value in model.state_dict().items()}
    meta = said | {
        "source": {"package": "MMSA 2.2.1"},
        "dropout": rates,
        "trajectory": {"main": {"undetermined": [], "norm_of_movement": moved}},
        "init": {},
    }
    np.savez_compressed(
        path, meta=json.dumps(meta), **{k: v.detach().numpy() if isinstance(v, Tensor) else v for k, v in arrays.items()}
    )


def main(package: str, folder: str = str(Path(__file__).parent), seed: str = "0") -> None:
    """Write both files."""
    ef_lstm, lmf = import_models(Path(package))
    torch.set_num_threads(1)
    torch.manual_seed(int(seed))
    common = {"feature_dims": tuple(WIDTHS.values()), "train_mode": "regression"}
    used = {"batch": BATCH, "order": "segments 0..n-1, a smaller last one kept"}

    sizes = {"hidden_dims": 5, "num_layers": 2, "dropout": 0.3}
    length = 7
    data = draw_data(dict.fromkeys(WIDTHS, length), int(seed))
    freeze(
        ef_lstm(types.SimpleNamespace(**common, **sizes, seq_lens=length)),
        tuple(pad(data[m], length) for m in WIDTHS),
        data,
        lambda model: torch.optim.Adam(model.parameters(), lr=0.005, weight_decay=0.005),
        {"used": used | sizes | {"lengths": length, "lr": 0.005, "weight_decay": 0.005}},
        Path(folder) / "mmsa_eflstm.npz",
    )

    sizes = {"hidden_dims": (8, 3, 5), "rank": 3, "dropouts": (0.2, 0.4, 0.3, 0.3)}
    lengths = {"language": 7, "audio": 9, "video": 5}
    data = draw_data(lengths, int(seed) + 1)
    text, *others = (pad(data[m], lengths[m]) for m in WIDTHS)
    freeze(
        lmf(types.SimpleNamespace(**common, **sizes)),
        (text, *(x.mean(1, keepdim=True) for x in others)),
        data,
        lambda model: torch.optim.Adam(
            [{"params": list(model.parameters())[:3], "lr": 0.003}, {"params": list(model.parameters())[5:], "lr": 0.002}],
            weight_decay=0.005,
        ),
        {"used": used | sizes | {"lengths": lengths, "lr": 0.002, "factor_lr": 0.003, "weight_decay": 0.005}},
        Path(folder) / "mmsa_lmf.npz",
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
