"""The systems of the LSTM line and their frozen runs: sizes, names and what the recipe's values are in a frozen run."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from oracles.contract import System
from oracles.frozen import Frozen, Names, Own
from torch import Tensor

LETTERS = {"language": "l", "audio": "a", "video": "v"}
CELL = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
BOTH = ("weight", "bias")
RUNNING = ("running_mean", "running_var", "num_batches_tracked")


def one_to_one(official: str, own: str, ends: Iterable[str] = BOTH, layer: str = "") -> dict[str, Own]:
    """Each of the parameters of a module; layer: ``_l0`` where ours is an ``nn.LSTM`` and theirs a cell."""
    return {f"{official}.{end}": Own(f"{own}.{end}{layer}") for end in ends}


def settings(prefix: str, values: dict[str, Any]) -> list[str]:
    """Overrides of some keys below one; a mapping takes the place of the whole one."""
    return [f"{prefix}.{key}={spell(value)}" for key, value in values.items()]


def spell(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ",".join(f"{key}:{spell(inner)}" for key, inner in value.items()) + "}"
    return "null" if value is None else str(value)


def by_modality(values: Iterable[Any], order: str = "lav") -> dict[str, Any]:
    """Values in the order of the official code → modality → value."""
    given = dict(zip(order, values, strict=True))
    return {m: given[letter] for m, letter in LETTERS.items()}


def last_steps(frozen: Frozen) -> list[str]:
    """The segments are stored as they came; what the authors' preparation did to features is done already."""
    return [f"data.max_steps={steps_kept(frozen)}", "data.scale=none"]


def steps_kept(frozen: Frozen) -> int:
    return int(frozen.used.get("steps_kept") or frozen.arrays["official/text"].shape[1])


# ---- MFN and EF-LSTM


def mfn_names(frozen: Frozen, start: str = "", lstms: str = "lstms.{}.cell") -> dict[str, Own]:
    """All but the head; retain and update gates share their first layer here."""
    names: dict[str, Own] = {}
    for m, letter in LETTERS.items():
        names |= one_to_one(f"{start}lstm_{letter}", lstms.format(m), CELL)
    for official, own in (("att1", "attention"), ("att2", "proposal")):
        names |= one_to_one(f"{start}{official}_fc1", f"memory.{own}.0") | one_to_one(f"{start}{official}_fc2", f"memory.{own}.3")
    retain = frozen.used["sizes"]["retain"]
    for official, own, rows in (("gamma1", "retain", slice(None, retain)), ("gamma2", "update", slice(retain, None))):
        names |= {f"{start}{official}_fc1.{end}": Own(f"memory.first.{end}", rows) for end in BOTH}
        names |= one_to_one(f"{start}{official}_fc2", f"memory.{own}.2")
    return names


def mfn_sizes(frozen: Frozen) -> dict[str, Any]:
    sizes = frozen.used["sizes"]
    rates = sizes["dropout (attention, proposal, retain, update, head)"]
    networks = ("attention", "proposal", "retain", "update")
    values = {"hidden": by_modality(sizes["hidden (l, a, v)"]), "memory": sizes["memory"]}
    return values | {n: sizes[n] for n in networks} | {f"{n}_dropout": rate for n, rate in zip(networks, rates, strict=False)}


def mfn_overrides(frozen: Frozen) -> list[str]:
    sizes = frozen.used["sizes"]
    head = {"head": sizes["head"], "head_dropout": sizes["dropout (attention, proposal, retain, update, head)"][4]}
    values = settings("model.backbone", mfn_sizes(frozen) | head)
    return [*values, f"model.optimizer.lr={frozen.used['lr']}", "trainer.max_epochs=5", *last_steps(frozen)]


MFN = System(
    "mosi/mfn",
    mfn_overrides,
    lambda frozen: mfn_names(frozen) | one_to_one("out_fc1", "head.0") | one_to_one("out_fc2", "head.3"),
)

EF_LSTM = System(
    "mosi/eflstm",
    lambda frozen: [
        *settings("model.backbone", {"hidden": frozen.used["sizes"]["hidden"], "dropout": frozen.dropout["dropout"]}),
        *(f"model.optimizer.lr={frozen.used['lr']}", "trainer.max_epochs=5", *last_steps(frozen)),
    ],
    lambda frozen: one_to_one("lstm", "lstms.all", CELL, "_l0") | one_to_one("fc1", "head.0") | one_to_one("fc2", "head.3"),
)


# ---- MFM


def mfm_names(frozen: Frozen) -> dict[str, Own]:
    variant = frozen.meta["system"]
    names: dict[str, Own] = {}
    if "last_to_zy_fc1.weight" in frozen.parameters:
        names |= mfn_names(frozen, "mfn_encoder.") | one_to_one("last_to_zy_fc1", "code")
        names |= one_to_one("zy_to_fy_fc1", "factors.y.0") | one_to_one("zy_to_fy_fc2", "factors.y.3")
    for m, letter in LETTERS.items():
        own = "all" if variant == "mfm_a" else m
        if f"encoder_{letter}.fc1.weight" in frozen.parameters:
            names |= one_to_one(f"encoder_{letter}.lstm", f"encoders.{own}.lstm", CELL, "_l0")
            names |= one_to_one(f"encoder_{letter}.fc1", f"encoders.{own}.project")
            names |= one_to_one(f"z{letter}_to_f{letter}_fc1", f"factors.{own}.0")
            names |= one_to_one(f"z{letter}_to_f{letter}_fc2", f"factors.{own}.3")
        if f"decoder_{letter}.fc1.weight" in frozen.parameters:
            names |= one_to_one(f"decoder_{letter}.lstm", f"decoders.{m}.lstm", CELL, "_l0")
            names |= one_to_one(f"decoder_{letter}.fc1", f"decoders.{m}.output")
    if variant == "mfm_d":
        return names | one_to_one("fs_to_y", "head")
    return names | one_to_one("fy_to_y_fc1", "head.0") | one_to_one("fy_to_y_fc2", "head.3")


def mfm_overrides(frozen: Frozen) -> list[str]:
    codes, used, dropout = frozen.used["codes"], frozen.used, frozen.dropout
    variant = frozen.meta["system"].replace("mfm_", "M_").replace("_a", "_A").replace("_b", "_B")
    variant = variant.replace("_c", "_C").replace("_d", "_D")
    z = {m: codes[m] for m in LETTERS} | ({"language": codes["all"]} if variant == "M_A" else {})
    rates = {m: dropout.get(f"z{letter}_to_f{letter}_dropout", 0.0) for m, letter in LETTERS.items()}
    values = mfn_sizes(frozen) | {
        "variant": variant,
        "z_y": codes["y"],
        "f_y": codes["f_y"],
        "z_m": z,
        "f_m": {m: codes[f"f_{letter}"] for m, letter in LETTERS.items()},
        "y_dropout": dropout.get("zy_to_fy_dropout", 0.0),
        "m_dropout": rates,
        "head_dropout": dropout.get("fy_to_y_dropout", 0.0),
        "reconstruction_weight": by_modality(used["lambda"]),
        "prior_weight": used["lambda_mmd"],
    }
    return [
        *settings("model.backbone", values),
        *(f"model.optimizer.lr={used['lr']}", "trainer.max_epochs=5", *last_steps(frozen)),
    ]


UNREAD = tuple(f"mfn_encoder.out_fc{i}.{end}" for i in (1, 2) for end in BOTH)
"""A head of MFN that MFM's code has and that nothing reads."""

MFM = System("mosi/mfm", mfm_overrides, mfm_names, constants=UNREAD)


# ---- TFN and LMF


def pooled_names(encoders: str = "encoders") -> dict[str, Own]:
    """The networks of the modalities, which TFN and LMF share."""
    names: dict[str, Own] = {}
    for m in ("audio", "video"):
        names |= one_to_one(f"{m}_subnet.norm", f"{encoders}.{m}.norm", (*BOTH, *RUNNING))
        for i in (1, 2, 3):
            names |= one_to_one(f"{m}_subnet.linear_{i}", f"{encoders}.{m}.project.{2 * i - 1}")
    names |= {f"text_subnet.rnn.{end}_l0": Own(f"{encoders}.language.lstm.{end}_l0") for end in CELL}
    return names | one_to_one("text_subnet.linear_1", f"{encoders}.language.project.1")


def pooled_sizes(frozen: Frozen) -> dict[str, Any]:
    audio, video, language = frozen.used["hidden (a, v, text LSTM)"]
    dropout = {m: frozen.dropout[f"{m}_subnet.drop"] for m in ("audio", "video")}
    return {"hidden": {"audio": audio, "video": video}, "language_hidden": language, "dropout": dropout}


def tensor_order(frozen: Frozen) -> Tensor:
    """Our coordinate (language slowest, then audio, video) at each place of the official tensor (audio, video, language)."""
    audio, video, _ = frozen.used["hidden (a, v, text LSTM)"]
    a, v, t = audio + 1, video + 1, frozen.used["text_out"] + 1
    return torch.arange(t * a * v).view(t, a, v).permute(1, 2, 0).reshape(-1)


def tfn_names(frozen: Frozen) -> Names:
    first = {
        "post_fusion_layer_1.weight": Own("after.1.weight", (slice(None), tensor_order(frozen))),
        "post_fusion_layer_1.bias": Own("after.1.bias"),
    }
    last = one_to_one("post_fusion_layer_2", "after.3") | one_to_one("post_fusion_layer_3", "head.linear")
    return pooled_names() | first | last


def tfn_overrides(frozen: Frozen) -> list[str]:
    values = pooled_sizes(frozen) | {
        "language_dropout": frozen.dropout["text_subnet.dropout"],
        "language_out": frozen.used["text_out"],
        "z_dim": frozen.used["post_fusion"],
        "tensor_dropout": frozen.dropout["post_fusion_dropout"],
    }
    rate = f"model.optimizer.lr={frozen.used['rates']['all']}"
    return [*settings("model.backbone", values), rate, "trainer.max_epochs=4", *last_steps(frozen)]


TFN = System("mosi/tfn", tfn_overrides, tfn_names, order=tensor_order, constants=("output_range", "output_shift"))


def lmf_overrides(frozen: Frozen) -> list[str]:
    rates, sizes = frozen.used["rates"], pooled_sizes(frozen)
    sizes["dropout"] |= {"language": frozen.dropout["text_subnet.dropout"]}
    return [
        *settings("model.backbone", sizes | {"rank": frozen.used["rank"]}),
        *settings("model.optimizer", {"lr": rates["rest"], "weight_decay": rates["weight_decay"]}),
        *(f"model.groups.factors.lr={rates['factors']}", "trainer.max_epochs=4", *last_steps(frozen)),
    ]


def lmf_names(frozen: Frozen) -> Names:
    factors = {f"{m}_factor": Own(f"factors.{'language' if m == 'text' else m}") for m in ("audio", "video", "text")}
    return pooled_names() | factors | {"fusion_weights": Own("rank_weights"), "fusion_bias": Own("bias", None)}


LMF = System("mosi/lmf", lmf_overrides, lmf_names)

# ---- MMSA's


PADDED = ("data.text=vectors", "data.padding=official", "data.keep=first")
"""What the files of ``tuned=mmsa/…`` name under ``departs``, since it computes three times as many steps as there are."""

MMSA_EF_LSTM = System(
    "mosi/eflstm",
    lambda frozen: [
        *settings(
            "model.backbone",
            {"hidden": frozen.used["hidden_dims"], "num_layers": frozen.used["num_layers"]}
            | dict.fromkeys(("dropout", "z_dropout"), frozen.used["dropout"]),
        ),
        *settings("model.optimizer", {key: frozen.used[key] for key in ("lr", "weight_decay")}),
        *PADDED,
        *(f"data.max_steps={frozen.used['lengths']}", "model.backbone.norm=positions", "trainer.max_epochs=7"),
    ],
    lambda frozen: (
        one_to_one("norm", "norm", (*BOTH, *RUNNING))
        | one_to_one("lstm", "lstms.all", (f"{end}_l{i}" for end in CELL for i in range(frozen.used["num_layers"])))
        | one_to_one("linear", "head.0")
        | one_to_one("out", "head.3")
    ),
    source="mmsa",
)

MMSA_LMF = System(
    "mosi/lmf",
    lambda frozen: [
        *settings(
            "model.backbone",
            {
                **{"z_dim": 1, "init": "official", "head": "none", "rank": frozen.used["rank"]},
                "language_hidden": frozen.used["hidden_dims"][0],
                "hidden": dict(zip(("audio", "video"), frozen.used["hidden_dims"][1:], strict=True)),
                "dropout": dict(zip(("audio", "video"), frozen.used["dropouts"][:2], strict=True)) | {"language": 0.0},
            },
        ),
        *settings("model.optimizer", {key: frozen.used[key] for key in ("lr", "weight_decay")}),
        *PADDED,
        *(f"model.groups.factors.lr={frozen.used['factor_lr']}", f"data.max_steps={spell(frozen.used['lengths'])}"),
        *("~model.backbone.dropout.head", "trainer.max_epochs=7"),
    ],
    lmf_names,
    source="mmsa",
)
"""Its head departs from the file's: a fused vector of one number is the prediction."""

SYSTEMS = {"mfn": MFN, "eflstm": EF_LSTM, "tfn": TFN, "lmf": LMF} | dict.fromkeys(("mfm", "mfm_a", "mfm_b", "mfm_c", "mfm_d"), MFM)
OF_MMSA = {"mmsa_eflstm": MMSA_EF_LSTM, "mmsa_lmf": MMSA_LMF}
